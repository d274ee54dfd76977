"""What is said when a process is started as it cannot work, or a command is not there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jobplatform.cli import main
from jobplatform.cli.database import mention_migrations
from jobplatform.cli.serving.listening import listen
from jobplatform.embedded import EmbeddedServer
from jobplatform.settings import Settings
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


def options_of(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Option]]:
    context = click.Context(command)
    yield from ((path, option) for option in command.params if isinstance(option, click.Option))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options_of(below, f"{path} {name}")


def test_every_option_of_every_command_says_what_it_is_for() -> None:
    silent = [(path, option.opts) for path, option in options_of(main) if not (option.help or option.hidden)]

    assert silent == []


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        yield somebody.getsockname()[1]


@pytest.mark.parametrize("command", ["api", "up", "demo"])
def test_an_address_that_is_taken_is_told_at_once_with_what_to_say_instead(
    run: Cli, taken: int, command: str, data_dir: Path
) -> None:
    done = run(command, "--host", "127.0.0.1", "--port", str(taken))

    assert done.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{taken}: Address already in use (`lsof -nP -iTCP:{taken} " in done.stderr
    assert "JOBPLATFORM_PORT" in done.stderr
    assert list(data_dir.iterdir()) == [], "nothing was started for it"


def test_a_port_of_the_environment_is_not_changed_for_another_either(run: Cli, taken: int) -> None:
    done = run("up", JOBPLATFORM_PORT=str(taken))

    assert done.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{taken}: Address already in use" in done.stderr


def test_the_usual_port_that_is_taken_is_changed_for_another_which_is_said(
    taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOBPLATFORM_PORT", raising=False)

    with listen(Settings(port=taken)) as listening:
        other = listening.getsockname()[1]

    assert other != taken
    assert f"port {taken} is taken" in (said := capsys.readouterr().out)
    assert f"so the API gets port {other}; choose one with --port" in said


def test_an_address_that_is_none_of_this_machine_is_no_reason_for_another_port(run: Cli) -> None:
    done = run("up", "--host", "203.0.113.1")

    assert done.exit_code == 1
    assert "cannot listen on 203.0.113.1:0: " in done.stderr


def test_a_database_without_our_schema_is_mentioned_with_the_command_that_makes_it(
    server: EmbeddedServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    mention_migrations(database_url)
    mention_migrations("postgresql://nobody@127.0.0.1:1/nowhere")
    assert caplog.messages == []

    mention_migrations(server.url("postgres"))

    assert caplog.messages == ["the schema is not of this version"]
    assert "run `jobplatform migrate`" in vars(caplog.records[0])["error"]
