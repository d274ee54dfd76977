from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from jobplatform.cli.root import COMMANDS, main
from jobplatform.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "compose.yaml", ROOT / "Dockerfile", *sorted((ROOT / "deploy").iterdir())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_deploy_files_name_only_settings_that_exist(path: Path) -> None:
    known = {f"JOBPLATFORM_{name.upper()}" for name in Settings.__dataclass_fields__}

    assert set(re.findall(r"JOBPLATFORM_[A-Z_]+", path.read_text())) <= known


@pytest.mark.parametrize("name", ["compose.yaml", "deploy/kubernetes.yaml", "deploy/jobplatform-worker.service"])
def test_a_stop_waits_longer_than_the_drain_timeout(name: str) -> None:
    text = (ROOT / name).read_text()
    patience = re.search(r"(?:stop_grace_period: |terminationGracePeriodSeconds: |TimeoutStopSec=)(\d+)", text)

    assert patience is not None
    assert int(patience[1]) > Settings().drain_timeout + 2 * Settings().kill_grace_seconds


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_help_exists_and_explains_itself(name: str) -> None:
    command = main.get_command(click.Context(main), name)

    assert command is not None
    assert command.help


def test_what_workers_write_the_api_sees() -> None:
    """The same folder in both, wherever a folder is what exports go to."""
    for name in ("compose.yaml", "deploy/kubernetes.yaml"):
        text = (ROOT / name).read_text()
        assert len(re.findall(r"JOBPLATFORM_EXPORTS(?:: |, value: )/exports\b", text)) == 2, name
    for name in ("api", "worker"):
        unit = (ROOT / "deploy" / f"jobplatform-{name}.service").read_text()
        assert "StateDirectory=jobplatform\n" in unit
        assert "Environment=JOBPLATFORM_EXPORTS=/var/lib/jobplatform\n" in unit
