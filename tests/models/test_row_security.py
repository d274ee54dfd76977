"""No role sees or changes another workspace's rows, whatever a transaction says or forgets to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from jobplatform.models import Role, make_engine
from tests.models import sweep

CONFINED = (Role.API, Role.HANDLER, Role.OWNER)
#: What a worker works on for every workspace. Everything else is nothing to it.
WORKERS = {
    "job_records", "job_queue", "job_attempts", "job_logs", "job_steps", "workspace_limits", "workspace_retention",
    "schedules",
    "schedule_ticks",
    "batches", "job_edges", "notices", "unique_periods",
    "endings", "workspace_cells", "workspace_totals", "error_groups",
    "workspace_alert_rules", "workspace_alerts",
}  # fmt: skip
#: Of these it sees how old they are, whether they have ended, or whom they concern, and does what is due about them.
TENDED = {"connection_authorizations", "kept_answers", "sync_logs", "hook_deliveries", "webhook_subscriptions"}

As = Callable[[Role], Engine]


@pytest.fixture
def rows(engine: Engine) -> dict[str, str]:
    return sweep.populate(engine)


@pytest.fixture
def as_role(login_url: Callable[..., str]) -> Iterator[As]:
    """An engine of a login that is a plain member of a role."""
    engines: list[Engine] = []

    def as_role(role: Role) -> Engine:
        engines.append(make_engine(login_url(role), pool_size=1))
        return engines[-1]

    yield as_role
    for engine in engines:
        engine.dispose()


def visible(engine: Engine, rows: dict[str, str], confined: Engine, name: str | None) -> set[str]:
    """The tables of which a login sees the row of the workspace MINE."""
    return {
        table.name
        for table in sweep.tables(engine)
        if sweep.attempt(confined, table.statements()["select"], rows[table.name], name)
    }


def test_the_sweep_knows_a_row_for_every_table_with_a_workspace(engine: Engine) -> None:
    assert {table.name for table in sweep.tables(engine)} == set(sweep.ROWS)


@pytest.mark.parametrize("name", sweep.NAMES)
@pytest.mark.parametrize("role", CONFINED)
def test_without_its_name_a_workspace_is_neither_seen_nor_changed(
    engine: Engine, rows: dict[str, str], as_role: As, role: Role, name: str
) -> None:
    assert sweep.leaks(engine, as_role(role), rows, sweep.NAMES[name]) == []


@pytest.mark.parametrize("role", CONFINED)
def test_with_its_name_a_workspace_is_seen(engine: Engine, rows: dict[str, str], as_role: As, role: Role) -> None:
    hidden = {
        Role.HANDLER: {
            "api_tokens",
            "audit_log",
            "kept_answers",
            "hooks",
            "hook_deliveries",
            "connection_authorizations",
        }
    }.get(role, set())

    assert visible(engine, rows, as_role(role), str(sweep.MINE)) == set(sweep.ROWS) - hidden


@pytest.mark.parametrize("name", sweep.NAMES)
def test_a_worker_reaches_the_jobs_of_all_workspaces_and_nothing_else(
    engine: Engine, rows: dict[str, str], as_role: As, name: str
) -> None:
    worker = as_role(Role.WORKER)

    assert visible(engine, rows, worker, sweep.NAMES[name]) == WORKERS
    touched = {leak.split(":")[0] for leak in sweep.leaks(engine, worker, rows, sweep.NAMES[name])}
    assert touched == WORKERS | TENDED


def test_a_worker_learns_which_workspaces_there_are_and_which_have_everything_sealed_and_no_more(
    engine: Engine, rows: dict[str, str], as_role: As
) -> None:
    """No name and no key: whom a schedule for every workspace is for, and whose payloads it could not seal."""
    readable = (
        "select table_name || '.' || column_name from information_schema.column_privileges "
        "where grantee = %(r)s and privilege_type = 'SELECT'"
    )
    with engine.connect() as connection:
        found = {row[0] for row in connection.exec_driver_sql(readable, {"r": str(Role.WORKER)})}

    tables = ("workspaces.", "workspace_keys.", "api_tokens.", "connections.", "records.", "audit_log.")
    assert {name for name in found if name.startswith(tables)} == {
        "workspaces.id", "workspace_keys.workspace_id", "workspace_keys.encrypts",
        # That a line is old, so that it may go.
        "audit_log.id", "audit_log.at",
    }  # fmt: skip


def test_an_operator_sees_every_workspace(engine: Engine, rows: dict[str, str], as_role: As) -> None:
    """Of tokens all but what they are known by and sign with, which is a test of its own."""
    assert visible(engine, rows, as_role(Role.OPERATOR), None) == set(sweep.ROWS) - {"api_tokens"}


SECRETS = {"secret_hash", "signing_key"}


def test_what_tokens_are_known_by_and_sign_with_is_read_by_the_api_alone(
    engine: Engine, rows: dict[str, str], as_role: As
) -> None:
    readable = {role: columns_of_tokens(engine, role, "SELECT") for role in Role}

    assert {role for role, columns in readable.items() if columns & SECRETS} == {Role.OWNER, Role.API}
    assert readable[Role.OPERATOR] == readable[Role.API] - SECRETS
    operator, shown = as_role(Role.OPERATOR), ", ".join(readable[Role.OPERATOR])
    assert sweep.attempt(operator, f"select {shown} from jobplatform.api_tokens", rows["api_tokens"], None) == 1
    for secret in SECRETS:
        assert sweep.attempt(operator, f"select {secret} from jobplatform.api_tokens", rows["api_tokens"], None) == 0


def test_an_operator_ends_tokens_and_changes_nothing_else_of_one(
    engine: Engine, rows: dict[str, str], as_role: As
) -> None:
    """A secret of their own, or other scopes, would be another token of which no line tells."""
    assert columns_of_tokens(engine, Role.OPERATOR, "UPDATE") == {"revoked_at", "signing_key"}

    operator, row = as_role(Role.OPERATOR), rows["api_tokens"]
    for column in ("secret_hash", "scopes", "workspace_id", "expires_at"):
        assert sweep.attempt(operator, f"update jobplatform.api_tokens set {column} = {column}", row, None) == 0
    for change in ("revoked_at = now()", "signing_key = default"):
        assert sweep.attempt(operator, f"update jobplatform.api_tokens set {change}", row, None) == 1


def columns_of_tokens(engine: Engine, role: Role, right: str) -> set[str]:
    rights = (
        "select column_name from information_schema.column_privileges "
        "where table_name = 'api_tokens' and grantee = %(role)s and privilege_type = %(right)s"
    )
    with engine.connect() as connection:
        return set(connection.exec_driver_sql(rights, {"role": str(role), "right": right}).scalars())


@pytest.mark.parametrize("role", list(Role))
def test_nobody_changes_the_audit_log_or_takes_anything_out(
    engine: Engine, rows: dict[str, str], as_role: As, role: Role
) -> None:
    log = next(table for table in sweep.tables(engine) if table.name == "audit_log").statements()

    for right in ("update", "delete"):
        assert not sweep.attempt(as_role(role), log[right], rows["audit_log"], str(sweep.MINE))


def test_of_the_audit_log_a_worker_adds_lines_about_bulk_actions_and_no_others(engine: Engine, as_role: As) -> None:
    add = "insert into jobplatform.audit_log (actor, action, target, details) values ('ada', 'job.retry', 'job:1', {})"

    with as_role(Role.WORKER).connect() as connection:
        connection.exec_driver_sql(add.format("""'{"bulk": "1"}'"""))
        with pytest.raises(DBAPIError, match="row-level security"):
            connection.exec_driver_sql(add.format("'{}'"))


def test_no_role_of_ours_can_bypass_row_security(engine: Engine) -> None:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "select rolname from pg_roles "
            "where rolname like 'jobplatform%%' and not (rolsuper or rolbypassrls or rolcanlogin or rolcreaterole)"
        )

        assert {row[0] for row in found} >= {str(role) for role in Role}


def test_a_presented_token_is_the_one_that_is_seen_before_its_workspace_is_known(
    engine: Engine, rows: dict[str, str], as_role: As
) -> None:
    def seen(token_id: str) -> list[Any]:
        with as_role(Role.API).connect() as connection:
            connection.exec_driver_sql("select set_config('jobplatform.token_id', %(id)s, true)", {"id": token_id})
            return [row[0] for row in connection.exec_driver_sql("select id from jobplatform.api_tokens")]

    assert seen("ab") == ["ab"]
    assert seen("another") == seen("") == []


@pytest.mark.parametrize(
    "breakage",
    [
        "alter table jobplatform.connections disable row level security",
        "create policy open on jobplatform.connections using (true)",
        "alter policy own_workspace on jobplatform.connections using (true)",
    ],
)
def test_the_sweep_finds_a_table_that_is_open(engine: Engine, rows: dict[str, str], as_role: As, breakage: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(breakage)

    found = sweep.leaks(engine, as_role(Role.API), rows, str(sweep.FOREIGN))

    assert "connections: select touched 1 row(s)" in found


def test_the_sweep_finds_a_table_that_lets_rows_be_written_for_others(
    engine: Engine, rows: dict[str, str], as_role: As
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("alter policy own_workspace on jobplatform.job_records with check (true)")

    found = sweep.leaks(engine, as_role(Role.API), rows, None)

    assert found == ["job_records: insert touched 1 row(s)"]


def test_the_sweep_finds_a_table_that_somebody_forgot(engine: Engine, rows: dict[str, str], as_role: As) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("create table jobplatform.notes (workspace_id uuid, note text)")
        connection.exec_driver_sql("grant select on jobplatform.notes to jobplatform_api")
        connection.exec_driver_sql(f"insert into jobplatform.notes values ('{sweep.MINE}', 'secret')")
    rows["notes"] = "{}"

    assert "notes: select touched 1 row(s)" in sweep.leaks(engine, as_role(Role.API), rows, None)


def test_a_pause_of_another_workspace_is_not_seen(engine: Engine, as_role: As) -> None:
    with engine.begin() as connection:
        for kind, key in (("workspace", sweep.MINE), ("workspace", sweep.FOREIGN), ("queue", "default")):
            connection.exec_driver_sql(
                "insert into jobplatform.pauses (kind, key, reason, actor) values (%(kind)s, %(key)s, 'r', 'ada')",
                {"kind": kind, "key": str(key)},
            )

    with as_role(Role.API).connect() as connection:
        sweep.say(connection, str(sweep.MINE))
        keys = {row[0] for row in connection.exec_driver_sql("select key from jobplatform.pauses")}

    assert keys == {str(sweep.MINE), "default"}


def test_a_workspace_cannot_become_another_s_by_an_update(engine: Engine, rows: dict[str, str], as_role: As) -> None:
    with as_role(Role.API).connect() as connection:
        sweep.say(connection, str(sweep.MINE))
        with pytest.raises(DBAPIError, match="row-level security"):
            connection.exec_driver_sql(f"update jobplatform.connections set workspace_id = '{sweep.FOREIGN}'")


@pytest.mark.parametrize(
    "statement",
    [
        "select * from jobplatform.job_queue where state = 1 and queue = 'default' order by workspace_id limit 1",
        "delete from jobplatform.job_queue where state = 2 and epoch = 1",
        "select * from jobplatform.jobs where status = 'running'",
    ],
)
def test_a_worker_s_plans_are_those_without_row_security(engine: Engine, as_role: As, statement: str) -> None:
    def plan(of: Engine) -> list[Any]:
        with of.connect() as connection:
            return [row[0] for row in connection.exec_driver_sql(f"explain (costs off) {statement}")]

    assert plan(as_role(Role.WORKER)) == plan(engine)


def test_a_workspace_s_plan_asks_the_index_for_it(engine: Engine, rows: dict[str, str], as_role: As) -> None:
    with as_role(Role.API).connect() as connection:
        sweep.say(connection, str(sweep.MINE))
        connection.exec_driver_sql("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.exec_driver_sql("explain select * from jobplatform.job_records"))

    assert "Index Cond: (workspace_id = " in plan
