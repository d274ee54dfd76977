"""Who turns limits, rates, weights and quotas up and down, and pauses and resumes, while everything runs."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError
from jobplatform.proof.changes import Scope, change
from jobplatform.proof.clients import ClientThread
from jobplatform.proof.terrain import PLAN, Knob, Terrain
from jobplatform.queue import set_plan, set_workspace_limits

#: Seconds of a pause that is resumed by hand, at least and at most.
SHORTEST, LONGEST = 0.6, 2.5

NOW = "select extract(epoch from jobplatform.clock())"
RUNNING = "select count(*) from jobplatform.job_queue where state = 2 and workspace_id = :id"
WAITING = """
select exists (
    select
    from jobplatform.job_queue
    where state = 1
        and case :kind
            when 'pause workspace' then workspace_id::text
            when 'pause queue' then queue
            when 'pause task' then task
            else resource
        end = :key
)
"""


class Knobs(ClientThread):
    """Turns one knob after the other until all is to come to rest; then sets all to where they rest."""

    def __init__(
        self,
        *setup: Any,
        patience: threading.Event,
        terrain: Terrain,
        seed: str,
        pause: float,
        plain_for: float,
    ) -> None:
        super().__init__(*setup, patience=patience)
        self.terrain = terrain
        self.draw = random.Random(seed)
        self.pause = pause
        self.plain_for = plain_for
        self.turned: Counter[str] = Counter()
        self._resume_at: dict[Scope, float] = {}
        self._deck: list[Knob | Scope] = []

    def set_up(self) -> None:
        """Before any worker runs."""
        self.client.transact(self._put_on_plan)
        for knob in self.terrain.knobs():
            if not knob.late:
                self.set(knob.scope, knob.values[0])

    def live(self) -> None:
        self.stop.wait(self.plain_for)
        for knob in self.terrain.knobs():
            if knob.late:
                self.set(knob.scope, knob.values[0])
        while not self.stop.wait(self.pause * self.draw.uniform(0.5, 1.5)):
            self._resume(time.monotonic())
            if not self._deck:
                self._begin_round()
            self._turn(self._next())
            self._lower_below_what_runs()
        self._resume(float("inf"))
        for knob in self.terrain.knobs():
            self.set(knob.scope, knob.rest)

    def set(self, scope: Scope, value: Any) -> None:
        on_plan = scope == Scope("workspace", str(self.terrain.on_plan))
        change(self.client.transact, scope, value, _set_plan if on_plan else None)

    def _begin_round(self) -> None:
        knobs = self.terrain.knobs()
        self._deck = [*(knob for knob in knobs if not knob.beside), *self.terrain.pauses(), *self.terrain.pauses()]
        self.draw.shuffle(self._deck)
        for knob in knobs:
            if knob.beside:
                self._turn(knob)

    def _next(self) -> Knob | Scope:
        """All in turn, each time in another order; but a pause that would hold nothing up comes later, if one can."""
        for _ in range(len(self._deck)):
            what = self._deck.pop()
            if isinstance(what, Knob) or self._holds_up(what):
                return what
            self._deck.insert(0, what)
        return self._deck.pop()

    def _holds_up(self, scope: Scope) -> bool:
        about = {"kind": scope.kind, "key": scope.key}
        return bool(self.client.transact(lambda session: session.scalar(text(WAITING), about)))

    def _turn(self, what: Knob | Scope) -> None:
        if isinstance(what, Knob):
            self.set(what.scope, self.draw.choice(what.values))
            self.turned[what.scope.kind] += 1
        elif what not in self._resume_at:
            self._pause(what)

    def _pause(self, scope: Scope) -> None:
        """Some pauses end by themselves, a moment before they are resumed."""
        seconds = self.draw.uniform(SHORTEST, LONGEST)
        until = self._moment_in(seconds) if self.draw.random() < 0.3 else None
        with contextlib.suppress(InvalidLimitError):
            # Said again after a restart of the server, the moment may be over.
            self.set(scope, {"until": until})
        self._resume_at[scope] = time.monotonic() + seconds
        self.turned[scope.kind] += 1

    def _moment_in(self, seconds: float) -> float | None:
        """By the database's clock; None when told to stop before."""
        found = self.client.transact(lambda session: session.scalar(text(NOW)))
        return None if found is None else float(found) + seconds

    def _lower_below_what_runs(self) -> None:
        """By chance a limit is hardly ever lowered in the very moment in which it matters."""
        scope = Scope("workspace", str(self.terrain.many))
        running = self.client.transact(lambda session: session.scalar(text(RUNNING), {"id": scope.key}))
        if running and running > 1 and scope not in self._resume_at:
            self.set(scope, 1)
            self._resume_at[scope] = time.monotonic() + self.draw.uniform(SHORTEST, LONGEST)
            self.turned["lowered below what ran"] += 1

    def _resume(self, now: float) -> None:
        """Pauses end, and a limit that was lowered below what ran goes up again."""
        for scope in [scope for scope, at in self._resume_at.items() if at <= now]:
            self.set(scope, self.terrain.limits[-1] if scope.kind == "workspace" else None)
            del self._resume_at[scope]

    def _put_on_plan(self, session: Session) -> None:
        set_plan(session, PLAN, {"weight": 2})
        set_workspace_limits(session, self.terrain.on_plan, {"plan": PLAN})
        set_workspace_limits(session, self.terrain.shedding, {"shed": True})


def _set_plan(session: Session, _scope: Scope, value: Any) -> None:
    set_plan(session, PLAN, {"max_running": value})
