"""``jobplatform prune``."""

from __future__ import annotations

import datetime
from collections import Counter

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, make_console, print_json
from jobplatform.models import Role, confine
from jobplatform.queue import (
    Keeps,
    count_due,
    count_pages,
    forget_deliveries,
    forget_periods,
    forget_the_past,
    prune_pages,
)
from jobplatform.settings import Settings
from jobplatform.wording import plural


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count what is due.")
@as_json_option
def prune(dry_run: bool, as_json: bool) -> None:
    """Delete what is older than it is kept, now: jobs, and lines of the audit log. Workers do so all the time.

    A thousand jobs at a time, each batch committed by itself; it can be interrupted. With the rights of a worker.
    """
    keeps = _keeps(Settings.from_env())
    with open_session(role=None) as session:
        confine(session, Role.WORKER)
        if dry_run:
            counts = _count(session, keeps)
            _tell(counts, as_json=as_json, done=False)
            return
        jobs, lines = _prune(session, keeps, quiet=as_json)
        # The line is an operator's to write, in the transaction of the last batch.
        confine(session, Role.OPERATOR)
        audit(session, "jobs.prune", "jobs:old", jobs=jobs, auditLines=lines)
    _tell({"jobs": jobs, "auditLines": lines}, as_json=as_json, done=True)


def _keeps(settings: Settings) -> Keeps:
    return Keeps(
        datetime.timedelta(days=settings.completed_retention_days),
        datetime.timedelta(days=settings.failed_retention_days),
        datetime.timedelta(days=settings.audit_retention_days),
    )


def _count(session: Session, keeps: Keeps) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for some in count_due(session, keeps):
        counts.update(some)
        session.commit()
    return dict(counts)


def _prune(session: Session, keeps: Keeps, *, quiet: bool) -> tuple[int, int]:
    from rich.progress import Progress

    jobs = lines = page = 0
    while some := forget_the_past(session, keeps):
        lines += some
        session.commit()
    for forget in (forget_deliveries, forget_periods):
        while forget(session):
            session.commit()
    with Progress(console=make_console(), disable=quiet, transient=True) as bar:
        task = bar.add_task("pages", total=count_pages(session))
        while True:
            pruned = prune_pages(session, keeps, page)
            jobs, page = jobs + pruned.jobs, pruned.next_page
            bar.update(task, completed=page)
            if pruned.done:
                return jobs, lines
            session.commit()


def _tell(counts: dict[str, int], *, as_json: bool, done: bool) -> None:
    if as_json:
        print_json({"dryRun": not done, **counts})
    elif done:
        jobs, lines = plural(counts["jobs"], "job"), plural(counts["auditLines"], "line")
        click.echo(f"{jobs} and {lines} of the audit log are deleted")
    else:
        words = ", ".join(plural(count, f"{status} job") for status, count in sorted(counts.items()))
        click.echo(f"would delete {words}" if words else "nothing is due")
