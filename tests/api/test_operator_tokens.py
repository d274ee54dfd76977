"""Tokens over HTTP: the secret is shown once, to the operator who made it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

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
