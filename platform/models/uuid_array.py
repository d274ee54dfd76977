"""An array of UUIDs for a statement: text that the server need not take apart where a connection of ours sends it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">iiIii")
_EMPTY = struct.Struct(">iiI")
_UUID_OID, _UUID_ARRAY_OID = 2950, 2951
#: Before each UUID stands its length, in four bytes; here as the digits that those are.
_LENGTH = "00000010"
_DIGITS = len(_LENGTH) + 32


class UuidArray(str):
    """An array literal of UUIDs in their usual form, to be cast in SQL.

    Any connection takes it for the text that it is. One that :func:`send_uuids_as_bytes` was called for sends what the
    server would make of the text: a tenth of what it has to do for the results of many short jobs.
    """

    __slots__ = ()

    @classmethod
    def of(cls, ids: Iterable[str]) -> UuidArray:
        return cls("{" + ",".join(ids) + "}")


class _UuidArrayDumper(Dumper):
    format = Format.BINARY
    oid = _UUID_ARRAY_OID

    def dump(self, obj: str) -> bytes:
        if obj == "{}":
            return _EMPTY.pack(0, 0, _UUID_OID)
        count = obj.count(",") + 1
        digits = _LENGTH + obj[1:-1].replace("-", "").replace(",", _LENGTH)
        if len(digits) != count * _DIGITS:
            # The server would take it for a fault of the connection, after which one tries again.
            raise ValueError("not UUIDs in their usual form")
        return _HEAD.pack(1, 0, _UUID_OID, count, 1) + bytes.fromhex(digits)


def send_uuids_as_bytes(connection: psycopg.Connection[Any]) -> None:
    """Have this connection send each :class:`UuidArray` in the server's own form."""
    connection.adapters.register_dumper(UuidArray, _UuidArrayDumper)
