"""Bearer tokens: minted once, kept as a hash, noted when used, ended at once."""

from __future__ import annotations

import datetime
import hashlib
import uuid

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token, presented_id, revoke_token, rotate_token, verify_token
from jobplatform.api.access.tokens import list_tokens
from jobplatform.models import ApiToken, Role, confine
from tests.api.conftest import MintToken


def test_a_token_s_owner_and_scopes_are_known_again(session: Session, workspace_id: uuid.UUID) -> None:
    token = mint_token(session, workspace_id, ["jobs:write", "jobs:read"], "the deploy script")

    principal = verify_token(session, token)

    assert principal is not None
    assert (principal.name, principal.workspace_id) == ("the deploy script", workspace_id)
    assert principal.scopes == {"jobs:read", "jobs:write"}
    assert not principal.is_operator


def test_an_operator_s_token_has_no_workspace(session: Session) -> None:
    principal = verify_token(session, mint_token(session, None, ["operator"], "night shift"))

    assert principal is not None
    assert principal.is_operator


def test_the_database_does_not_hold_the_secret(session: Session, workspace_id: uuid.UUID) -> None:
    token = mint_token(session, workspace_id, ["jobs:read"], "a test")

    (row,) = session.execute(text("select t::text from jobplatform.api_tokens t")).scalars()

    assert token.split("_")[2] not in row


def test_each_token_has_a_signing_key_that_nobody_is_told(session: Session, workspace_id: uuid.UUID) -> None:
    tokens = [mint_token(session, workspace_id, ["jobs:read"], "a test") for _ in range(3)]
    tokens.append(rotate_token(session, presented_id(tokens[0])) or "")

    rows = session.scalars(select(ApiToken)).all()
    keys = set(session.scalars(select(ApiToken.signing_key)))

    assert [len(key) for key in keys] == [32] * 4
    assert not [row for row in rows if "signing_key" in vars(row)]
    with pytest.raises(InvalidRequestError, match="signing_key"):
        _ = rows[0].signing_key
    for token in tokens:
        secret = token.split("_")[2]
        assert keys.isdisjoint({bytes.fromhex(secret), hashlib.sha256(secret.encode()).digest()})


def test_whoever_makes_a_token_is_not_told_its_key_by_the_database(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    """An operator's role may not read it, and no statement but those that sign and check does."""
    asked: list[str] = []
    event.listen(sessions.kw["bind"], "before_cursor_execute", lambda _c, _cur, statement, *_: asked.append(statement))

    with confine(sessions(), Role.OPERATOR) as session, session.begin():
        token = mint_token(session, workspace_id, ["jobs:read"], "a test")
        new = rotate_token(session, presented_id(token))
        assert new is not None
        assert len(list_tokens(session)) == 2
    with confine(sessions(), Role.API, token_id=presented_id(new)) as session, session.begin():
        assert verify_token(session, new) is not None

    assert [statement for statement in asked if "signing_key" in statement] == []


@pytest.mark.parametrize(
    ("workspace", "scopes"),
    [(True, []), (True, ["jobs:delete"]), (True, ["operator"]), (False, ["jobs:read"]), (False, [])],
)
def test_a_token_that_makes_no_sense_is_not_minted(
    session: Session, workspace_id: uuid.UUID, workspace: bool, scopes: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"scope|workspace"):
        mint_token(session, workspace_id if workspace else None, scopes, "a test")


def test_a_changed_secret_or_id_is_nobody_s(session: Session, workspace_id: uuid.UUID) -> None:
    prefix, public_id, secret = mint_token(session, workspace_id, ["jobs:read"], "a test").split("_")
    flipped = ("0" if secret[-1] != "0" else "1").join([secret[:-1], ""])

    assert verify_token(session, f"{prefix}_{public_id}_{flipped}") is None
    assert verify_token(session, f"{prefix}_{'0' * 18}_{secret}") is None


@pytest.mark.parametrize("text", ["", "jp", "jp__", "jp_x_y", "jp_\x00_", "jp_" + "ü" * 18 + "_x", "x" * 100_000])
def test_garbage_is_nobody_s(session: Session, text: str) -> None:
    assert verify_token(session, text) is None


def test_a_token_ends_with_its_expiry(session: Session, workspace_id: uuid.UUID) -> None:
    now = session.execute(text("select jobplatform.clock()")).scalar_one()
    past, future = now - datetime.timedelta(seconds=1), now + datetime.timedelta(hours=1)

    assert verify_token(session, mint_token(session, workspace_id, ["jobs:read"], "old", past)) is None
    assert verify_token(session, mint_token(session, workspace_id, ["jobs:read"], "new", future)) is not None


def test_an_expired_token_is_not_there_to_be_revoked_or_rotated(session: Session, workspace_id: uuid.UUID) -> None:
    now = session.execute(text("select jobplatform.clock()")).scalar_one()
    past = now - datetime.timedelta(seconds=1)
    public_id = presented_id(mint_token(session, workspace_id, ["jobs:read"], "old", past))

    assert rotate_token(session, public_id) is None
    assert not revoke_token(session, public_id)
    assert session.scalars(select(ApiToken.revoked_at)).all() == [None]


def test_a_revoked_token_is_nobody_s(session: Session, workspace_id: uuid.UUID) -> None:
    token = mint_token(session, workspace_id, ["jobs:read"], "a test")
    public_id = token.split("_")[1]

    assert revoke_token(session, public_id)
    assert verify_token(session, token) is None
    assert not revoke_token(session, public_id)


def test_a_use_is_noted_at_most_once_a_minute(
    sessions: sessionmaker[Session], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    token = mint(workspace_id)
    writes: list[str] = []
    event.listen(
        sessions.kw["bind"],
        "before_cursor_execute",
        lambda _c, _cur, statement, *_: writes.append(statement) if "UPDATE" in statement else None,
    )

    for _ in range(3):
        with sessions.begin() as session:
            assert verify_token(session, token)

    assert len(writes) == 1
    with sessions.begin() as session:
        session.execute(text("update jobplatform.api_tokens set last_used_at = last_used_at - interval '61 s'"))
    with sessions.begin() as session:
        verify_token(session, token)
    assert len(writes) == 2


def test_noting_a_use_does_not_wait_for_another_request(
    sessions: sessionmaker[Session], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    token = mint(workspace_id)

    with sessions() as first, sessions() as second:
        second.execute(text("set local lock_timeout = '5s'"))
        assert verify_token(first, token)
        assert verify_token(second, token)
        second.commit()
        first.commit()

    with sessions() as session:
        assert session.scalars(select(ApiToken.last_used_at)).one() is not None
