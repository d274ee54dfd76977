"""The time that the platform tells, which only a test can move.

``jobplatform.clock()`` is a function of the database. Here its body is replaced, so the whole platform obeys at once,
whatever process it is in: what an enqueue, a claim, a retry, a schedule, a limit or a token compares with is this.
"""

from __future__ import annotations

import datetime

from sqlalchemy import Connection, text

from jobplatform.testing.ownership import require_ours
from jobplatform.testing.places import Place, engine_of

# Still one inlined expression, stable and parallel safe: plans stay what they are.
REPLACE = """
create or replace function jobplatform.clock() returns timestamptz language sql stable parallel safe as $$ {} $$
"""
TRUE_TIME = "select now()"
_MOVED = "select now() + interval '{} microseconds'"
_FROZEN = "select timestamptz '{}'"

_MICROSECOND = datetime.timedelta(microseconds=1)


class Clock:
    """Moves the platform's time in a database that this kit made; refuses any other one.

    >>> clock.travel(hours=1)
    >>> clock.travel_to(datetime.datetime(2030, 3, 31, 0, 59, tzinfo=datetime.UTC))
    >>> clock.freeze()

    What is open in a transaction keeps the time that it began with, as ever in PostgreSQL.
    """

    def __init__(self, where: Place) -> None:
        self._engine = engine_of(where)
        self._offset = datetime.timedelta(0)
        self._frozen_at: datetime.datetime | None = None

    def now(self) -> datetime.datetime:
        """What the platform's clock says, in UTC."""
        with self._engine.connect() as connection:
            return _utc(connection.execute(text("select jobplatform.clock()")).scalar_one())

    def travel(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime.datetime:
        """Let so much time pass at once (or turn it back), and return the new time. A frozen clock stays frozen."""
        step = datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if self._frozen_at is not None:
            return self.freeze(self._frozen_at + step)
        return self._move(self._offset + step)

    def travel_to(self, moment: datetime.datetime) -> datetime.datetime:
        """Go to a moment, which must have a time zone; from there time passes as usual, or stands still if it did."""
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone; say tzinfo=datetime.UTC, or which one it is")
        if self._frozen_at is not None:
            return self.freeze(moment)
        with self._engine.begin() as connection:
            true_time = _utc(connection.execute(text(TRUE_TIME)).scalar_one())
        return self._move(moment - true_time)

    def freeze(self, moment: datetime.datetime | None = None) -> datetime.datetime:
        """Stop the clock, at ``moment`` or now. Every job then has the same ``created_at`` until you travel on."""
        stopped_at = _utc(self.now() if moment is None else moment)
        self._replace(_FROZEN.format(stopped_at.isoformat()))
        self._frozen_at = stopped_at
        return stopped_at

    def unfreeze(self) -> datetime.datetime:
        """Let a frozen clock go on from where it stands."""
        stood_at, self._frozen_at = self._frozen_at, None
        return self.now() if stood_at is None else self.travel_to(stood_at)

    def reset(self) -> datetime.datetime:
        """Back to the true time."""
        self._frozen_at = None
        return self._move(datetime.timedelta(0))

    def _move(self, offset: datetime.timedelta) -> datetime.datetime:
        self._replace(_MOVED.format(offset // _MICROSECOND) if offset else TRUE_TIME)
        self._offset = offset
        return self.now()

    def _replace(self, body: str) -> None:
        with self._engine.begin() as connection:
            _replace_body(connection, body)


def _replace_body(connection: Connection, body: str) -> None:
    require_ours(connection, "time can be moved in")
    connection.exec_driver_sql(REPLACE.format(body))


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC)
