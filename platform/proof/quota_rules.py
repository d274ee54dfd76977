"""The rules about quotas: how much may wait, what is refused, and what is given up for something more important."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jobplatform.proof.changes import Changes, Scope
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.history import Event
from jobplatform.proof.replay import READY, RUNNING, SCHEDULED
from jobplatform.proof.starts import between_looks

Findings = Iterator[Finding]

INFINITY = float("inf")


def no_quota_is_overrun(evidence: Evidence) -> Findings:
    """From one look to the next, what waits grows by what is accepted, up to the quota, and by what goes back.

    What went back after a call had counted is in no number of that call. But what a look has seen that was over when
    the call began, the call has seen too.
    """
    censuses, changes = evidence.seen.censuses, evidence.changes
    accepted, returned = _comings(evidence.history)
    moments = [census.at for census in censuses]
    seen_in: dict[str, list[int]] = defaultdict(list)
    for number, (_, back) in enumerate(between_looks(censuses, returned)):
        for event in back:
            seen_in[_workspace(event)].append(number)
    before: Mapping[str, int] = {}
    for number, (census, new) in enumerate(between_looks(censuses, accepted)):
        quotas, since = _quotas_seen(new, changes)
        for workspace, waiting in census.waiting.items():
            if Scope("waiting", workspace) not in changes:
                continue
            known = min(number - 1, bisect_right(moments, since.get(workspace, INFINITY)) - 1)
            went_back = bisect_right(seen_in[workspace], number) - bisect_right(seen_in[workspace], known)
            allowed = max(before.get(workspace, 0), quotas.get(workspace, 0)) + went_back
            if waiting > allowed:
                yield Finding("quotas", None, f"{waiting} wait in workspace {workspace}, where {allowed:g} may")
        before = census.waiting


def nothing_refused_was_written(evidence: Evidence) -> Findings:
    for job_id in evidence.promises.refused & evidence.records.keys():
        yield Finding("quotas", job_id, "exists although its call was refused")


def only_less_important_jobs_are_given_up(evidence: Evidence) -> Findings:
    """And only for others of the same call."""
    priority = {job_id: row["priority"] for job_id, row in evidence.records.items()}
    calls: dict[tuple[str, str], list[int]] = defaultdict(list)
    given_up: list[Event] = []
    for event in evidence.history:
        if event.source == "job_queue" and event.before is None:
            calls[event.transaction, _workspace(event)].append(priority[event.job_id])
        elif event.source == "job_records" and is_shed(event.after) and not is_shed(event.before):
            given_up.append(event)
    for event in given_up:
        there = calls.get((event.transaction, _workspace(event)), [])
        if not there or priority[event.job_id] >= min(there):
            what = f"of priority {priority[event.job_id]} was given up for jobs of priorities {sorted(there)}"
            yield Finding("shed", event.job_id, what)


def is_shed(row: Mapping[str, Any] | None) -> bool:
    """Whether this record says that its job was given up for a more important one."""
    return row is not None and row["error_type"] == "Shed"


def _comings(history: Iterable[Event]) -> tuple[list[Event], list[Event]]:
    """What was accepted, and what went back to waiting after it had run."""
    accepted, returned = [], []
    for event in history:
        if event.source == "job_queue" and event.after is not None:
            if event.before is None:
                accepted.append(event)
            elif event.before["state"] == RUNNING and event.after["state"] in (SCHEDULED, READY):
                returned.append(event)
    return accepted, returned


def _quotas_seen(accepted: Iterable[Event], changes: Changes) -> tuple[dict[str, float], dict[str, float]]:
    """By workspace: the highest quota that a call can have seen, and when the first of the calls began."""
    quotas: dict[str, float] = {}
    since: dict[str, float] = {}
    for event in accepted:
        workspace = _workspace(event)
        most = changes.most(Scope("waiting", workspace), event.began, event.at)
        quotas[workspace] = max(quotas.get(workspace, 0), most)
        since[workspace] = min(since.get(workspace, INFINITY), event.began)
    return quotas, since


def _workspace(event: Event) -> str:
    row = event.after or event.before or {}
    return str(row["workspace_id"])


QUOTA_RULES = (no_quota_is_overrun, nothing_refused_was_written, only_less_important_jobs_are_given_up)
