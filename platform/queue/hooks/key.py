"""The key in a hook's URL: where the hook is, and a secret by which nobody finds it who was not told. Pure.

``jph_`` and, in letters, the workspace, the hook and 24 random bytes. What is kept is a digest of the whole. With the
workspace in it the hook is looked up in its own workspace, as everything else is, by somebody who may see no other.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import uuid
from typing import NamedTuple

SECRET_BYTES = 24

_FORM = re.compile(r"jph_[A-Za-z0-9_-]{75}\Z")


class HookKey(NamedTuple):
    """A key that has the form of one. ``digest`` is what the hook it belongs to has kept of it."""

    workspace_id: uuid.UUID
    hook_id: uuid.UUID
    digest: bytes


def new_hook_key(workspace_id: uuid.UUID, hook_id: uuid.UUID) -> str:
    """A new key of this hook: the only copy."""
    said = workspace_id.bytes + hook_id.bytes + os.urandom(SECRET_BYTES)
    return "jph_" + base64.urlsafe_b64encode(said).decode().rstrip("=")


def read_hook_key(text: str) -> HookKey | None:
    """What a key says, or None for what is none."""
    if not _FORM.match(text):
        return None
    said = base64.urlsafe_b64decode(text.removeprefix("jph_") + "=")
    return HookKey(uuid.UUID(bytes=said[:16]), uuid.UUID(bytes=said[16:32]), digest_of(text))


def digest_of(text: str) -> bytes:
    """It has 192 random bits, so there is nothing to guess that would make a slow hash worth its time."""
    return hashlib.sha256(text.encode()).digest()
