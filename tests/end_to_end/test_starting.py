"""What is said when a process is started as it cannot work, or a command is not there."""

from __future__ import annotations

import socket

import pytest

from jobplatform.cli.database import mention_migrations
from jobplatform.embedded import EmbeddedServer
from tests.end_to_end.conftest import Cli


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["enqueu"], "there is no command 'enqueu'; did you mean enqueue"),
        (["xyzzy"], "there is no command 'xyzzy'\n"),
        (["jobs", "show", "nonsense"], "'nonsense' is not a valid UUID"),
    ],
)
def test_who_mistypes_something_is_told_what_it_may_have_been(run: Cli, command: list[str], said: str) -> None:
    done = run(*command)

    assert done.exit_code == 2
    assert said in done.stderr


def test_an_address_that_is_taken_is_told_at_once_with_what_to_say_instead(run: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("api", "--host", "127.0.0.1", "--port", str(port))

    assert done.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "JOBPLATFORM_PORT" in done.stderr


def test_a_database_without_our_schema_is_mentioned_with_the_command_that_makes_it(
    server: EmbeddedServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    mention_migrations(database_url)
    mention_migrations("postgresql://nobody@127.0.0.1:1/nowhere")
    assert caplog.messages == []

    mention_migrations(server.url("postgres"))

    assert caplog.messages == ["the schema is not of this version"]
    assert "run `jobplatform migrate`" in vars(caplog.records[0])["error"]
