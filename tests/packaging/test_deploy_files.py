from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from jobplatform.cli.root import COMMANDS, main
from jobplatform.key_ring import VARIABLE, generate_key
from jobplatform.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "compose.yaml", ROOT / "Dockerfile", *sorted((ROOT / "deploy").iterdir())]
#: Extras that the image is without: a database of its own, tests, and an API that does nothing without an exporter.
NOT_IN_THE_IMAGE = {"embedded", "testing", "dev", "otel", "reload"}


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


def test_the_image_has_every_extra_that_a_setting_can_ask_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = re.search(r"pip install .*'\.\[([\w,]+)\]'", (ROOT / "Dockerfile").read_text())

    assert installed is not None
    assert set(installed[1].split(",")) == set(extras) - NOT_IN_THE_IMAGE


def test_api_and_workers_get_the_keys_that_seal_secrets() -> None:
    services = re.split(r"^  (?=\w+:$)", (ROOT / "compose.yaml").read_text(), flags=re.MULTILINE)
    deployments = (ROOT / "deploy" / "kubernetes.yaml").read_text().split("\n---\n")
    for name in ("api", "worker"):
        (service,) = [text for text in services if f"    command: {name}\n" in text]
        assert f"      {VARIABLE}: ${{{VARIABLE}:?" in service
        (deployment,) = [text for text in deployments if f"args: [{name}]" in text]
        assert "            - secretRef: {name: jobplatform-keys}\n" in deployment
        unit = (ROOT / "deploy" / f"jobplatform-{name}.service").read_text()
        assert "\nEnvironmentFile=/etc/jobplatform/keys\n" in unit
    assert f"generic jobplatform-keys --from-literal={VARIABLE}=...\n" in deployments[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_deploy_file_has_a_key(path: Path) -> None:
    form = re.compile(r"[\w.-]+:[A-Za-z0-9+/]{43}=")
    assert form.fullmatch(generate_key("2026"))

    assert not form.search(path.read_text())


def test_what_an_operator_writes_beside_compose_reaches_api_and_workers() -> None:
    compose = (ROOT / "compose.yaml").read_text()

    assert re.findall(r"    env_file: (.*)\n", compose) == ["&settings", "*settings"]
    assert "env_file: &settings\n      - path: .env\n" in compose
    assert ".env\n" in (ROOT / ".gitignore").read_text()
