"""Links to exports in a folder: a token that names the export and shows a secret of which only the hash is kept.

Whoever has the link may fetch that one file until the link expires; there is no key of the installation that could
make others, and a new link ends the one before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobplatform.models import ExportFile, clock

PREFIX = "jpe_"
SECRET_BYTES = 32
_BYTES = 16 + 16 + SECRET_BYTES


class LinkClaim(NamedTuple):
    """What the token of a link says."""

    workspace_id: uuid.UUID
    export_id: uuid.UUID
    secret: bytes


def link_token(workspace_id: uuid.UUID, export_id: uuid.UUID, secret: bytes) -> str:
    """The token of a link."""
    return PREFIX + base64.urlsafe_b64encode(workspace_id.bytes + export_id.bytes + secret).decode().rstrip("=")


def read_link_token(text: str) -> LinkClaim | None:
    """What a token says, or None for what is none. Nothing is believed yet."""
    if not text.startswith(PREFIX):
        return None
    try:
        packed = base64.b64decode(text.removeprefix(PREFIX).encode() + b"==", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(packed) != _BYTES:
        return None
    claim = LinkClaim(uuid.UUID(bytes=packed[:16]), uuid.UUID(bytes=packed[16:32]), packed[32:])
    return claim if link_token(*claim) == text else None


def find_linked(session: Session, claim: LinkClaim) -> ExportFile | None:
    """The export that a link leads to, if it is good: right, not over, and to a whole file."""
    statement = select(ExportFile).where(
        ExportFile.workspace_id == claim.workspace_id,
        ExportFile.id == claim.export_id,
        ExportFile.link_expires_at > clock(),
        ExportFile.expires_at > clock(),
        ExportFile.digest.is_not(None),
    )
    export = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    expected = export.link_hash if export is not None and export.link_hash is not None else bytes(32)
    right = hmac.compare_digest(hashlib.sha256(claim.secret).digest(), expected)
    return export if right else None


def renew_link(session: Session, export: ExportFile, lasts: timedelta) -> str:
    """A new token for an export, which ends the one before."""
    secret = secrets.token_bytes(SECRET_BYTES)
    session.execute(
        update(ExportFile)
        .where(ExportFile.workspace_id == export.workspace_id, ExportFile.id == export.id)
        .values(link_hash=hashlib.sha256(secret).digest(), link_expires_at=clock() + lasts),
        execution_options={"synchronize_session": False},
    )
    return link_token(export.workspace_id, export.id, secret)
