"""What an application does by the clock: nightly retention of an audit log, mails every half minute, a reminder later.

export DATABASE_URL=postgresql://…
JOBPLATFORM_TASKS=app:tasks jobplatform worker     # writes the schedules down, and does what is due
flask --app app:create_app run                     # the routes below, and the platform's API under /api
JOBPLATFORM_TASKS=app:tasks jobplatform schedules run-now audit.retention
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask, request
from sqlalchemy import delete, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.models import make_engine
from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()

ARCHIVED_AFTER = timedelta(days=365)
PURGED_AFTER = timedelta(days=2555)
MAILS_EVERY = timedelta(seconds=float(os.environ.get("MAILS_EVERY", "30")))


class Base(DeclarativeBase):
    pass


class AuditEvent(Base):
    __tablename__ = "audit_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    what: Mapped[str]
    archived: Mapped[bool] = mapped_column(default=False)


class Mail(Base):
    __tablename__ = "mails"
    id: Mapped[int] = mapped_column(primary_key=True)
    to: Mapped[str]
    sent: Mapped[bool] = mapped_column(default=False)


# Cron: at three in the night, there, whatever is done to the clocks.
@tasks.cron("0 3 * * *", timezone="Europe/Berlin")
@tasks.task("audit.retention", unique="workspace")
def retain_audit_events(job: RunningJob, _payload: dict[str, Any]) -> dict[str, int]:
    """Archive what is older than a year, purge what was archived and is older than seven."""
    now = datetime.now(UTC)
    old = update(AuditEvent).where(AuditEvent.at < now - ARCHIVED_AFTER, ~AuditEvent.archived)
    archived = job.session.execute(old.values(archived=True).returning(AuditEvent.id)).all()
    ancient = delete(AuditEvent).where(AuditEvent.at < now - PURGED_AFTER, AuditEvent.archived)
    purged = job.session.execute(ancient.returning(AuditEvent.id)).all()
    done = {"archived": len(archived), "purged": len(purged)}
    job.complete_in(job.session, done)
    return done


# Interval: from a fixed anchor, so it does not drift; a round that takes longer is not joined by a second one.
@tasks.every(MAILS_EVERY)
@tasks.task("mail.process-queue", unique="workspace")
def process_mails(job: RunningJob, _payload: dict[str, Any]) -> dict[str, int]:
    """Send what waits to be sent."""
    waiting = job.session.scalars(select(Mail).where(~Mail.sent).with_for_update(skip_locked=True)).all()
    for mail in waiting:
        mail.sent = True
    job.complete_in(job.session, {"sent": len(waiting)})
    return {"sent": len(waiting)}


# Delayed: enqueued by a request, to run later.
@tasks.task("order.remind")
def remind(job: RunningJob, payload: dict[str, Any]) -> None:
    """Put a reminder among the mails."""
    job.session.add(Mail(to=payload["customer"]))
    job.complete_in(job.session)


def create_app() -> Flask:
    engine = make_engine(os.environ["DATABASE_URL"])
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)

    @app.post("/shop/<uuid:workspace_id>/reminders")
    def remind_later(workspace_id: UUID) -> tuple[dict[str, object], int]:
        delay = timedelta(seconds=request.json["seconds"])
        with sessions.begin() as session:
            job = remind.enqueue(session, request.json, workspace_id=workspace_id, delay=delay)
        return {"jobId": str(job.job_id)}, 202

    return app
