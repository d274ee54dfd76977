"""Bearer tokens: ``jp_<public id>_<secret>``, and those for one job: ``jpj_<what it says, and a signature>``.

The secret is 256 random bits, so a plain SHA-256 of it is enough to keep: there is nothing to guess that would
make a slow hash worth its time. The whole text is shown once, when it is minted, and cannot be had again.

A token for one job is stored nowhere. It names the token it was made with, the job and its expiry, and is signed with
that token's signing key: it ends at its expiry, and with that token. The key is random and the database's own. It must
be nothing that follows from the token, or whoever holds the token could sign what they like. Were it known all the same
(to whoever reads the table), what is signed never counts for more than the token itself.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, select, tuple_, update
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Principal, Scope, parse_scopes
from jobplatform.models import ApiToken, clock

PUBLIC_ID_BYTES = 9
SECRET_BYTES = 32
#: How exact ``last_used_at`` is. A write for every request would be a hot row for every client.
USE_NOTED_EVERY = datetime.timedelta(minutes=1)

#: For how long a token for one job may be good.
LONGEST_JOB_TOKEN = datetime.timedelta(days=1)

_JOB_PREFIX = "jpj_"
_JOB_FORM = re.compile(r"jpj_[A-Za-z0-9_-]{104}")
_JOB_CONTEXT = b"jobplatform job token v1|"
_FORM = re.compile(r"jp_([0-9a-f]{18})_([0-9a-f]{64})")
#: Compared against when there is no such token, so that an unknown id takes as long as a wrong secret.
_NOBODYS_HASH = hashlib.sha256(secrets.token_bytes(SECRET_BYTES)).digest()
_NOBODYS_KEY = secrets.token_bytes(32)


def mint_token(
    session: Session,
    workspace_id: uuid.UUID | None,
    scopes: Iterable[str],
    name: str,
    expires_at: datetime.datetime | None = None,
) -> str:
    """A new token, stored when the caller's transaction commits. The answer is the only copy of its secret.

    Without a workspace it is an operator's token and needs the scope ``operator``; with one it cannot have
    it. Raises ValueError when that, or a scope, is not right.
    """
    principal = Principal(name, workspace_id, parse_scopes(scopes))
    public_id, secret = secrets.token_hex(PUBLIC_ID_BYTES), secrets.token_hex(SECRET_BYTES)
    session.add(
        ApiToken(
            id=public_id,
            workspace_id=principal.workspace_id,
            name=principal.name,
            secret_hash=_hash(secret),
            scopes=sorted(principal.scopes),
            expires_at=expires_at,
        )
    )
    session.flush()
    return f"jp_{public_id}_{secret}"


def presented_id(text: str) -> str:
    """The id by which a token is looked up, and which may be shown; empty for what has not the form of one."""
    claim = _read_job_token(text)
    return claim.token_id if claim else _split(text)[0]


def verify_token(session: Session, text: str) -> Principal | None:
    """Whose token this is; None when it is unknown, wrong, expired or revoked (and nobody learns which).

    Notes the use, at most once a minute; the caller commits. The Session has to be one that may do what the API may: an
    operator's may not read what tokens are known by, or what they sign with.
    """
    if is_job_token(text):
        return _verify_job_token(session, text)
    token_id, secret = _split(text)
    token, secret_hash, alive, note_use = _find(session, token_id)
    matches = hmac.compare_digest(secret_hash, _hash(secret))
    if token is None or not matches or not alive:
        return None
    if note_use:
        _note_use(session, token.id)
    return Principal(token.name, token.workspace_id, frozenset(token.scopes), token.id)


def mint_job_token(
    session: Session, token_id: str, workspace_id: uuid.UUID, job_id: uuid.UUID, valid_for: datetime.timedelta
) -> tuple[str, datetime.datetime] | None:
    """A token that may look at one job and do nothing else, and when it ends. Nothing is stored.

    None when the token that it is to be made with is not (or no longer) there. The Session has to be one that may do
    what the API may: an operator's may not read what is signed with.
    """
    key, now = find_signing_key(session, token_id)
    if key is None:
        return None
    expires_at = (now + valid_for).replace(microsecond=0)
    claim = _JobClaim(token_id, workspace_id, job_id, int(expires_at.timestamp()))
    return claim.signed(key), expires_at


def find_signing_key(session: Session, token_id: str) -> tuple[bytes | None, datetime.datetime]:
    """What is signed in the name of a token, None when there is none of this id; and the database's time."""
    key = select(ApiToken.signing_key).where(ApiToken.id == token_id).scalar_subquery()
    found, now = session.execute(select(key, clock())).one()
    return found, now


def is_job_token(text: str) -> bool:
    """Whether this has the form of a token for one job."""
    return _JOB_FORM.fullmatch(text) is not None


def find_dead_tokens(session: Session, public_ids: Iterable[str]) -> set[str]:
    """Those of these tokens that are revoked, expired or gone."""
    ids = set(public_ids)
    if not ids:
        return set()
    return ids - set(session.scalars(select(ApiToken.id).where(ApiToken.id.in_(ids), _is_alive())))


def revoke_token(session: Session, public_id: str) -> bool:
    """End a token at once. Says whether it was alive until now."""
    statement = (
        update(ApiToken).where(ApiToken.id == public_id, _is_alive()).values(revoked_at=clock()).returning(ApiToken.id)
    )
    return session.execute(statement).first() is not None


def rotate_token(session: Session, public_id: str) -> str | None:
    """A new token like this one, which ends at once; None when there is none of this id that is alive."""
    old = session.get(ApiToken, public_id, with_for_update=True)
    if old is None or not revoke_token(session, public_id):
        return None
    return mint_token(session, old.workspace_id, old.scopes, old.name, old.expires_at)


def list_tokens(
    session: Session, workspace_id: uuid.UUID | None = None, *, limit: int | None = None, before: str | None = None
) -> Sequence[ApiToken]:
    """Tokens, newest first: of a workspace, or all. ``before`` is the id of the last one seen."""
    place = tuple_(ApiToken.created_at, ApiToken.id)
    statement = select(ApiToken).order_by(ApiToken.created_at.desc(), ApiToken.id.desc()).limit(limit)
    if workspace_id is not None:
        statement = statement.where(ApiToken.workspace_id == workspace_id)
    if before is not None:
        seen = select(ApiToken.created_at, ApiToken.id).where(ApiToken.id == before)
        statement = statement.where(place < seen.scalar_subquery())
    return session.scalars(statement).all()


def _split(text: str) -> tuple[str, str]:
    """Anything of another form is treated like a token of nobody, and not recognised any faster."""
    form = _FORM.fullmatch(text)
    return (form[1], form[2]) if form else ("", "")


class _JobClaim(NamedTuple):
    """What a token for one job says. ``expires`` is in seconds of the database's clock."""

    token_id: str
    workspace_id: uuid.UUID
    job_id: uuid.UUID
    expires: int
    signature: bytes = b""

    @property
    def payload(self) -> bytes:
        when = self.expires.to_bytes(5, "big")
        return bytes.fromhex(self.token_id) + self.workspace_id.bytes + self.job_id.bytes + when

    def signature_by(self, key: bytes) -> bytes:
        return hmac.digest(key, _JOB_CONTEXT + self.payload, "sha256")

    def signed(self, key: bytes) -> str:
        text = base64.urlsafe_b64encode(self.payload + self.signature_by(key))
        return _JOB_PREFIX + text.decode()


def _read_job_token(text: str) -> _JobClaim | None:
    if not is_job_token(text):
        return None
    data = base64.urlsafe_b64decode(text.removeprefix(_JOB_PREFIX))
    ids = uuid.UUID(bytes=data[9:25]), uuid.UUID(bytes=data[25:41])
    return _JobClaim(data[:9].hex(), *ids, int.from_bytes(data[41:46], "big"), data[46:])


def _verify_job_token(session: Session, text: str) -> Principal | None:
    claim = _read_job_token(text)
    if claim is None:
        return None
    token, _, alive, note_use = _find(session, claim.token_id)
    key, now = find_signing_key(session, claim.token_id)
    matches = hmac.compare_digest(claim.signature_by(key or _NOBODYS_KEY), claim.signature)
    left = claim.expires - now.timestamp()
    if token is None or not matches or not alive or left <= 0 or not _may_look(token, claim.workspace_id):
        return None
    if note_use:
        _note_use(session, token.id)
    return Principal(
        token.name,
        claim.workspace_id,
        frozenset({Scope.JOBS_READ}),
        token.id,
        job_id=claim.job_id,
        expires_in=left,
        sees_as_operator=token.workspace_id is None,
    )


def _may_look(token: ApiToken, workspace_id: uuid.UUID) -> bool:
    """Whether the token itself may look at jobs of this workspace."""
    principal = Principal(token.name, token.workspace_id, frozenset(token.scopes))
    return principal.sees(workspace_id) and principal.may(Scope.JOBS_READ)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _find(session: Session, public_id: str) -> tuple[ApiToken | None, bytes, bool, bool]:
    """The token, the hash of its secret, whether it is alive, and whether its use is to be noted: all by the database's
    clock."""
    stale = ApiToken.last_used_at.is_(None) | (ApiToken.last_used_at < clock() - USE_NOTED_EVERY)
    found = select(ApiToken, ApiToken.secret_hash, _is_alive(), stale).where(ApiToken.id == public_id)
    row = session.execute(found).one_or_none()
    return (row[0], row[1], row[2], row[3]) if row else (None, _NOBODYS_HASH, False, False)


def _is_alive() -> ColumnElement[bool]:
    return ApiToken.revoked_at.is_(None) & (ApiToken.expires_at.is_(None) | (ApiToken.expires_at > clock()))


def _note_use(session: Session, public_id: str) -> None:
    """Skipped when somebody else is noting it this moment: it is the same fact, and not worth a queue."""
    mine = select(ApiToken.id).where(ApiToken.id == public_id).with_for_update(skip_locked=True).scalar_subquery()
    session.execute(
        update(ApiToken)
        .where(ApiToken.id == mine)
        .values(last_used_at=clock())
        .execution_options(synchronize_session=False)
    )
