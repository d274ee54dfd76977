"""The commands that serve look at their database login first. (``test_up.py`` sees that each part has its own.)"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import make_url

from jobplatform.embedded import EmbeddedServer
from jobplatform.models import Role
from tests.end_to_end.conftest import COMMAND, Cli


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_login_that_is_no_member_ends_the_command_with_what_to_grant(
    login_url: Callable[..., str], command: str
) -> None:
    environment = {**os.environ, "DATABASE_URL": login_url(Role.HANDLER), "JOBPLATFORM_PORT": "0", "COLUMNS": "200"}

    done = subprocess.run([*COMMAND, command], env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2, done.stderr
    assert f'grant jobplatform_{command} to "only_handler"' in done.stderr


@pytest.mark.direct("PgBouncer's own refusals have other codes")
@pytest.mark.parametrize("command", ["api", "worker", "up"])
@pytest.mark.parametrize(
    ("login", "database", "said"),
    [
        ("nobody", "postgres", 'refuses the login that the database\'s URL names (role "nobody" does not exist)'),
        ("postgres", "nowhere", 'has not the database that the database\'s URL names (database "nowhere" does not'),
    ],
)
def test_what_the_server_refuses_ends_the_start_of_a_command(
    server: EmbeddedServer, command: str, login: str, database: str, said: str
) -> None:
    address = make_url(server.url(database)).set(username=login, password="not-to-be-told")
    environment = {**os.environ, "DATABASE_URL": address.render_as_string(hide_password=False), "COLUMNS": "200"}

    done = subprocess.run([*COMMAND, command], env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "not-to-be-told" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("role", "arguments"),
    [
        (Role.API, ["workspaces", "create", "acme"]),
        (Role.API, ["jobs", "ls"]),
        (Role.API, ["healthcheck"]),
        (Role.WORKER, ["healthcheck"]),
    ],
)
def test_commands_do_with_the_login_of_a_process(
    run: Cli, login_url: Callable[..., str], role: Role, arguments: list[str]
) -> None:
    done = run(*arguments, DATABASE_URL=login_url(role))

    assert done.exit_code == 0, done.stderr


def test_a_worker_s_login_is_no_operator_s(run: Cli, login_url: Callable[..., str]) -> None:
    done = run("tokens", "ls", DATABASE_URL=login_url(Role.WORKER))

    assert done.exit_code == 2
    assert 'connect with a login that may, or grant jobplatform_operator to "only_worker"' in done.stderr
