"""Connections as somebody makes them on the command line."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.crm_sync.fake_hubspot import FakeHubSpot
from jobplatform.key_ring import FILE, VARIABLE, adopt_ring_beside, generate_key, ring_beside
from jobplatform.models import AuditEntry, Connection, ConnectionCredentials
from tests.end_to_end.conftest import Cli, as_json

SECRET = "canary-of-a-secret-7f3a"


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, generate_key("a"))
    monkeypatch.setenv("JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES", "true")


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        server.put("contacts", firstname="Ada")
        yield server


def test_a_connection_is_made_tried_given_new_credentials_and_deleted(
    cli: Cli, acme: uuid.UUID, hubspot: FakeHubSpot, tmp_path: Path, session: Session
) -> None:
    config = tmp_path / "crm.json"
    config.write_text(json.dumps({"baseUrl": hubspot.url}))
    wrong = json.dumps({"scheme": "bearer", "token": SECRET})

    made = cli("connections", "create", "hubspot", "-w", "Acme", "-c", f"@{config}", "--credentials", "-", typed=wrong)
    assert made.exit_code == 0, made.output
    assert "credentials of scheme bearer are sealed" in made.output

    tried = cli("connections", "test", "hubspot", "-w", "Acme")
    assert tried.exit_code == 1
    assert "does not accept" in tried.output
    assert "does not accept" in cli("connections", "ls", "-w", "Acme").output

    good = json.dumps({"scheme": "bearer", "token": "access-token-0"})
    assert cli("connections", "update", "hubspot", "-w", "Acme", "--credentials", "-", typed=good).exit_code == 0
    found = as_json(cli("connections", "test", "hubspot", "-w", "Acme", "--json"))
    assert (found["ok"], found["records"], found["stream"]) == (True, 1, "contacts")

    shown = cli("connections", "show", "hubspot", "-w", "Acme")
    everything = made.output + tried.output + shown.output
    assert SECRET not in everything
    assert "access-token-0" not in everything

    assert cli("connections", "update", "hubspot", "-w", "Acme", "--no-credentials").exit_code == 0
    listed = cli("connections", "ls", "-w", "Acme")
    assert "the connection has no credentials; give it some (bearer, oauth2)" in listed.output
    assert "ready" not in listed.output

    assert cli("connections", "delete", "hubspot", "-w", "Acme", typed="y").exit_code == 0
    actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert [one for one in actions if one.startswith("connection")] == [
        "connection.create", "connection.test", "connection.change", "connection.test", "connection.change",
        "connection.delete",
    ]  # fmt: skip


def test_mistakes_are_told_with_their_places_and_without_the_secret(cli: Cli, acme: uuid.UUID) -> None:
    wrong = json.dumps({"scheme": "bearer", "value": SECRET})
    answer = cli("connections", "create", "hubspot", "-w", "Acme", "-c", "{}", "--credentials", "-", typed=wrong)

    assert answer.exit_code == 1
    assert "/credentials/token" in answer.output
    assert SECRET not in answer.output
    assert cli("connections", "create", "hubspot", "-w", "Acme", "--credentials", "-", typed=SECRET).exit_code == 2


def test_secrets_in_older_configurations_are_moved(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    def add(name: str, **headers: str) -> None:
        streams = {"contacts": {"path": "/contacts"}}
        config = {"baseUrl": "https://crm.example.com", "streams": streams, "headers": headers}
        session.add(
            Connection(workspace_id=acme, id=uuid.uuid4(), connector_type="http_json", name=name, config=config)
        )

    add("open", Accept="text/json")
    add("secret", Authorization=f"Bearer {SECRET}", Accept="text/json")
    add("both", Authorization=f"Bearer {SECRET}", Cookie="a=b")
    session.commit()

    answer = cli("connections", "seal-headers", "-w", "Acme")

    assert "moved the secrets of 1 connection: secret" in answer.output
    assert "both: more than one secret header" in answer.output
    assert answer.exit_code == 1
    session.rollback()
    moved = session.scalars(select(Connection).where(Connection.name == "secret")).one()
    assert moved.config["headers"] == {"Accept": "text/json"}
    assert session.scalars(select(ConnectionCredentials.scheme)).all() == ["bearer"]


def test_the_embedded_database_has_a_key_ring_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)

    with ring_beside(tmp_path):
        first = os.environ[VARIABLE]
    assert VARIABLE not in os.environ
    with ring_beside(tmp_path):
        assert os.environ[VARIABLE] == first
    assert first.startswith("local:")
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_key_ring_of_the_environment_is_left_as_it_is(tmp_path: Path) -> None:
    before = os.environ[VARIABLE]

    assert not adopt_ring_beside(tmp_path)

    assert os.environ[VARIABLE] == before
    assert list(tmp_path.iterdir()) == []
