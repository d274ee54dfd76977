"""End waiting: what is written of a job whose row is gone while it waited, whoever took it away."""

from __future__ import annotations


def end_waiting(outcome: str, error_type: str = "", error: str = "", join: str = "") -> str:
    """The update of the records of the rows of ``gone``: workspace_id, id, attempts, crash_count, epoch and progress.

    ``error_type`` and ``error`` are SQL and say why, where that is more than the ``outcome``; ``join`` is what they
    need beside ``gone``. Such a job counts as cancelled.
    """
    why = f"error_type = {error_type},\n        error = {error},\n        " if error_type else ""
    return f"""update jobplatform.job_records r
    set status = 5,
        outcome = '{outcome}',
        {why}completed_at = jobplatform.clock(),
        attempts = gone.attempts,
        crash_count = gone.crash_count,
        epoch = gone.epoch,
        progress = gone.progress
    from gone{f" join {join}" if join else ""}
    where r.workspace_id = gone.workspace_id and r.id = gone.id"""
