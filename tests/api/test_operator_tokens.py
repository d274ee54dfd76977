"""Tokens over HTTP: the secret is shown once, to the operator who made it."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import ApiToken
from tests.api.conftest import PROBLEM, Client, MintToken

TOKENS = "/operator/tokens"


@pytest.fixture
def acme(operator: Client) -> str:
    return str(operator.post("/operator/workspaces", json={"name": "Acme"}).get_json()["id"])


@pytest.fixture
def create(operator: Client, acme: str) -> Callable[..., Any]:
    def create(**options: Any) -> Any:
        body = {"workspaceId": acme, "name": "ci", "scopes": ["jobs:read"], **options}
        answer = operator.post(TOKENS, json=body)
        assert answer.status_code == 201, answer.text
        return answer.get_json()

    return create


def works(app: Flask, token: str, workspace_id: str) -> bool:
    return Client(app.test_client(), token).get(f"/workspaces/{workspace_id}/jobs").status_code == 200


def test_a_created_token_works_until_it_is_revoked(
    app: Flask, operator: Client, acme: str, create: Callable[..., Any]
) -> None:
    made = create()

    assert (made["workspaceId"], made["name"], made["scopes"]) == (acme, "ci", ["jobs:read"])
    assert works(app, made["token"], acme)
    assert operator.request("DELETE", f"{TOKENS}/{made['id']}").status_code == 204
    assert not works(app, made["token"], acme)
    assert operator.request("DELETE", f"{TOKENS}/{made['id']}").status_code == 404


def test_the_secret_is_in_no_other_answer(operator: Client, create: Callable[..., Any]) -> None:
    made = create()

    listed = operator.get(TOKENS).text

    assert made["id"] in listed
    assert made["token"].split("_")[2] not in listed
    assert "token" not in operator.get(TOKENS).get_json()["items"][0]


def test_what_is_signed_with_is_in_no_answer_no_line_of_the_audit_log_and_no_line_of_the_log(
    app: Flask,
    operator: Client,
    acme: str,
    create: Callable[..., Any],
    sessions: sessionmaker[Session],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    made = create(scopes=["jobs:read", "jobs:write"])
    rotated = operator.post(f"{TOKENS}/{made['id']}/rotate")
    holder = Client(app.test_client(), rotated.get_json()["token"])
    job = holder.post(f"/workspaces/{acme}/jobs", json={"jobType": "echo"}).get_json()["jobId"]
    for_one_job = holder.post(f"/workspaces/{acme}/jobs/{job}/token")
    listed, told = operator.get(TOKENS), operator.get("/operator/audit")

    with sessions() as session:
        keys = list(session.scalars(select(ApiToken.signing_key)))
        audited = session.scalars(text("select a::text from jobplatform.audit_log a")).all()
    said = [str(made), rotated.text, for_one_job.text, listed.text, told.text, caplog.text, *audited]
    said += [str(vars(record)) for record in caplog.records]
    shown = [form for key in keys for form in (key.hex(), base64.b64encode(key).decode(), repr(key)[2:-1])]
    assert (for_one_job.status_code, told.status_code, len(keys)) == (201, 200, 3)
    assert "job.token" in "".join(audited)
    assert [form for form in shown if any(form in text for text in said)] == []


def test_a_rotated_token_gives_way_to_one_like_it(
    app: Flask, operator: Client, acme: str, create: Callable[..., Any]
) -> None:
    old = create(expiresAt="2099-01-01T00:00:00Z")

    answer = operator.post(f"{TOKENS}/{old['id']}/rotate")

    assert answer.status_code == 201, answer.text
    new = answer.get_json()
    assert new["id"] != old["id"]
    assert [new[name] for name in ("workspaceId", "name", "scopes", "expiresAt")] == [
        old[name] for name in ("workspaceId", "name", "scopes", "expiresAt")
    ]
    assert works(app, new["token"], acme)
    assert not works(app, old["token"], acme)
    assert operator.post(f"{TOKENS}/{old['id']}/rotate").status_code == 404


def test_pages_of_tokens_follow_each_other_newest_first(
    operator: Client, acme: str, create: Callable[..., Any], mint: MintToken
) -> None:
    made = [create(name=f"t{number}")["id"] for number in range(5)]
    mint(uuid.uuid4())

    seen, url = [], f"{TOKENS}?workspaceId={acme}&limit=2"
    while url:
        answer = operator.get(url)
        seen += [item["id"] for item in answer.get_json()["items"]]
        url = answer.headers.get("Link", "").removeprefix("<").partition(">")[0]

    assert seen == made[::-1]


def test_a_cursor_that_names_no_token_begins_nowhere(operator: Client) -> None:
    assert operator.get(f"{TOKENS}?cursor=_____________________w").get_json() == {"items": [], "nextCursor": None}


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({}, ["/name", "/scopes"]),
        ({"name": "ci", "scopes": []}, ["/scopes"]),
        ({"name": "ci", "scopes": ["everything"]}, ["/scopes/0"]),
        ({"name": "ci", "scopes": ["jobs:read"]}, ["/workspaceId"]),
        ({"name": "ci", "scopes": ["operator"], "workspaceId": str(uuid.uuid4())}, ["/workspaceId"]),
        ({"name": "ci", "scopes": ["jobs:read"], "workspaceId": str(uuid.uuid4())}, ["/workspaceId"]),
        ({"name": "ci", "scopes": ["operator"], "expiresAt": "2001-01-01T00:00:00Z"}, ["/expiresAt"]),
        ({"name": "", "scopes": ["operator"]}, ["/name"]),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(operator: Client, body: dict[str, Any], at: list[str]) -> None:
    before = operator.get(TOKENS).get_json()["items"]

    answer = operator.post(TOKENS, json=body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert sorted(error["path"] for error in answer.get_json()["errors"]) == at
    assert len(operator.get(TOKENS).get_json()["items"]) == len(before)


def test_a_token_nobody_has_is_not_found(operator: Client) -> None:
    assert operator.request("DELETE", f"{TOKENS}/nothing").status_code == 404
