"""Row security is forced on every table with a workspace, and roles exist that it confines.

Revision ID: 0003
Revises: 0002

The roles belong to the server, and other databases on it may have made them already or be making them this moment;
so they are created where they are missing, and a downgrade leaves them.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobplatform.errors import MigrationError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR = "jobplatform_owner", "jobplatform_api", "jobplatform_operator"
WORKER, HANDLER = "jobplatform_worker", "jobplatform_handler"

#: The API becomes an operator for a while, and must not have an operator's rights all the time: hence noinherit.
ROLES = dict.fromkeys((OWNER, API, OPERATOR, WORKER, HANDLER), "nologin noinherit")
MEMBERS = ((OPERATOR, API), (HANDLER, WORKER), (HANDLER, API))

# PL/pgSQL, because `create role` knows no `if not exists` and `--sql` knows no Python.
CREATE = """
do $$
begin
    if not exists (select from pg_roles where rolname = '{role}') then
        create role {role} {options};
    end if;
exception when duplicate_object or unique_violation then
    null; -- Another database's migration was faster.
end
$$
"""
GRANT = """
do $$
begin
    if pg_has_role('{member}', '{role}', 'usage') then
        -- Made by hand, and inheriting. Since PostgreSQL 16 that is decided when the membership is given.
        alter role {member} noinherit;
        revoke {role} from {member};
    end if;
    if not pg_has_role('{member}', '{role}', 'member') then
        grant {role} to {member};
    end if;
exception when unique_violation then
    null;
end
$$
"""
# The schema's owner is a group: whoever is its member may migrate, and none of its members needs to be a superuser.
JOIN_OWNER = """
do $$
begin
    if not pg_has_role(current_user, '{owner}', 'usage') then
        execute format('grant {owner} to %I', current_user);
    end if;
exception when unique_violation then
    null;
end
$$
"""

# The sub-select is computed once a statement and not once a row, and an index can be asked for its value. After a
# transaction the setting is '' and not null: neither is anybody's workspace. Anything that is no uuid raises.
OWN = "(select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"
OWN_TEXT = "(select nullif(current_setting('jobplatform.workspace_id', true), ''))"
OWN_TOKEN = "(select nullif(current_setting('jobplatform.token_id', true), ''))"

#: How a row says whose it is.
TABLES = {
    "job_records": f"workspace_id = {OWN}",
    "job_queue": f"workspace_id = {OWN}",
    "job_attempts": f"workspace_id = {OWN}",
    "job_logs": f"workspace_id = {OWN}",
    "connections": f"workspace_id = {OWN}",
    "records": f"workspace_id = {OWN}",
    "workspaces": f"id = {OWN}",
    "workspace_limits": f"workspace_id = {OWN}",
    "api_tokens": f"workspace_id = {OWN}",
    "audit_log": f"workspace_id = {OWN}",
    # These are about workspaces only in some of their rows.
    "pauses": f"(kind <> 'workspace' or key = {OWN_TEXT})",
    "buckets": f"(kind = 'workspace' and key = {OWN_TEXT})",
}
#: What a worker reads and writes for all workspaces. Nothing of tokens, connections, records or the audit log.
WORKERS_TABLES = ("job_records", "job_queue", "job_attempts", "job_logs", "workspace_limits", "pauses", "buckets")

#: What ends, resumes or repeats a job changes in its record; what it was asked to do stays as it was.
OUTCOME = (
    "(status, outcome, progress, result, error_type, error, attempts, crash_count, epoch, run_after, started_at, "
    "completed_at)"
)
EVERYBODY = f"{API}, {OPERATOR}, {WORKER}, {HANDLER}"
READERS = f"{API}, {OPERATOR}, {HANDLER}"
ALL = "select, insert, update, delete"

GRANTS = (
    f"grant usage on schema jobplatform to {EVERYBODY}",
    f"grant select on jobplatform.alembic_version to {EVERYBODY}",
    f"grant select on jobplatform.jobs to {EVERYBODY}",
    f"grant select on jobplatform.job_records, jobplatform.job_queue, jobplatform.job_attempts, jobplatform.job_logs "
    f"to {EVERYBODY}",
    f"grant update {OUTCOME} on jobplatform.job_records to {EVERYBODY}",
    f"grant insert on jobplatform.job_records to {READERS}",
    f"grant insert, update, delete on jobplatform.job_queue to {EVERYBODY}",
    f"grant insert on jobplatform.job_attempts to {EVERYBODY}",
    # Retention, and the rewrite of a bloated queue table.
    f"grant delete on jobplatform.job_records, jobplatform.job_attempts, jobplatform.job_logs to {WORKER}",
    f"grant insert on jobplatform.job_logs to {WORKER}",
    f"grant truncate on jobplatform.job_queue to {WORKER}",
    f"grant {ALL} on jobplatform.connections, jobplatform.records to {READERS}",
    f"grant select on jobplatform.workspaces to {READERS}",
    f"grant insert, update, delete on jobplatform.workspaces to {OPERATOR}",
    # Limits: everybody meets them, operators set them.
    "grant select on jobplatform.plans, jobplatform.workspace_limits, jobplatform.queue_limits, "
    f"jobplatform.task_limits, jobplatform.rate_limits, jobplatform.pauses to {EVERYBODY}",
    "grant insert, update, delete on jobplatform.plans, jobplatform.workspace_limits, jobplatform.queue_limits, "
    f"jobplatform.task_limits, jobplatform.rate_limits, jobplatform.pauses to {OPERATOR}",
    f"grant insert, update, delete on jobplatform.pauses to {WORKER}",
    f"grant select on jobplatform.buckets to {READERS}",
    f"grant {ALL} on jobplatform.buckets to {OPERATOR}, {WORKER}",
    f"grant select on jobplatform.workers to {READERS}",
    f"grant update (draining) on jobplatform.workers to {OPERATOR}",
    f"grant {ALL} on jobplatform.workers to {WORKER}",
    f"grant select on jobplatform.api_tokens to {API}, {OPERATOR}",
    f"grant update (last_used_at) on jobplatform.api_tokens to {API}",
    f"grant insert, update on jobplatform.api_tokens to {OPERATOR}",
    # What was done stays done: nobody changes the audit log or takes anything out of it.
    f"grant select, insert on jobplatform.audit_log to {API}, {OPERATOR}",
)

REQUIREMENTS = """
select
    coalesce((select rolsuper or rolcreaterole from pg_roles where rolname = current_user), false),
    coalesce((select rolsuper from pg_roles where rolname = current_user), false),
    (select count(*) from pg_roles where rolname = any(:roles)),
    current_user::text
"""


def upgrade() -> None:
    make_roles()
    for table, own in TABLES.items():
        op.execute(f"alter table jobplatform.{table} enable row level security, force row level security")
        # The owner too: row security is forced, so without a policy of its own it could not even enqueue.
        op.execute(
            f"create policy own_workspace on jobplatform.{table} to {OWNER}, {API}, {HANDLER} "
            f"using ({own}) with check ({own})"
        )
        op.execute(f"create policy every_workspace on jobplatform.{table} to {OPERATOR} using (true) with check (true)")
    for table in WORKERS_TABLES:
        op.execute(f"create policy works_for_all on jobplatform.{table} to {WORKER} using (true) with check (true)")
    # Before a token is verified nobody knows its workspace. Its own row is all that can be seen then.
    op.execute(
        f"create policy presented_token on jobplatform.api_tokens to {API} "
        f"using (id = {OWN_TOKEN}) with check (id = {OWN_TOKEN})"
    )
    for grant in GRANTS:
        op.execute(grant)
    give_away(OWNER)
    op.execute(f"revoke update, delete, truncate on jobplatform.audit_log from {OWNER}")
    op.execute(f"set local role {OWNER}")


def downgrade() -> None:
    for table in TABLES:
        for policy in ("own_workspace", "every_workspace", "works_for_all", "presented_token"):
            op.execute(f"drop policy if exists {policy} on jobplatform.{table}")
        op.execute(f"alter table jobplatform.{table} no force row level security, disable row level security")
    op.execute(f"revoke all on all tables in schema jobplatform from {EVERYBODY}")
    op.execute(f"revoke all on schema jobplatform from {EVERYBODY}")
    op.execute(f"grant all on jobplatform.audit_log to {OWNER}")


def make_roles() -> None:
    login = "" if context.is_offline_mode() else require_right_to_make_roles()
    try:
        for role, options in ROLES.items():
            op.execute(CREATE.format(role=role, options=options))
        for role, member in MEMBERS:
            op.execute(GRANT.format(role=role, member=member))
        op.execute(JOIN_OWNER.format(owner=OWNER))
    except DBAPIError as error:
        raise MigrationError(f"the roles of jobplatform cannot be made ({error.orig}); {advice(login)}") from error


def require_right_to_make_roles() -> str:
    """Raise if it is certain that the login may not; the login."""
    found = op.get_bind().execute(text(REQUIREMENTS), {"roles": list(ROLES)}).one()
    login: str
    may_create, superuser, existing, login = found
    if existing < len(ROLES) and not may_create:
        raise MigrationError(f"the login {login!r} may not create roles; {advice(login)}")
    if superuser or existing < len(ROLES):
        return login
    member = op.get_bind().execute(text("select pg_has_role(current_user, :owner, 'member')"), {"owner": OWNER})
    if not member.scalar() and not may_create:
        raise MigrationError(f"the login {login!r} is not a member of {OWNER}; {advice(login)}")
    return login


def advice(login: str) -> str:
    """What an administrator runs, once for the whole server."""
    lines = [f"create role {role} {options};" for role, options in ROLES.items()]
    lines += [f"grant {role} to {member};" for role, member in MEMBERS]
    lines += [f'grant {OWNER} to "{login}";']
    return "have an administrator of the server run, and then migrate again:\n  " + "\n  ".join(lines)


def give_away(owner: str) -> None:
    """Everything in the schema, and the schema itself, to the group that owns it."""
    op.execute(f"grant create on schema jobplatform to {owner}")
    for name in TABLES:
        op.execute(f"alter table jobplatform.{name} owner to {owner}")
    for name in ("plans", "queue_limits", "task_limits", "rate_limits", "workers", "alembic_version"):
        op.execute(f"alter table jobplatform.{name} owner to {owner}")
    op.execute(f"alter view jobplatform.jobs owner to {owner}")
    op.execute(f"alter function jobplatform.clock() owner to {owner}")
    op.execute(f"alter schema jobplatform owner to {owner}")
