"""Sessions of people who came with a token: a cookie that says which token it was made with, signed with its key.

Nothing is stored, and no process needs a secret of its own: the key is in the token's row, so a session lives in every
process at once, and ends at its expiry or with its token, at the very next request. The key does not follow from the
token: whoever holds that has to come by the sign-in.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import re
import secrets
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.access.tokens import find_signing_key
from jobplatform.models import ApiToken, clock
from jobplatform.pages.visitors import OF_A_WORKSPACE, Visitor

_FORM = re.compile(r"jps_[A-Za-z0-9_-]{72}")
_CONTEXT = b"jobplatform session v1|"
_NOBODYS_KEY = secrets.token_bytes(32)


class _Claim(NamedTuple):
    """What a session says. ``expires`` is in seconds of the database's clock."""

    token_id: str
    expires: int
    nonce: bytes
    signature: bytes = b""

    @property
    def payload(self) -> bytes:
        return bytes.fromhex(self.token_id) + self.expires.to_bytes(5, "big") + self.nonce

    def signature_by(self, key: bytes) -> bytes:
        return hmac.digest(key, _CONTEXT + self.payload, "sha256")


def session_token_id(text: str) -> str:
    """The id of the token that a session says it was made with; empty for what is no session."""
    claim = _read(text)
    return claim.token_id if claim else ""


def begin_session(session: Session, token_id: str, lasting: datetime.timedelta) -> str | None:
    """The text of a new session; None when the token is not there (any more)."""
    key, now = find_signing_key(session, token_id)
    if key is None:
        return None
    claim = _Claim(token_id, int((now + lasting).timestamp()), secrets.token_bytes(8))
    return "jps_" + base64.urlsafe_b64encode(claim.payload + claim.signature_by(key)).decode()


def visitor_of_session(session: Session, text: str) -> Visitor | None:
    """Whose session this is; None when it is over, its token ended, or it never was one (and nobody learns which)."""
    claim = _read(text)
    if claim is None:
        return None
    alive = ApiToken.revoked_at.is_(None) & (ApiToken.expires_at.is_(None) | (ApiToken.expires_at > clock()))
    asked = select(ApiToken, ApiToken.signing_key, alive, clock()).where(ApiToken.id == claim.token_id)
    row = session.execute(asked).one_or_none()
    token, key, lives, now = row if row else (None, _NOBODYS_KEY, False, None)
    matches = hmac.compare_digest(claim.signature_by(key), claim.signature)
    left = claim.expires - now.timestamp() if now else 0.0
    if token is None or not matches or not lives or left <= 0:
        return None
    # The sign-in has asked this before. Whoever could read the keys could sign without it, and is let in nowhere else.
    if not opens_pages(frozenset(token.scopes)):
        return None
    return visitor_of_token(token, left)


def visitor_of_token(token: ApiToken, expires_in: float) -> Visitor:
    """An operator's token opens the console, a workspace's its portal; what may be done there its scopes say."""
    if token.workspace_id is None:
        return Visitor(token.name, operator=True, may="all", token_id=token.id, expires_in=expires_in)
    return Visitor(
        token.name,
        workspaces=frozenset({token.workspace_id}),
        may="all",
        scopes=frozenset(token.scopes) & {scope.value for scope in OF_A_WORKSPACE},
        token_id=token.id,
        expires_in=expires_in,
    )


def opens_pages(scopes: frozenset[str]) -> bool:
    """Whether a token of these scopes opens pages at all: what one may not read one cannot look at."""
    return Scope.OPERATOR in scopes or Scope.JOBS_READ in scopes


def _read(text: str) -> _Claim | None:
    if not _FORM.fullmatch(text):
        return None
    data = base64.urlsafe_b64decode(text.removeprefix("jps_"))
    return _Claim(data[:9].hex(), int.from_bytes(data[9:14], "big"), data[14:22], data[22:])
