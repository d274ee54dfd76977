"""Tokens that were there before they had keys to sign with."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.models import Role, make_engine

#: Whose tokens there are: of two workspaces, and of operators.
OWNERS = (uuid.uuid4(), uuid.uuid4(), None)
#: As the version before makes one: it knows nothing of keys.
MINT = """
insert into jobplatform.api_tokens (id, workspace_id, name, secret_hash, scopes)
values (:id, :owner, 'ci', decode(repeat('00', 32), 'hex'), array[:scope])
"""
IS_FORCED = "select relrowsecurity and relforcerowsecurity from pg_class where oid = 'jobplatform.api_tokens'::regclass"
#: Each right of our roles, on the table and on its columns.
RIGHTS = """
select grantee, column_name, privilege_type
from information_schema.column_privileges
where table_schema = 'jobplatform' and table_name = 'api_tokens'
order by 1, 2, 3
"""

Migrate = Callable[[Engine], None]


def row(number: int, owner: uuid.UUID | None) -> dict[str, Any]:
    return {"id": f"{number:018x}", "owner": owner, "scope": "jobs:read" if owner else "operator"}


@pytest.fixture
def before(empty_url: str) -> Iterator[Engine]:
    """A database of the version before, with tokens."""
    engine = make_engine(empty_url)
    migrations.upgrade(engine, "0036")
    with engine.begin() as connection:
        connection.execute(text(MINT), [row(n, owner) for n, owner in enumerate(OWNERS)])
    yield engine
    engine.dispose()


def by_itself(engine: Engine) -> None:
    migrations.upgrade(engine, "0037")


@pytest.fixture(params=["by itself", "by its SQL"])
def migrate(request: pytest.FixtureRequest, server: EmbeddedServer) -> Migrate:
    """Both as the owner of the tables, on whom row security is forced."""

    def by_its_sql(engine: Engine) -> None:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        command = [server.programs / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]
        subprocess.run(command, input=migrations.upgrade_sql("0036"), capture_output=True, text=True, check=True)

    return by_itself if request.param == "by itself" else by_its_sql


def ask(engine: Engine, statement: str, **given: Any) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), given)]


def test_each_token_that_was_there_gets_a_key_of_its_own_and_stays_as_it_was(before: Engine, migrate: Migrate) -> None:
    columns = "id, workspace_id, name, secret_hash, scopes, created_at, expires_at, last_used_at, revoked_at"
    were = ask(before, f"select {columns} from jobplatform.api_tokens order by id")

    migrate(before)

    keys = ask(before, "select distinct signing_key from jobplatform.api_tokens")
    assert [len(key) for (key,) in keys] == [32] * len(OWNERS)
    assert ask(before, f"select {columns} from jobplatform.api_tokens order by id") == were
    assert ask(before, IS_FORCED) == [(True,)]


def test_a_token_that_older_code_makes_beside_the_newer_schema_has_a_key_too(before: Engine) -> None:
    by_itself(before)

    with before.begin() as connection:
        connection.execute(text(f"set local role {Role.OPERATOR}"))
        connection.execute(text(MINT), row(99, OWNERS[0]))

    keys = ask(before, "select distinct signing_key from jobplatform.api_tokens")
    assert [len(key) for (key,) in keys] == [32] * (len(OWNERS) + 1)


def test_what_older_code_reads_of_tokens_each_role_reads_as_before(before: Engine) -> None:
    could = ask(before, RIGHTS)

    by_itself(before)
    can = ask(before, RIGHTS)

    assert [right for right in could if right not in can] == []
    assert {column for _, column, _ in can} - {column for _, column, _ in could} == {"signing_key"}


def test_the_way_back_takes_the_keys_and_leaves_the_rights_as_they_were(before: Engine) -> None:
    could = ask(before, RIGHTS)
    by_itself(before)

    migrations.downgrade(before, "0036")

    assert ask(before, RIGHTS) == could
    assert len(ask(before, "select id from jobplatform.api_tokens")) == len(OWNERS)
