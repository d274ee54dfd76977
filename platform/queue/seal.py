"""The sealed form: what a job says and is told, readable only with its workspace's key. Does no input or output.

In JSON a sealed value is ``{"$sealed": "v1:<key id>:<base64 of nonce and ciphertext>"}``; in a column of text it is the
same, as text. Each job has a key of its own, derived from the data key of its workspace, so that random nonces never
come near the number after which they could repeat; and each value is bound to its workspace, job and field, so that
one which was moved elsewhere does not open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from typing import Any

from jobplatform.errors import SealBrokenError
from jobplatform.key_ring import NONCE_BYTES, cipher
from jobplatform.queue.safe_json import LOG_LINE_LIMIT

MARK = "$sealed"
#: Shown where a sealed value cannot be opened, or not to this reader.
CLOSED = {"sealed": True}
CLOSED_TEXT = "[sealed]"

#: Nonce and tag, the words around the base64 text, a little to spare.
_OVERHEAD = NONCE_BYTES + 16
_WRAPPING = 64
#: Key, the schedule that it was sealed for (nothing: the job that it is found in), and what is sealed.
_FORM = re.compile(r"(?:v1:([1-9][0-9]{0,4})|v2:([1-9][0-9]{0,4}):([0-9a-f-]{36})):([A-Za-z0-9+/]{38,}={0,2})\Z")
_TEXT_FORM = re.compile(r'\{"\$sealed": ?"(v1:[^"\\]*)"\}\Z')
_CUT = "\n… cut …\n"


class DataKey:
    """A data key and its number within its workspace."""

    __slots__ = ("key_id", "secret")

    def __init__(self, key_id: int, secret: bytes) -> None:
        self.key_id = key_id
        self.secret = secret

    def __repr__(self) -> str:
        return f"<DataKey {self.key_id}>"


class Seal:
    """Seals and opens what belongs to one job. The names of fields are part of the form: they never change.

    With a ``schedule_id`` it is for the payload that a schedule gives to its jobs: bound to that schedule, whose name
    is in the form, since whoever enqueues at a tick has no key to seal it anew.
    """

    def __init__(self, key: DataKey, workspace_id: object, job_id: object, *, schedule_id: object = None) -> None:
        self._head = f"v1:{key.key_id}" if schedule_id is None else f"v2:{key.key_id}:{schedule_id}"
        self._place = f"{workspace_id}|{job_id if schedule_id is None else f'schedule:{schedule_id}'}"
        self._cipher = cipher(hmac.digest(key.secret, f"jobplatform v1|{self._place}".encode(), "sha256"))

    def seal(self, field: str, text: str) -> str:
        """The sealed form of ``text`` as JSON text."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(errors="replace"), self._bound_to(field))
        return f'{{"{MARK}":"{self._head}:{base64.b64encode(sealed).decode()}"}}'

    def seal_text(self, field: str, text: str, limit: int = LOG_LINE_LIMIT) -> str:
        """The same for as much of ``text`` as fits into ``limit`` characters: a sealed text must not be cut."""
        return self.seal(field, _fitting(text, (limit - _WRAPPING) // 4 * 3 - _OVERHEAD))

    def open(self, field: str, form: str) -> str:
        """What ``form`` holds. Raises :class:`SealBrokenError`."""
        from cryptography.exceptions import InvalidTag

        match = _FORM.match(form)
        if match is None:
            raise SealBrokenError(f"the {field} is marked as sealed and has no form that this version knows")
        try:
            sealed = base64.b64decode(match[4], validate=True)
            opened: bytes = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound_to(field))
        except (InvalidTag, binascii.Error):
            raise SealBrokenError(
                f"the {field} cannot be opened: it was changed, or sealed for another workspace, job or field"
            ) from None
        return opened.decode()

    def _bound_to(self, field: str) -> bytes:
        return f"{self._place}|{field}".encode()


class SealedPayload:
    """A payload that was checked and sealed: ``json`` goes into the row as it is."""

    __slots__ = ("json",)

    def __init__(self, json: str) -> None:
        self.json = json


def sealed_form(value: Any) -> str | None:
    """The sealed form in a JSON value or a text, or None when it is an ordinary one."""
    if type(value) is dict:
        form = value.get(MARK) if len(value) == 1 else None
        return form if isinstance(form, str) else None
    if type(value) is str and value.startswith('{"' + MARK):
        match = _TEXT_FORM.match(value)
        return match[1] if match else None
    return None


def begins_sealed(text: str) -> bool:
    """Whether this is a sealed text, or the beginning of one that was cut: nobody opens that, nor shows it."""
    return text.startswith(f'{{"{MARK}"')


def key_id_of(form: str) -> int:
    """Which of the workspace's keys sealed this. Raises :class:`SealBrokenError` for what has no known form."""
    match = _FORM.match(form)
    if match is None:
        raise SealBrokenError("what is marked as sealed has no form that this version knows")
    return int(match[1] or match[2])


def schedule_of(form: str) -> str | None:
    """The schedule that this was sealed for; None when it was for the job that it is found in."""
    match = _FORM.match(form)
    return match[3] if match else None


def close(value: Any) -> Any:
    """``value`` for a reader who may not see what is sealed in it: only that something is."""
    if sealed_form(value) is None:
        return value
    return CLOSED if isinstance(value, dict) else CLOSED_TEXT


def _fitting(text: str, room: int) -> str:
    """Beginning and end of ``text``, at most ``room`` bytes of UTF-8."""
    data = text.encode(errors="replace")
    if len(data) <= room:
        return text
    left = max(0, room - len(_CUT.encode()))
    head, tail = data[: left - left // 3], data[len(data) - left // 3 :]
    return head.decode(errors="ignore") + _CUT + tail.decode(errors="ignore")
