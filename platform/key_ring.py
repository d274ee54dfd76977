"""The key ring: the master keys by which the data keys of workspaces are wrapped.

``JOBPLATFORM_ENCRYPTION_KEYS`` holds it as ``id:base64`` entries with commas between them. The first key wraps what
is new, all of them unwrap: a new master key is put in front, deployed everywhere, and once ``jobplatform keys rotate``
has wrapped every data key anew the old one can go. Nothing that a data key has sealed changes meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobplatform.errors import KeyMissingError, SettingsError

VARIABLE = "JOBPLATFORM_ENCRYPTION_KEYS"
KEY_BYTES = 32
NONCE_BYTES = 12
#: Where the embedded database's own key ring is, in its folder.
FILE = "encryption-keys"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


class KeyRing:
    """Master keys by their ids. Neither its text nor its errors ever show a key."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ValueError("has no key")
        require_cryptography()
        self._keys = dict(keys)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Raises ValueError naming the place of what is wrong, and nothing of what stands there."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            name, colon, key = entry.strip().partition(":")
            if not colon or not _NAME.match(name):
                raise ValueError(f"key {position} must look like id:base64, the id of letters, digits and _.-")
            if name in keys:
                raise ValueError(f"key {position} has the id of an earlier one")
            keys[name] = _decode(key, position)
        return cls(keys)

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}>"

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    @property
    def names(self) -> tuple[str, ...]:
        """The ids of the keys, the one that wraps first."""
        return tuple(self._keys)

    def wrap(self, data_key: bytes, context: str) -> tuple[str, bytes]:
        """The id of the first key, and ``data_key`` wrapped by it. It unwraps in the same ``context`` only."""
        name = self.names[0]
        nonce = os.urandom(NONCE_BYTES)
        return name, nonce + self._cipher(name).encrypt(nonce, data_key, context.encode())

    def unwrap(self, name: str, wrapped: bytes, context: str) -> bytes:
        """The data key. Raises :class:`KeyMissingError` when the key ``name`` is not here, or is another one here."""
        from cryptography.exceptions import InvalidTag

        if name not in self._keys:
            raise KeyMissingError(name, f"the key ring of this process has no key {name!r}")
        try:
            data_key: bytes = self._cipher(name).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context.encode())
        except InvalidTag:
            raise KeyMissingError(name, f"the key {name!r} of this process is not the one that was used") from None
        return data_key

    def _cipher(self, name: str) -> Any:
        return cipher(self._keys[name])


def generate_key(name: str) -> str:
    """A new master key as an entry of the ring."""
    if not _NAME.match(name):
        raise ValueError("an id has letters, digits and _.-, at most 64")
    return f"{name}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


def cipher(key: bytes) -> Any:
    """AES-256-GCM. Imported when something is encrypted: it takes 8 ms and 7 MB that most processes never need."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def require_cryptography() -> None:
    """Raise ValueError, in words that say what to do, where the package is missing."""
    if importlib.util.find_spec("cryptography") is None:
        raise ValueError("needs the package cryptography: pip install 'jobplatform[encryption]'")


def ring_of(environ: Mapping[str, str]) -> KeyRing | None:
    """The key ring that the environment holds, if it holds one. Raises :class:`SettingsError`."""
    text = environ.get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        return KeyRing.parse(text)
    except ValueError as error:
        raise SettingsError([f"{VARIABLE}: {error}"]) from None


def adopt_ring_beside(folder: Path) -> bool:
    """Give this process, and those that it starts, the key ring of the embedded database in ``folder``: a file beside
    it, made the first time. Without the package, or when the environment has a key ring, nothing is done.

    For a machine for daily work: whoever has the folder has the keys. A database elsewhere has its own, or none. Says
    whether the environment has one now that it had not before.
    """
    if os.environ.get(VARIABLE, "").strip() or importlib.util.find_spec("cryptography") is None:
        return False
    file = folder / FILE
    try:
        if not file.exists():
            _write_once(file, generate_key("local") + "\n")
        os.environ[VARIABLE] = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False  # What needs a key ring will say so, and what to do.
    return True


@contextlib.contextmanager
def ring_beside(folder: Path) -> Iterator[None]:
    """:func:`adopt_ring_beside`, for as long as the block lasts."""
    adopted = adopt_ring_beside(folder)
    try:
        yield
    finally:
        if adopted:
            os.environ.pop(VARIABLE, None)


def _write_once(file: Path, text: str) -> None:
    """Whole or not at all, and by the first of several processes: another key would open nothing of the first one's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # Nobody else may read it.
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as made:
            made.write(text)
        with contextlib.suppress(FileExistsError):
            os.link(name, file)
    finally:
        os.unlink(name)


def _decode(text: str, position: int) -> bytes:
    try:
        key = base64.b64decode(text.strip(), altchars=b"-_" if "-" in text or "_" in text else None, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"key {position} is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"key {position} has {len(key)} bytes, not {KEY_BYTES}")
    return key
