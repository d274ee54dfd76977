"""A file on this machine for what is too large to be kept in memory, gone when it is closed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from types import TracebackType
from typing import BinaryIO, Self, cast

#: Bytes that stay in memory.
SMALL = 1024 * 1024


class Spool:
    """Is written once and then read, as often as one likes. ``digest`` is the SHA-256 of what was written."""

    def __init__(self) -> None:
        self.file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=SMALL, prefix="jobplatform-"))  # noqa: SIM115
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self.size += len(content)
        return self.file.write(content)

    def write_all(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.write(chunk)

    def clear(self) -> None:
        """Forget what was written, to begin anew."""
        self.file.seek(0)
        self.file.truncate()
        self._hash, self.size = hashlib.sha256(), 0

    def close(self) -> None:
        self.file.close()
