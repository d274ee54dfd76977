"""Handlers whose jobs are replayed, and who hears what they say."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import StepError
from jobplatform.queue import Cancel, Discard, RunningJob, Skip, Snooze, Tasks

tasks = Tasks(mode="sync")

#: The application's own table.
TABLE = "create table deeds (deed text, attempt int); grant all on deeds to public"
#: What a handler may use beside job.session.
engines: list[Engine] = []
seen: list[Any] = []


class Ear:
    """What a replayed job says."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.interrupts: type[BaseException] | None = None

    def progress(self, report: str) -> None:
        self.said.append(json.loads(report))

    def log(self, level: str, message: str) -> None:
        self.said.append((level, message))

    def completing(self) -> None:
        self.said.append("completing")

    def interruption(self) -> type[BaseException] | None:
        return self.interrupts

    def at_most(self) -> AbstractContextManager[None]:
        return nullcontext()

    def taken_back(self, what: str) -> None:
        self.said.append(f"taken back: {what}")


@tasks.task("child")
def child(job: RunningJob, payload: dict[str, Any]) -> None:
    """Never run: what enqueues it is taken back."""
    raise AssertionError("a child of a replay ran")


@tasks.task("work", max_attempts=2)
def work(job: RunningJob, payload: dict[str, Any]) -> Any:
    """Three steps, of which the last goes wrong until the payload says otherwise."""
    job.progress(1, 3, "begun")
    names = []
    for name in ("first", "second", "third"):
        with job.step(name) as step:
            names.append(f"{name}: {'done' if step else 'again'}" if not step.done else f"{name}: kept {step.result}")
            if step:
                note(job.session, job, name)
                job.enqueue(child, {})
                step.result = name.upper()
                if name == "third" and not payload.get("well"):
                    job.log("the far side hangs up", "warning")
                    raise RuntimeError("the far side said no")
    seen.append((job.id, job.attempt, job.max_attempts, job.is_replay, names))
    job.checkpoint({"at": "the end"}, parts={"two": "of this run"})
    return {"steps": names, "rows": rows(job.session), "parts": job.checkpoint_parts}


@tasks.task("say")
def say(job: RunningJob, payload: dict[str, Any]) -> Any:
    """End as the payload says."""
    note(job.session, job, "said")
    outcomes = {"skip": Skip("nothing"), "snooze": Snooze(30), "discard": Discard("broken"), "cancel": Cancel("no")}
    return outcomes[payload["how"]]


@tasks.task("complete")
def complete(job: RunningJob, payload: dict[str, Any]) -> None:
    note(job.session, job, "completed")
    job.complete_in(job.session, {"by": "itself"})
    job.session.commit()


@tasks.task("elsewhere")
def elsewhere(job: RunningJob, payload: dict[str, Any]) -> None:
    """Everything by a Session that the platform knows nothing of."""
    with Session(engines[-1]) as own:
        with job.step("first", session=own) as step:
            if step:
                note(own, job, "first")
        own.commit()
        note(own, job, "second")
        job.complete_in(own, "done")
        own.commit()


@tasks.task("past_the_session")
def past_the_session(job: RunningJob, payload: dict[str, Any]) -> None:
    """Commit what the Session holds by what is beneath it, twice, as whoever copies rows in portions does."""
    connection = job.session.connection()
    commits = {
        "connection": connection.commit,
        "driver": connection.connection.commit,
        "statement": lambda: connection.exec_driver_sql("commit"),
    }
    for _ in range(2):
        try:
            note(job.session, job, payload["by"])
            commits[payload["by"]]()
        except Exception as error:  # noqa: BLE001 - it goes on with the next portion
            seen.append(str(error))


@tasks.task("behind_the_session")
def behind_the_session(job: RunningJob, payload: dict[str, Any]) -> str:
    """Write and commit by what the driver is told, go on whatever it answers, and do it all again."""
    connection = job.session.connection()
    driver: Any = connection.connection.driver_connection
    job.session.execute(text("select 1"))
    for _ in range(3):
        for act in payload["acts"]:
            try:
                _act(job, connection, driver, act)
            except Exception as error:  # noqa: BLE001 - it goes on with the next
                seen.append(str(error))
    return "done"


def _act(job: RunningJob, connection: Connection, driver: Any, act: str) -> None:
    match act:
        case "driver.autocommit":
            driver.autocommit = True
        case "driver.tpc":
            driver.tpc_begin("a_replay")
        case "driver.pipeline":
            with driver.pipeline():
                driver.execute("insert into deeds values ('in a pipeline', 1)")
                driver.execute("commit")
        case "driver.copy":
            with driver.cursor().copy("copy deeds from stdin") as copy:
                copy.write_row(("copied", 1))
        case "connection.commit":
            connection.commit()
        case "connection.rollback":
            connection.rollback()
        case "session.commit":
            note(job.session, job, "by the session")
            job.session.commit()
        case "session.rollback":
            job.session.rollback()
        case "terminate":
            with engines[-1].connect() as other:
                other.execute(text("select pg_terminate_backend(:pid)"), {"pid": driver.info.backend_pid})
        case _:
            driver.cursor().execute(act)


@tasks.task("spread")
def spread(job: RunningJob, payload: dict[str, Any]) -> list[str]:
    """What one Session has committed another one of the job sees, and neither sees another workspace."""
    note(job.session, job, "committed")
    job.session.commit()
    note(job.session, job, "rolled back")
    job.session.rollback()
    note(job.session, job, "open")
    with job.looking() as session:
        session.execute(text("select 1 from deeds"))
    return [
        *job.session.scalars(text("select deed from deeds order by deed")),
        *job.session.scalars(text("select current_user::text")),
        *job.session.scalars(text("select count(distinct workspace_id)::text from jobplatform.job_records")),
    ]


@tasks.task("secret", encrypted=True)
def secret(job: RunningJob, payload: dict[str, Any]) -> Any:
    job.log(f"its word is {payload['word']}")
    answered = job.step("answer", lambda: payload["word"][::-1])
    if not payload.get("well"):
        raise RuntimeError(f"{answered} is not it")
    return answered


@tasks.task("twice")
def twice(job: RunningJob, payload: dict[str, Any]) -> None:
    job.step("once", lambda: 1)
    try:
        job.step("once", lambda: 2)
    except StepError as error:
        raise RuntimeError(str(error)) from None


@tasks.batch_task("items", size=10)
def items(batch: Any) -> Any:
    return {item.job.id: item.payload for item in batch}


@tasks.task("wait")
async def wait(job: RunningJob, payload: dict[str, Any]) -> str:
    note(job.session, job, "awaited")
    return "awaited"


def note(session: Session, job: RunningJob, deed: str) -> None:
    session.execute(text("insert into deeds values (:deed, :attempt)"), {"deed": deed, "attempt": job.attempt})


def rows(session: Session) -> list[str]:
    return list(session.scalars(text("select deed from deeds order by deed")))


@tasks.task("hang")
def hang(job: RunningJob, payload: dict[str, Any]) -> None:
    """Until it is told to stop, in the middle of a statement."""
    job.log("it begins")
    try:
        job.session.execute(text("select pg_sleep(60)"))
    finally:
        print("cleaned up")  # noqa: T201 - a handler may


@tasks.task("hang_async")
async def hang_async(job: RunningJob, payload: dict[str, Any]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up")  # noqa: T201 - a handler may


@tasks.task("ask")
def ask(job: RunningJob, payload: dict[str, Any]) -> None:
    """Longer than a millisecond, and it asks."""
    job.session.execute(text("select pg_sleep(0.05)"))
    job.check()


@tasks.task("chatty")
def chatty(job: RunningJob, payload: dict[str, Any]) -> dict[str, int]:
    print("printed")  # noqa: T201 - a handler may
    job.log("a line")
    return {"n": 1}


@tasks.task("look")
def look(job: RunningJob, payload: dict[str, Any]) -> str:
    return str(job.session.scalar(text("select current_user")))
