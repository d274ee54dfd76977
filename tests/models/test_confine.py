"""A Session that is told whose it is sees nothing else, in every transaction, and leaves nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.errors import SettingsError
from jobplatform.models import Role, confine, make_engine, set_free
from jobplatform.queue import NewJob, cancel_job, enqueue_job, enqueue_jobs, get_job, list_jobs

SEEN = text("select distinct workspace_id from jobplatform.jobs order by 1")
SAID = text("select current_setting('role'), current_setting('jobplatform.workspace_id', true)")


@pytest.fixture
def mine(workspace_id: uuid.UUID) -> uuid.UUID:
    return workspace_id


@pytest.fixture
def theirs() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture
def _jobs(session: Session, mine: uuid.UUID, theirs: uuid.UUID) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=workspace, task="work") for workspace in (mine, theirs)])
    session.commit()


@pytest.fixture
def make(login_url: Callable[..., str]) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(*roles: Role, **options: Any) -> Engine:
        engines.append(make_engine(login_url(*roles), pool_size=1, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def api(make: Callable[..., Engine]) -> Engine:
    """The API's login, with one connection that everybody has to share."""
    return make(Role.API)


def seen(session: Session) -> list[Any]:
    return list(session.scalars(SEEN))


@pytest.mark.usefixtures("_jobs")
def test_a_confined_session_sees_its_workspace_in_every_transaction(api: Engine, mine: uuid.UUID) -> None:
    with confine(Session(api), Role.API, mine) as session:
        first = seen(session)
        session.commit()
        second = seen(session)
        session.rollback()

        assert (first, second, seen(session)) == ([mine], [mine], [mine])


@pytest.mark.usefixtures("_jobs")
@pytest.mark.parametrize("end", ["commit", "rollback", "close", "invalidate"])
def test_the_next_user_of_a_connection_inherits_nothing(api: Engine, mine: uuid.UUID, end: str) -> None:
    with confine(Session(api), Role.API, mine) as session:
        assert seen(session) == [mine]
        getattr(session, end)()

    with Session(api) as session:
        assert tuple(session.execute(SAID).one()) in (("none", ""), ("none", None))
        assert seen(session) == []
    with confine(Session(api), Role.API) as session:
        assert seen(session) == []


@pytest.mark.usefixtures("_jobs")
def test_a_workspace_that_somebody_set_for_the_whole_connection_is_not_inherited(api: Engine, mine: uuid.UUID) -> None:
    with Session(api) as careless:
        careless.execute(text(f"set jobplatform.workspace_id = '{mine}'"))
        careless.commit()

    with confine(Session(api), Role.API) as session:
        assert seen(session) == []


@pytest.mark.usefixtures("_jobs")
def test_begin_and_what_there_is_to_say_are_one_round_trip(api: Engine, mine: uuid.UUID) -> None:
    sent: list[str] = []
    with confine(Session(api), Role.API, mine) as session:
        session.execute(SEEN)
        session.commit()
        event.listen(api, "before_cursor_execute", lambda *about: sent.append(about[2]))

        session.execute(SEEN)

        assert sent == [SEEN.text]


@pytest.mark.usefixtures("_jobs")
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_confined_session_may_have_an_isolation_level(api: Engine, mine: uuid.UUID, level: str) -> None:
    with confine(Session(api.execution_options(isolation_level=level)), Role.API, mine) as session:
        assert seen(session) == [mine]
        found = session.scalar(text("select current_setting('transaction_isolation')"))
        assert str(found).upper() == level


def test_a_session_without_transactions_cannot_be_confined(make: Callable[..., Engine], mine: uuid.UUID) -> None:
    session = confine(Session(make(Role.API, autocommit=True)), Role.API, mine)

    with session, pytest.raises(RuntimeError, match="one by one"):
        session.execute(SEEN)


@pytest.mark.usefixtures("_jobs")
def test_a_savepoint_changes_nothing(api: Engine, mine: uuid.UUID) -> None:
    with confine(Session(api), Role.API, mine) as session:
        session.begin_nested().rollback()
        with session.begin_nested():
            assert seen(session) == [mine]
        assert seen(session) == [mine]


@pytest.mark.usefixtures("_jobs")
def test_a_session_in_the_middle_of_its_transaction_is_confined_from_then_on(
    api: Engine, mine: uuid.UUID, theirs: uuid.UUID
) -> None:
    with Session(api) as session:
        assert seen(session) == []
        confine(session, Role.API, mine)
        assert seen(session) == [mine]
        confine(session, Role.API, theirs)
        assert seen(session) == [theirs]
        session.commit()
        set_free(session)
        assert seen(session) == []


def test_a_limited_session_gives_up_what_takes_longer_in_every_transaction_and_the_next_one_does_not(
    api: Engine, mine: uuid.UUID
) -> None:
    with confine(Session(api), Role.API, mine, at_most=timedelta(seconds=7)) as session:
        assert [(_limit(session), session.rollback()) for _ in range(2)] == [("7s", None)] * 2
        _limit(session)
        confine(session, Role.API, mine)
        assert _limit(session) == "0"

    with Session(api) as session:
        assert _limit(session) == "0"


def test_a_callers_transaction_gets_its_own_patience_back(engine: Engine, mine: uuid.UUID) -> None:
    with engine.connect() as outer, outer.begin():
        with confine(Session(outer), Role.API, mine, at_most=timedelta(seconds=7)) as session:
            assert _limit(session) == "7s"

        assert _limit(outer) == "0"


def _limit(connection: Session | Connection) -> str:
    return str(connection.execute(text("select current_setting('statement_timeout')")).scalar())


def test_a_callers_transaction_gets_its_own_rights_back(engine: Engine, mine: uuid.UUID) -> None:
    with engine.connect() as outer, outer.begin():
        for end in ("commit", "rollback"):
            with confine(Session(outer, join_transaction_mode="create_savepoint"), Role.API, mine) as session:
                assert session.execute(SAID).one()[0] == "jobplatform_api"
                getattr(session, end)()

            assert _role(outer) == "none"


def _role(connection: Connection) -> str:
    return str(connection.execute(text("select current_setting('role')")).scalar())


@pytest.mark.usefixtures("_jobs")
def test_what_is_no_workspace_and_no_token_is_refused_before_it_is_sent(api: Engine) -> None:
    for workspace in ("", "' or true --", "1234"):
        with pytest.raises(ValueError):
            confine(Session(api), Role.API, workspace)
    with pytest.raises(ValueError, match="letters and digits"):
        confine(Session(api), Role.API, token_id="a'")


def test_a_login_without_the_role_is_told_what_to_grant(make: Callable[..., Engine], mine: uuid.UUID) -> None:
    session = confine(Session(make(Role.HANDLER)), Role.API, mine)

    with session, pytest.raises(SettingsError, match=r"jobplatform_api.*grant"):
        session.execute(SEEN)


@pytest.mark.usefixtures("_jobs")
@pytest.mark.parametrize("login", [Role.WORKER, Role.API])
def test_a_handlers_session_finds_the_jobs_without_naming_our_schema(
    make: Callable[..., Engine], mine: uuid.UUID, login: Role
) -> None:
    with confine(Session(make(login)), Role.HANDLER, mine) as session:
        assert list(session.scalars(text("SELECT workspace_id FROM jobs"))) == [mine]


@pytest.mark.usefixtures("_jobs")
def test_an_operators_session_sees_all_workspaces(api: Engine, mine: uuid.UUID, theirs: uuid.UUID) -> None:
    with confine(Session(api), Role.OPERATOR) as session:
        assert set(seen(session)) == {mine, theirs}


@pytest.mark.parametrize("role", [Role.API, Role.HANDLER])
def test_a_confined_session_does_not_enqueue_for_another_workspace(
    make: Callable[..., Engine], mine: uuid.UUID, theirs: uuid.UUID, role: Role
) -> None:
    with confine(Session(make(Role.API)), role, mine) as session:
        with pytest.raises(DBAPIError, match="row-level security"):
            enqueue_job(session, NewJob(workspace_id=theirs, task="work"))
        session.rollback()
        assert enqueue_job(session, NewJob(workspace_id=mine, task="work")).created


@pytest.mark.parametrize("role", [Role.API, Role.OWNER])
def test_a_host_without_special_rights_enqueues_in_its_own_transaction(
    make: Callable[..., Engine], mine: uuid.UUID, theirs: uuid.UUID, role: Role
) -> None:
    with Session(make(role)) as session:
        job = enqueue_job(session, NewJob(workspace_id=mine, task="work", unique_key="only"))
        again = enqueue_job(session, NewJob(workspace_id=mine, task="work", unique_key="only"))
        other = enqueue_job(session, NewJob(workspace_id=theirs, task="work"))
        session.commit()

        assert (job.created, again.created, other.created) == (True, False, True)
        assert get_job(session, mine, job.job_id) is not None
        assert len(list_jobs(session, theirs)) == 1
        assert cancel_job(session, mine, job.job_id).value == "cancelled"


def test_a_host_without_special_rights_enqueues_for_many_workspaces_at_once(
    api: Engine, mine: uuid.UUID, theirs: uuid.UUID
) -> None:
    jobs = [NewJob(workspace_id=workspace, task="work") for workspace in (mine, theirs)]

    with Session(api) as session:
        assert [answer.created for answer in enqueue_jobs(session, jobs)] == [True, True]
        assert session.scalar(text("select current_setting('role')")) == "none"
        session.commit()
        assert get_job(session, theirs, jobs[1].id) is not None


def test_a_superuser_is_asked_once_and_visits_nothing(engine: Engine, mine: uuid.UUID) -> None:
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *about: sent.append(about[2]))

    for _ in range(3):
        with Session(engine) as session, session.begin():
            enqueue_job(session, NewJob(workspace_id=mine, task="work"))

    assert len([statement for statement in sent if "row_security_active" in statement]) == 1
    assert not [statement for statement in sent if "jobplatform.workspace_id" in statement]
