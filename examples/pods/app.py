"""Machines for hire ("pods"): provisioned, looked after and cleaned up in the background.

What a job queue is for in such a service: work that calls other machines and is tried again, work for hundreds of pods
at once, errors that no second try will mend, and somebody who wants to know how it is going.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from flask import Flask, request
from sqlalchemy import DateTime, delete, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.models import Role, confine, make_engine
from jobplatform.queue import (
    AlertEvent,
    Discard,
    Items,
    Keep,
    RetryPolicy,
    RunningJob,
    Tasks,
    failed_jobs,
    queue_size,
    queue_stats,
    reveal,
)

TIERS = {"dev.small", "dev.large"}
SOON = RetryPolicy(max_attempts=3, base=1.0, cap=60.0)

tasks = Tasks()


# Tables of this application


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}


class Pod(Base):
    __tablename__ = "pods"
    id: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    name: Mapped[str]
    tier: Mapped[str]
    status: Mapped[str] = mapped_column(default="requested")
    address: Mapped[str | None]
    error: Mapped[str | None]
    restarts: Mapped[int] = mapped_column(default=0)
    checked_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Metric(Base):
    __tablename__ = "pod_metrics"
    id: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    pod_id: Mapped[int]
    load: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Notice(Base):
    """What somebody should know: mails to users, alerts to ourselves."""

    __tablename__ = "notices"
    id: Mapped[int] = mapped_column(primary_key=True)
    recipient: Mapped[str]
    text: Mapped[str]


# Jobs


@dataclass(frozen=True)
class OnePod:
    pod_id: int


@dataclass(frozen=True)
class Mail:
    recipient: str
    text: str


@dataclass(frozen=True)
class Nothing:
    pass


@tasks.task(
    "provision_pod", priority=10, retry=SOON, timeout=timedelta(minutes=5), unique=lambda payload: str(payload.pod_id)
)
def provision_pod(job: RunningJob, payload: OnePod) -> None:
    """Once for each pod at a time, whoever asks how often. Before everything of lower priority."""
    pod = job.session.get_one(Pod, payload.pod_id)
    if pod.tier not in TIERS:
        # No second try will make this tier exist: failed at once, and shown among the failed jobs.
        pod.status, pod.error = "failed", f"there is no tier {pod.tier!r}"
        job.session.commit()
        raise Discard(pod.error)
    job.progress(1, total=2, message="creating")
    answer = httpx.post(f"{os.environ['POD_HOST']}/create-pod", json={"pod": pod.id, "tier": pod.tier}, timeout=30)
    answer.raise_for_status()  # anything else is tried again, later and later
    pod.status, pod.address, pod.updated_at = "running", answer.json()["address"], datetime.now(UTC)
    send_email.enqueue(job.session, Mail("owner", f"{pod.name} is running"), workspace_id=job.workspace_id)
    job.complete_in(job.session)  # the pod, the mail and the completion: one commit


@tasks.task("cleanup_pod", priority=10, max_attempts=1)
def cleanup_pod(job: RunningJob, payload: OnePod) -> None:
    pod = job.session.get_one(Pod, payload.pod_id)
    pod.status, pod.updated_at = "terminated", datetime.now(UTC)
    job.complete_in(job.session)


@tasks.task("restart_pod", retry=SOON, unique=lambda payload: str(payload.pod_id))
def restart_pod(job: RunningJob, payload: OnePod) -> None:
    httpx.post(f"{os.environ['POD_HOST']}/restart-pod", json={"pod": payload.pod_id}, timeout=30).raise_for_status()
    pod = job.session.get_one(Pod, payload.pod_id)
    pod.status, pod.restarts = "running", pod.restarts + 1
    job.complete_in(job.session)


# Every five minutes for every pod: what they say is old in an hour, so their jobs are not kept for longer.
@tasks.batch_task("check_pod", size=5, queue="health", max_attempts=1, keep=Keep(completed=timedelta(hours=1)))
def check_pod(batch: Items[OnePod]) -> list[bool]:
    """Up to five pods of a workspace in one call, asked side by side; each is a job with a result of its own."""
    pods = [batch.session.get_one(Pod, item.payload.pod_id) for item in batch]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(_answers, [pod.id for pod in pods]))
    for item, pod, healthy in zip(batch, pods, answers, strict=True):
        pod.status, pod.checked_at = "running" if healthy else "unhealthy", datetime.now(UTC)
        if not healthy:
            item.job.enqueue(restart_pod, item.payload)
    return answers


@tasks.cron("*/5 * * * *", every_workspace=True, spread=timedelta(minutes=2))
@tasks.task("check_all_pods", queue="health", unique="workspace")
def check_all_pods(job: RunningJob, _payload: Nothing) -> int:
    """Bulk: one statement enqueues a check of each pod that should be running. Not all workspaces in one second."""
    ids = job.session.scalars(select(Pod.id).where(Pod.status.in_(["running", "unhealthy"]))).all()
    checks = [check_pod.new_job(OnePod(pod_id), workspace_id=job.workspace_id) for pod_id in ids]
    tasks.enqueue_many(job.session, checks)
    job.complete_in(job.session, len(checks))
    return len(checks)


@tasks.cron("0 * * * *", every_workspace=True, spread=timedelta(minutes=10))
@tasks.task("cleanup_old", unique="workspace", keep=Keep(completed=timedelta(days=1)))
def cleanup_old(job: RunningJob, _payload: Nothing) -> dict[str, int]:
    """Hourly: metrics of five days ago, and pods that were terminated a week ago."""
    now = datetime.now(UTC)
    old = {
        "metrics": delete(Metric).where(Metric.created_at < now - timedelta(days=5)),
        "pods": delete(Pod).where(Pod.status == "terminated", Pod.updated_at < now - timedelta(days=7)),
    }
    deleted = {name: job.session.execute(statement).rowcount for name, statement in old.items()}  # type: ignore[attr-defined]
    job.complete_in(job.session, deleted)
    return deleted


@tasks.task("send_email", priority=-10)
def send_email(job: RunningJob, payload: Mail) -> None:
    """Last in line: nobody waits for a mail."""
    job.session.add(Notice(recipient=payload.recipient, text=payload.text))
    job.complete_in(job.session)


def _answers(pod_id: int) -> bool:
    try:
        return httpx.get(f"{os.environ['POD_HOST']}/pods/{pod_id}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


# Too much of what, and who wants to know


tasks.alert("provisioning_is_slow", "oldest_ready_seconds", above=60, task="provision_pod")
tasks.alert("many_failures", "failed_last_hour", above=100)


@tasks.on_alert
def tell_us(job: RunningJob, event: AlertEvent) -> None:
    """Once when it begins and once when it is over, however many workers there are."""
    job.session.add(Notice(recipient="on-call", text=f"{event.event}: {event.message}"))
    job.complete_in(job.session)


# The application


def request_pods(session: Session, workspace_id: UUID, names: Iterable[str], tier: str) -> list[Pod]:
    """The pods and the jobs that make them: all of them are there, or none is."""
    pods = [Pod(workspace_id=workspace_id, name=name, tier=tier) for name in names]
    session.add_all(pods)
    session.flush()
    tasks.enqueue_many(session, [provision_pod.new_job(OnePod(pod.id), workspace_id=workspace_id) for pod in pods])
    return pods


def create_app() -> Flask:
    engine = make_engine(os.environ["DATABASE_URL"])
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)  # /api/jobs/health, /api/jobs/stats, `flask jobs …`

    @app.post("/pods/<uuid:workspace_id>")
    def create_pods(workspace_id: UUID) -> tuple[dict[str, Any], int]:
        body = request.json
        with sessions.begin() as session:
            pods = request_pods(session, workspace_id, body["names"], body.get("tier", "dev.small"))
            return {"podIds": [pod.id for pod in pods]}, 202

    @app.delete("/pods/<uuid:workspace_id>/<int:pod_id>")
    def delete_pod(workspace_id: UUID, pod_id: int) -> tuple[dict[str, Any], int]:
        """In a minute: until then the user may change their mind."""
        delay = timedelta(seconds=request.args.get("delay", 60, type=float))
        with sessions.begin() as session:
            answer = cleanup_pod.enqueue(session, OnePod(pod_id), workspace_id=workspace_id, delay=delay, priority=20)
            return {"jobId": str(answer.job_id)}, 202

    @app.post("/pods/<uuid:workspace_id>/check")
    def check_pods(workspace_id: UUID) -> tuple[dict[str, Any], int]:
        with sessions.begin() as session:
            answer = check_all_pods.enqueue(session, workspace_id=workspace_id)
            return {"jobId": str(answer.job_id), "created": answer.created}, 202

    @app.get("/admin/jobs")
    def overview() -> dict[str, Any]:
        """What the people who run this look at in the morning; of every customer, so as an operator."""
        with sessions.begin() as session:
            confine(session, Role.OPERATOR)
            failed = failed_jobs(session, limit=100).jobs
            reveal(session, failed, to_reader=False)
            return {
                "byStatus": queue_stats(session).by_status,
                "waiting": {name: queue_size(session, name) for name in ("default", "health")},
                "failed": [{"task": job.job_type, "error": job.error} for job in failed],
            }

    return app
