"""A connection through a pooler is known as such, and leaves nothing of ours behind on the backends that it borrows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text

from jobplatform.models import Role, is_shared, make_engine
from tests.pooler import Pooler

PREPARED = text("select count(*) from pg_prepared_statements where not from_sql")
SETTINGS = text("select current_setting('plan_cache_mode'), current_setting('jit'), current_user::text")
Open = Callable[..., Engine]


@pytest.fixture
def open_engine() -> Iterator[Open]:
    engines: list[Engine] = []

    def open_engine(url: str, *, autocommit: bool = False, role: Role | None = None, prepare: bool = True) -> Engine:
        engines.append(make_engine(url, autocommit=autocommit, role=role, prepare=prepare))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.dispose()


def seems_shared(engine: Engine) -> bool:
    fairy = engine.raw_connection()
    try:
        return is_shared(fairy)
    finally:
        fairy.close()


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_connection_through_a_pooler_is_told_from_one_of_our_own(
    direct_url: str, pooler: Pooler, open_engine: Open, autocommit: bool
) -> None:
    assert not seems_shared(open_engine(direct_url, autocommit=autocommit))
    assert seems_shared(open_engine(pooler.url(direct_url), autocommit=autocommit))


def test_a_session_of_our_own_is_used(direct_url: str, open_engine: Open) -> None:
    with open_engine(direct_url, autocommit=True, role=Role.WORKER).connect() as connection:
        for _ in range(3):
            found = tuple(connection.execute(SETTINGS).one())

        assert found == ("force_generic_plan", "off", "jobplatform_worker")
        assert connection.scalar(PREPARED) > 0


def test_what_is_set_on_a_session_of_our_own_survives_a_rollback(direct_url: str, open_engine: Open) -> None:
    with open_engine(direct_url, role=Role.WORKER).connect() as connection:
        connection.execute(SETTINGS)
        connection.rollback()

        assert connection.execute(SETTINGS).one()[2] == "jobplatform_worker"


def test_a_borrowed_backend_keeps_nothing_of_ours(
    direct_url: str, pooler: Pooler, open_engine: Open, login_url: Callable[..., str]
) -> None:
    login_url(Role.WORKER)
    url = pooler.url(direct_url)
    ours = open_engine(url, autocommit=True, role=Role.WORKER)
    with ours.connect() as connection:
        for _ in range(20):
            connection.execute(SETTINGS)

    # Held open together, so that this is every backend that was used.
    others = [open_engine(url).connect() for _ in range(4)]
    found = {(*other.execute(SETTINGS).one(), other.scalar(PREPARED)) for other in others}
    for other in others:
        other.close()

    assert found == {("auto", "on", "postgres", 0)}


def test_the_tests_pooler_really_changes_backends_between_transactions(
    direct_url: str, pooler: Pooler, open_engine: Open
) -> None:
    engine = open_engine(pooler.url(direct_url))
    backend = text("select pg_backend_pid()")
    with engine.connect() as one, engine.connect() as another:
        # Two transactions at once need two backends.
        both = {one.scalar(backend), another.scalar(backend)}
        one.commit()
        another.commit()
        found = set()
        for _ in range(4):
            found.add(one.scalar(backend))
            one.commit()

    assert len(both) == 2
    assert len(found) > 1


def test_told_to_prepare_nothing_an_engine_uses_no_session_at_all(direct_url: str, open_engine: Open) -> None:
    with open_engine(direct_url, autocommit=True, role=Role.WORKER, prepare=False).connect() as connection:
        for _ in range(20):
            found = tuple(connection.execute(SETTINGS).one())

        assert (*found, connection.scalar(PREPARED)) == ("auto", "on", "postgres", 0)
