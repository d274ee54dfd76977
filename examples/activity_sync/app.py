"""A running club: what its members record with Strava counts towards their progress, as soon as it is there.

Strava wants its webhook answered within two seconds; reading an activity and working through its points takes longer.
So it delivers to a hook of the platform, which answers at once when the job is there, once however often it is told.
The job does the rest: is this a member, was it done before, a new token if the old one has run out, the activity and
its streams, the rows, and the member's progress.

To try it, with a stand-in for Strava instead of an account:

    python examples/activity_sync/fake_strava.py 9001
    export DATABASE_URL=postgresql://… JOBPLATFORM_TRUST_LOGIN=true  # a superuser, to try it
    export JOBPLATFORM_ENCRYPTION_KEYS=$(jobplatform keys generate 2026)
    export JOBPLATFORM_OAUTH_CLIENTS=strava:12345:client-secret-of-the-application
    export JOBPLATFORM_OAUTH_REDIRECT_URL=http://127.0.0.1:5000/clubs/connected
    export STRAVA_URL=http://127.0.0.1:9001 JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true  # not with Strava itself
    export CLUB_URL=http://127.0.0.1:5000/api STRAVA_VERIFY_TOKEN=tell-me-this
    jobplatform migrate
    # Handlers have no right to your own tables until you grant it.
    psql "$DATABASE_URL" -c 'alter default privileges grant all on tables to jobplatform_handler'
    flask --app examples/activity_sync/app run
    cd examples/activity_sync && JOBPLATFORM_TASKS=app:tasks jobplatform worker

Then, of a club with any UUID: POST /clubs/<uuid>/members answers where to consent; POST /clubs/<uuid>/webhook answers
the address that Strava is to be subscribed with, and delivers to.
"""

import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask, abort, request
from sqlalchemy import BigInteger, DateTime, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.connectors import (
    Returned,
    begin_authorization,
    create_connection,
    exchange_code,
    get_connection,
    keep_authorized,
    open_connector,
    take_authorization,
)
from jobplatform.errors import AuthorizationError, SourceAnswerError, SourceBusyError
from jobplatform.models import Connection, make_engine
from jobplatform.queue import (
    HookEvent,
    RateLimited,
    RetryPolicy,
    RunningJob,
    Skip,
    Tasks,
    change_hook,
    create_hook,
    find_hook,
)
from jobplatform.settings import Settings

#: What Strava answers for an activity that was deleted, or that its owner does not show: another try brings the same.
GONE = (403, 404)
STREAMS = ("time", "latlng", "altitude")

tasks = Tasks()


# Tables of this application


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB, int: BigInteger}


class Member(Base):
    __tablename__ = "members"
    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    athlete_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    connection_id: Mapped[UUID]
    is_active: Mapped[bool] = mapped_column(default=True)


class Activity(Base):
    __tablename__ = "activities"
    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    athlete_id: Mapped[int]
    name: Mapped[str]
    started_at: Mapped[datetime]
    distance: Mapped[float]
    climbed: Mapped[float]
    streams: Mapped[dict[str, Any]]
    is_processed: Mapped[bool] = mapped_column(default=False)


class Progress(Base):
    """What a member has done in a month."""

    __tablename__ = "progress"
    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    athlete_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    month: Mapped[datetime] = mapped_column(primary_key=True)
    activities: Mapped[int]
    distance: Mapped[float]
    climbed: Mapped[float]


# The job


@dataclass(frozen=True)
class ActivityEvent:
    """What Strava tells of an activity, or of an athlete."""

    object_type: str
    object_id: int
    aspect_type: str
    owner_id: int
    authorized: bool

    @classmethod
    def told_by(cls, delivery: HookEvent) -> "ActivityEvent":
        told: dict[str, Any] = delivery.event
        authorized = told.get("updates", {}).get("authorized") != "false"
        return cls(told["object_type"], told["object_id"], told["aspect_type"], told["owner_id"], authorized)


@tasks.task(
    "process_activity",
    queue="activities",
    max_attempts=5,
    retry=RetryPolicy(base=2.0),
    timeout=timedelta(minutes=5),
)
def process_activity(job: RunningJob, delivery: HookEvent) -> dict[str, Any] | Skip:
    event = ActivityEvent.told_by(delivery)
    member = job.session.get(Member, (job.workspace_id, event.owner_id))
    if member is None or not member.is_active:
        return Skip(f"athlete {event.owner_id} is no member, or has left")
    if event.object_type == "athlete":
        return left(job, member, event)
    if event.aspect_type == "delete":
        return forget(job, event)
    if event.aspect_type == "create" and was_processed(job, event):
        return Skip(f"activity {event.object_id} was processed before")
    connection = get_connection(job.session, job.workspace_id, member.connection_id)
    job.session.expunge_all()
    job.session.commit()  # Strava takes its time: nothing is kept open meanwhile.
    if connection is None:
        return Skip("the member's connection is gone")
    job.progress(1, 3, "reading the activity")
    try:
        found, streams = fetch(job.session, connection, event.object_id)
    except SourceAnswerError as error:
        if error.status not in GONE:
            raise
        return Skip(f"activity {event.object_id} is not to be had: {error}")
    except SourceBusyError as error:
        raise RateLimited(error.retry_after) from error
    job.progress(2, 3, "working through its points")
    activity = save(job, event, found, streams)
    month = process(job.session, activity)
    result = {"activity": activity.id, "month": f"{month:%Y-%m}", "points": points_in(streams)}
    job.complete_in(job.session, result)  # The rows, and that the job is done: one commit.
    return result


def fetch(session: Session, connection: Connection, activity_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The activity and its streams; a token that has run out is renewed on the way."""
    with open_connector(session, connection, Settings.from_env().allow_private_addresses) as strava:
        return strava.activity(activity_id), strava.activity_streams(activity_id, STREAMS)


def was_processed(job: RunningJob, event: ActivityEvent) -> bool:
    found = job.session.get(Activity, (job.workspace_id, event.object_id))
    return found is not None and found.is_processed


def save(job: RunningJob, event: ActivityEvent, found: dict[str, Any], streams: dict[str, Any]) -> Activity:
    activity = Activity(
        workspace_id=job.workspace_id,
        id=event.object_id,
        athlete_id=event.owner_id,
        name=found["name"],
        started_at=datetime.fromisoformat(found["start_date"]),
        distance=found["distance"],
        climbed=climbed_in(streams),
        streams=streams,
    )
    return job.session.merge(activity)


def process(session: Session, activity: Activity) -> datetime:
    """Count the member's month anew: however often that is done, the numbers are the same."""
    activity.is_processed = True
    session.flush()
    return count_month(session, activity.workspace_id, activity.athlete_id, activity.started_at)


def count_month(session: Session, workspace_id: UUID, athlete_id: int, moment: datetime) -> datetime:
    # A database tells moments in a time zone of its own.
    month = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + timedelta(days=32)).replace(day=1)
    # Two jobs of one member take turns: the second counts what the first has written.
    session.get_one(Member, (workspace_id, athlete_id), with_for_update=True)
    counted = select(
        func.count(), func.coalesce(func.sum(Activity.distance), 0), func.coalesce(func.sum(Activity.climbed), 0)
    ).where(
        Activity.workspace_id == workspace_id,
        Activity.athlete_id == athlete_id,
        Activity.is_processed,
        Activity.started_at >= month,
        Activity.started_at < following,
    )
    activities, distance, climbed = session.execute(counted).one()
    numbers = {"activities": activities, "distance": distance, "climbed": climbed}
    row = insert(Progress).values(workspace_id=workspace_id, athlete_id=athlete_id, month=month, **numbers)
    session.execute(row.on_conflict_do_update(index_elements=["workspace_id", "athlete_id", "month"], set_=numbers))
    return month


def forget(job: RunningJob, event: ActivityEvent) -> dict[str, Any] | Skip:
    activity = job.session.get(Activity, (job.workspace_id, event.object_id))
    if activity is None:
        return Skip(f"activity {event.object_id} was never here")
    job.session.execute(delete(Activity).where(Activity.workspace_id == job.workspace_id, Activity.id == activity.id))
    count_month(job.session, job.workspace_id, activity.athlete_id, activity.started_at)
    result = {"forgotten": event.object_id}
    job.complete_in(job.session, result)
    return result


def left(job: RunningJob, member: Member, event: ActivityEvent) -> dict[str, Any] | Skip:
    """The member has taken the access back, at Strava."""
    if event.authorized:
        return Skip("nothing has changed for us")
    member.is_active = False
    result = {"left": event.owner_id}
    job.complete_in(job.session, result)
    return result


def climbed_in(streams: dict[str, Any]) -> float:
    heights = streams.get("altitude", {}).get("data", [])
    return sum(max(0.0, after - before) for before, after in itertools.pairwise(heights))


def points_in(streams: dict[str, Any]) -> int:
    return len(streams.get("latlng", {}).get("data", []))


# The web process


def create_app() -> Flask:
    engine = make_engine(os.environ["DATABASE_URL"])
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)  # GET /api/workspaces/<id>/jobs/<id>, and the rest of the API

    @app.post("/clubs/<uuid:workspace_id>/members")
    def join(workspace_id: UUID) -> tuple[dict[str, Any], int]:
        """A connection without credentials yet, and Strava's page where the athlete consents to it."""
        settings = Settings.from_env()
        with sessions.begin() as session:
            made = create_connection(
                session,
                workspace_id,
                connector_type="strava",
                name=f"Strava of {user()}",
                config={"baseUrl": os.environ["STRAVA_URL"]} if "STRAVA_URL" in os.environ else {},
            )
            begun = begin_authorization(
                session,
                made,
                actor=user(),
                clients=settings.oauth_clients,
                redirect_url=settings.oauth_redirect_url,
            )
            return {"connectionId": str(made.id), "authorizeUrl": begun.authorize_url}, 201

    @app.get("/clubs/connected")
    def joined() -> tuple[dict[str, Any], int]:
        """Where Strava's page leads back to. It says whose account it is: from now on that is a member."""
        said = {name: request.args.get(name) for name in ("code", "scope", "error", "error_description")}
        returned = Returned(request.args.get("state", ""), **said)
        settings = Settings.from_env()
        try:
            with sessions.begin() as session:  # The state is used up, whatever comes of it.
                taken = take_authorization(session, returned.state, actor=user())
            if isinstance(taken, AuthorizationError):
                raise taken
            tokens = exchange_code(taken, returned, clients=settings.oauth_clients)
            with sessions.begin() as session:  # The credentials and the member: both, or neither.
                made = keep_authorized(session, tokens)
                athlete_id = tokens.also["athlete"]["id"]
                session.merge(
                    Member(
                        workspace_id=taken.workspace_id, athlete_id=athlete_id, connection_id=made.id, is_active=True
                    )
                )
                return {"athleteId": athlete_id, "connectionId": str(made.id)}, 201
        except AuthorizationError as error:
            return {"error": str(error), "reason": error.reason}, 400

    @app.post("/clubs/<uuid:workspace_id>/webhook")
    def open_webhook(workspace_id: UUID) -> tuple[dict[str, str], int]:
        """The address to subscribe with. Strava does not sign: who knows it, and the subscription's number, is Strava.

        What comes there is the platform's affair: handshake, subscription, repeats, and the job of each event.
        """
        with sessions.begin() as session:
            made = create_hook(
                session,
                process_activity,
                workspace_id=workspace_id,
                name="Strava",
                scheme="strava",
                secret=os.environ["STRAVA_VERIFY_TOKEN"],
                base_url=os.environ["CLUB_URL"],
            )
            return {"hookId": str(made.id), "callbackUrl": made.url}, 201

    @app.put("/clubs/<uuid:workspace_id>/webhook/<uuid:hook_id>")
    def subscribed(workspace_id: UUID, hook_id: UUID) -> tuple[str, int]:
        """Strava has answered the subscription with its number: from now on its events are taken."""
        with sessions.begin() as session:
            hook = find_hook(session, workspace_id, hook_id)
            if hook is None:
                abort(404)
            change_hook(session, hook, subscription_id=str(request.json["subscription"]))
        return "", 204

    return app


def user() -> str:
    """Who is signed in. Here whoever says so; in an application of yours its session knows."""
    return request.headers.get("X-User", "ada")
