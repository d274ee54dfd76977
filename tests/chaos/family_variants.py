"""What is broken about jobs that wait for others, and about batches: module, constant, and what becomes what."""

from __future__ import annotations

FAMILY_VARIANTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "an end that is not told": ("attempts.complete", "COMPLETE", {"and e.followed": "and false"}),
    "a job that exists is not followed": ("after.settle", "FOLLOW", {"set followed = true": "set followed = false"}),
    "let go by the first end": ("after.settle", "DECIDE", {"and e.after_status is null": "and false"}),
    "let go by a failure": ("after.settle", "DECIDE", {"e.after_status in (4, 5) and e.run_if = 'completed'": "false"}),
    "two decide side by side": ("after.settle", "LOCK_SUCCESSORS", {"for update of e skip locked": ""}),
    "a batch ends with its first job": (
        "after.settle",
        "COUNT",
        {"d.cancelled = b.total + d.added": "d.cancelled > 0"},
    ),
    "every callback is called": (
        "after.settle",
        "DECIDE",
        {"e.after_status = 3 and e.run_if = 'failed'": "false", "e.after_status in (4, 5)": "false"},
    ),
    "a failure counts as a completion": ("attempts.fail", "FAIL", {"case when e.cancelled then 5 else 4 end": "3"}),
    "a retry that is not told": ("by_hand.retry_job", "RETRY_JOB", {"where reopened.followed": "where false"}),
    "what was called off stays so": ("after.settle", "DECIDE", {"r.status = 5 and r.outcome": "false and r.outcome"}),
    "called off for no reason": (
        "after.settle",
        "DECIDE",
        {"e.after_status = 3 and e.run_if = 'failed'": "e.after_status = 3"},
    ),
}
