"""What becomes of an API when the terminal that it was started in is closed, and of one that never had any."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from jobplatform.testing import wait_until
from tests.end_to_end.conftest import COMMAND


class Api:
    """`jobplatform api` in a session of its own, with or without a terminal."""

    def __init__(self, environment: dict[str, str], log: Path, *, terminal: bool, nohup: bool = False) -> None:
        self.terminal, inside = os.openpty()
        session = ["setsid", "--ctty"] if terminal else ["setsid"]
        command = [*session, *(["nohup"] if nohup else []), *COMMAND, "api", "--port", "0", "--workers", "1"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdin=inside, stdout=output, stderr=output)
        os.close(inside)
        wait_until(lambda: "Listening at" in log.read_text(), what="the API to listen", seconds=60)
        (self.url,) = {word for word in log.read_text().replace('"', " ").split() if word.startswith("http://127")}
        self.wait_until_it_serves()

    def wait_until_it_serves(self) -> None:
        wait_until(lambda: httpx.get(f"{self.url}/readyz", timeout=60).status_code == 200, what="the API to be ready")

    def serving(self) -> list[int]:
        """The processes that serve requests."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]


@pytest.fixture
def apis() -> Iterator[list[Api]]:
    apis: list[Api] = []
    yield apis
    for api in apis:
        api.process.terminate()
        api.process.wait(60)


@pytest.fixture
def api_environment(database_url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "JOBPLATFORM_TRUST_LOGIN": "true"}


def test_an_api_ends_with_the_terminal_that_it_was_started_in(
    api_environment: dict[str, str], tmp_path: Path, apis: list[Api]
) -> None:
    apis.append(api := Api(api_environment, tmp_path / "log", terminal=True))

    os.close(api.terminal)

    assert api.process.wait(60) == 0


def test_a_terminal_that_tells_every_process_cuts_off_nobody(
    api_environment: dict[str, str], tmp_path: Path, apis: list[Api]
) -> None:
    """The parent decides when its processes end."""
    apis.append(api := Api(api_environment, tmp_path / "log", terminal=True))
    serving = api.serving()

    os.kill(serving[0], signal.SIGHUP)

    api.wait_until_it_serves()
    assert api.serving() == serving


@pytest.mark.thorough
def test_an_api_under_nohup_survives_the_end_of_its_terminal(
    api_environment: dict[str, str], tmp_path: Path, apis: list[Api]
) -> None:
    apis.append(api := Api(api_environment, tmp_path / "log", terminal=True, nohup=True))
    serving = api.serving()

    os.close(api.terminal)

    api.wait_until_it_serves()
    assert api.serving() == serving


@pytest.mark.thorough
def test_to_an_api_without_a_terminal_sighup_means_what_it_means_to_gunicorn(
    api_environment: dict[str, str], tmp_path: Path, apis: list[Api]
) -> None:
    apis.append(api := Api(api_environment, tmp_path / "log", terminal=False))
    (before,) = api.serving()

    api.process.send_signal(signal.SIGHUP)

    wait_until(lambda: before not in api.serving(), what="another process to serve", seconds=60)
    api.wait_until_it_serves()
