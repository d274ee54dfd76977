"""What all who ask the same source share: its rate, its breaks, and credentials that one of them has renewed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobplatform.errors import NeedsAttentionError


@dataclass(frozen=True)
class Rate:
    """So many requests in ``seconds``, whenever these begin: ``burst`` of them at once (a tenth, unless given), and the
    others evenly. All at once, and then at this rate, would be twice as many in the first ``seconds``."""

    requests: int
    seconds: float
    burst: int | None = None

    @property
    def at_once(self) -> int:
        return min(self.burst or max(1, self.requests // 10), self.requests)

    @property
    def share(self) -> float:
        """Seconds after which there is another one."""
        return self.seconds / (self.requests - self.at_once + 1)


@dataclass(frozen=True)
class Credentials:
    """What a source is told to know us by. Its text never shows a value.

    ``version`` goes up whenever they change. ``good_until`` is on this process's monotonic clock; None: for ever, as
    far as anybody knows. ``is_new``: the source has given them this moment, so there are no newer ones to be had.
    """

    scheme: str
    values: Mapping[str, Any] = field(repr=False)
    version: int = 0
    good_until: float | None = None
    is_new: bool = False

    @property
    def are_stale(self) -> bool:
        """Whether they have to be renewed before they can be shown."""
        if self.scheme == "oauth2" and not self.values.get("access_token"):
            return True
        return self.good_until is not None and time.monotonic() >= self.good_until


class Keeper(Protocol):
    """Keeps it, for one connection. Each call is a short transaction of its own: none may be open when it is made."""

    def turn(self, resource: str, rate: Rate | None) -> float:
        """Take a turn at the resource and answer 0, or in how many seconds there may be one."""

    def close(self, resource: str, seconds: float) -> None:
        """Have nobody ask the resource for so long."""

    def renew(self, seen: Credentials) -> Credentials:
        """Newer credentials than those that the source has refused: given by somebody, renewed by another worker, or
        new ones from the source.

        Raises :class:`~jobplatform.errors.NeedsAttentionError` when there can be none, and has that noted.
        """

    def needs_attention(self, reason: str, seen: Credentials | None) -> None:
        """Note that the connection is of no use until it has other credentials than these; or, with None, until it is
        changed: what is wrong has nothing to do with credentials."""


class NobodyElse:
    """For a source that is asked from here alone, with credentials that nobody renews."""

    def __init__(self) -> None:
        self.closed_until: dict[str, float] = {}

    def turn(self, resource: str, rate: Rate | None) -> float:
        return max(0.0, self.closed_until.get(resource, 0.0) - time.monotonic())

    def close(self, resource: str, seconds: float) -> None:
        self.closed_until[resource] = time.monotonic() + seconds

    def renew(self, seen: Credentials) -> Credentials:
        raise NeedsAttentionError("the source does not accept the credentials")

    def needs_attention(self, reason: str, seen: Credentials | None) -> None:
        """There is nobody to be told."""
