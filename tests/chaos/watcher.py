"""The snapshot watcher: looks at all jobs at once, again and again, for what must hold between rows at every moment.

One SELECT sees one snapshot, so what it finds was really so. Comparing the times of two events instead accuses a
correct queue of hundreds of violations.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos.part import Part

LOOK = """
with waiting_or_running as materialized (
    select q.workspace_id, q.id, q.state, q.unique_key, r.status, r.id is not null as recorded
    from jobplatform.job_queue q
    left join jobplatform.job_records r on r.workspace_id = q.workspace_id and r.id = q.id
)
select 'uniqueness', min(id::text), workspace_id || ' has ' || count(*) || ' unfinished jobs with key ' || unique_key
from waiting_or_running
where unique_key is not null
group by workspace_id, unique_key
having count(*) > 1
union all
select 'pairs', id::text, 'queue row of a ' || case when recorded then 'finished' else 'missing' end || ' record'
from waiting_or_running
where not recorded or status is not null
union all
select 'pairs', r.id::text, 'unfinished record without a queue row'
from jobplatform.job_records r
left join waiting_or_running w on w.workspace_id = r.workspace_id and w.id = r.id
where r.status is null and w.id is null
union all
select 'running', null, (select count(*) from waiting_or_running where state = 2)::text
"""


@dataclass(slots=True)
class Seen:
    """What the looks found: (job, what) for the rules ``uniqueness`` and ``pairs``."""

    looks: int = 0
    most_running: int = 0
    uniqueness: list[tuple[str, str]] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)


def look(connection: psycopg.Connection[Any], seen: Seen) -> None:
    """One look."""
    for rule, job_id, what in connection.execute(LOOK):
        if rule == "running":
            seen.most_running = max(seen.most_running, int(what))
        elif (job_id, what) not in getattr(seen, rule):
            getattr(seen, rule).append((job_id, what))
    seen.looks += 1


class Watcher(Part):
    """Looks every ``pause`` seconds until told to stop; a restart of the server only interrupts it."""

    def __init__(self, url: str, stop: threading.Event, pause: float) -> None:
        super().__init__("watcher", stop)
        self.url = url
        self.pause = pause
        self.seen = Seen()

    def live(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(psycopg.OperationalError):
                self._look_until_disconnected()
            self.stop.wait(self.pause)

    def _look_until_disconnected(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stop.wait(self.pause):
                look(connection, self.seen)
