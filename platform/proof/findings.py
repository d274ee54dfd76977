"""The rules a run is judged by, and what a broken one is called."""

from __future__ import annotations

from typing import NamedTuple

RULES = {
    "lost": "every acknowledged job exists and has ended",
    "phantom": "no job exists or ran that nobody asked for",
    "twice": "no job is completed twice, or changes after it completed",
    "stale": "no write is accepted from an attempt that is over",
    "unique": "one unfinished job at most for each workspace and key",
    "running": "no row is left running or waiting",
    "attempts": "attempts never above their maximum",
    "crashes": "crashes never above their cap",
    "pairs": "a queue row exists exactly while its record is not final",
    "epochs": "no epoch is handed out, or started, twice",
    "edges": "only legal changes of state",
    "rescue": "only jobs of dead workers are rescued",
    "poison": "a job that kills its process fails at exactly its cap of crashes",
    "effects": "what a handler wrote with its completion is there exactly once",
    "pages": "each page of a job that goes on where it was is applied once, and all of them if it completed",
    "outcomes": "every job ended as its task and its clients say",
    "waits": "no job runs before what it waits for has ended as it wants, and none is called off for no reason",
    "batches": "every batch is counted right, and every callback let go exactly once",
    "settled": "nothing is left to be settled",
    "limits": "never more running than a limit allows, and a lowered one lets nothing start beyond it",
    "levels": "never more running than an adaptive limit has found, lowered once for what was started before",
    "rates": "in no stretch of time do more units start than a bucket holds and what flows in",
    "pauses": "nothing starts while it is paused",
    "standstill": "what may start does while slots are free, within a few leases (no slot leaks)",
    "quotas": "no more waits than a quota allows, beside what went back",
    "shed": "only what is less important than all of a call is given up for it",
    "ticks": "every tick of every schedule is done once, and has one job",
    "vacuous": "every limit was reached, every pause held something up, every quota refused",
    "processes": "workers survive, stop when asked, and leave nobody behind",
}


class Finding(NamedTuple):
    """A broken rule, and the job that shows it (None when no job does). ``about`` is the rule that a vacuous run says
    nothing about."""

    rule: str
    job_id: str | None
    what: str
    about: str | None = None
