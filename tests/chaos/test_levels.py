"""What a claim can have seen of a level that moved beside it."""

from __future__ import annotations

import pytest

from jobplatform.proof.changes import Changes
from jobplatform.proof.clients import Promises
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.history import Event
from jobplatform.proof.level_rules import no_claim_exceeds_a_level
from jobplatform.proof.watcher import Seen

ROW = {"workspace_id": "one", "queue": "default", "task": "tidal", "resource": "tide:1", "units": 1}


def _level(seq: int, level: float, at: float) -> Event:
    row = {"resource": "tide:1", "level": level, "lowered_at": None}
    return Event(seq, "resource_levels", "", str(seq), None, row, began=at, at=at)


@pytest.mark.parametrize(
    ("began", "running", "found"),
    [
        # Lowered from 5 to 3 at 10: a moment later its commit may not be there yet.
        (9.0, 5, 0),
        (9.0, 6, 1),
        (10.5, 5, 0),
        (20.0, 4, 1),
        (20.0, 3, 0),
    ],
)
def test_a_claim_is_held_to_the_highest_level_that_it_can_have_seen(began: float, running: int, found: int) -> None:
    claim = Event(9, "job_queue", "7", "9", None, ROW, began=began, at=began + 0.1, running={"resource": running})
    changes = Changes([("adaptive", "tide:*", [1, 8], 0.0, 1.0)])
    history = [_level(1, 5.6, 2.0), _level(2, 3.9, 10.0), claim]
    evidence = Evidence(crash_limit=3, promises=Promises(), diary=[], seen=Seen(), history=history, changes=changes)

    assert len(list(no_claim_exceeds_a_level(evidence))) == found
