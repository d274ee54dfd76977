"""Guard: which unfinished job has a uniqueness guard, in SQL for the verbs that are refused because of it.

Two classes of keys share the unique index: a key itself is held by the job that runs, or waits and is the only one; the
key behind a mark by a newer request that waits beside it (see docs/explain/uniqueness.md).
"""

from __future__ import annotations


def holder_of_guard(row: str) -> str:
    """The id of the job that holds the guard of ``row`` (a table or its alias, with a ``workspace_id`` and a
    ``unique_key``), or of the one that waits to take its place; null when nobody has it, or the key is null."""
    return f"""coalesce(
            (
                select holder.id
                from jobplatform.job_queue holder
                where holder.workspace_id = {row}.workspace_id and holder.unique_key = {row}.unique_key
            ),
            (
                select successor.id
                from jobplatform.job_queue successor
                where successor.workspace_id = {row}.workspace_id and successor.unique_key = chr(30) || {row}.unique_key
            )
        )"""
