"""A sync's entry is closed when its job has ended in any way, files are uploaded and exported, changes are found.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

from jobplatform.migrations.building import build_index

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

OWNER, API, OPERATOR, WORKER, HANDLER = (
    f"jobplatform_{name}" for name in ("owner", "api", "operator", "worker", "handler")
)

# As in 0003: computed once a statement, and neither '' nor null is anybody's workspace.
OWN = "workspace_id = (select nullif(current_setting('jobplatform.workspace_id', true), '')::uuid)"

SYNC_LOGS = (
    "alter table jobplatform.sync_logs add column warnings jsonb default '[]' not null, "
    "drop constraint sync_logs_known_status, "
    "add constraint sync_logs_known_status check (status in ('running', 'completed', 'failed', 'cancelled'))",
    # A worker closes entries whose job has ended, and deletes old ones. What they say it does not see.
    f"create policy works_for_all on jobplatform.sync_logs to {WORKER} using (true) with check (true)",
    f"grant select (workspace_id, id, job_id, status, errors, started_at), update (status, errors, ended_at), delete "
    f"on jobplatform.sync_logs to {WORKER}",
)
INDEXES = (
    "create index sync_logs_running on jobplatform.sync_logs (workspace_id, job_id) where status = 'running'",
    "create index sync_logs_started_at on jobplatform.sync_logs using brin (started_at) with (pages_per_range = 32)",
    "create index records_changed on jobplatform.records (workspace_id, connection_id, synced_at)",
)
EXPORTS = (
    """
    create table jobplatform.exports (
        workspace_id uuid not null,
        id uuid not null,
        job_id uuid not null,
        name text not null,
        key text not null,
        rows bigint,
        size bigint,
        digest bytea,
        link_hash bytea,
        link_expires_at timestamptz,
        made_at timestamptz default jobplatform.clock() not null,
        expires_at timestamptz not null,
        constraint exports_pkey primary key (workspace_id, id),
        constraint exports_whole check (num_nulls(rows, size, digest) in (0, 3)),
        constraint exports_link_expires check ((link_hash is null) = (link_expires_at is null)),
        constraint exports_named check (name <> '' and key <> '')
    )
    """,
    "create index exports_expires_at on jobplatform.exports (expires_at)",
    f"grant insert, update, delete on jobplatform.exports to {HANDLER}",
    # A worker asks for the files that are due to be deleted. Where they are, and by what link, it does not see.
    f"create policy works_for_all on jobplatform.exports for select to {WORKER} using (true)",
    f"grant select (workspace_id, expires_at) on jobplatform.exports to {WORKER}",
)
UPLOADS = (
    """
    create table jobplatform.uploads (
        workspace_id uuid not null,
        connection_id uuid not null,
        id uuid not null,
        name text not null,
        size bigint not null,
        digest bytea not null,
        uploaded_at timestamptz default jobplatform.clock() not null,
        constraint uploads_pkey primary key (workspace_id, connection_id),
        constraint uploads_digest_is_sha256 check (octet_length(digest) = 32),
        constraint uploads_size_not_negative check (size >= 0),
        constraint uploads_workspace_id_connection_id_fkey foreign key (workspace_id, connection_id)
            references jobplatform.connections (workspace_id, id) on delete cascade
    )
    """,
    """
    create table jobplatform.upload_chunks (
        workspace_id uuid not null,
        connection_id uuid not null,
        upload_id uuid not null,
        number integer not null,
        content bytea not null,
        constraint upload_chunks_pkey primary key (workspace_id, connection_id, upload_id, number),
        constraint upload_chunks_bounded check (number >= 0 and octet_length(content) between 1 and 65536),
        constraint upload_chunks_workspace_id_connection_id_fkey foreign key (workspace_id, connection_id)
            references jobplatform.uploads (workspace_id, connection_id) on delete cascade
    )
    """,
    # Packed by whoever sent it, or not at all: a second try costs time for nothing.
    "alter table jobplatform.upload_chunks alter column content set storage external",
)


def security_of(table: str) -> tuple[str, ...]:
    name = f"jobplatform.{table}"
    return (
        f"alter table {name} enable row level security, force row level security",
        f"create policy own_workspace on {name} to {OWNER}, {API}, {HANDLER} using ({OWN}) with check ({OWN})",
        f"create policy every_workspace on {name} to {OPERATOR} using (true) with check (true)",
        f"grant select, insert, update, delete on {name} to {API}, {OPERATOR}",
        f"grant select on {name} to {HANDLER}",
    )


def upgrade() -> None:
    security = (statement for table in ("uploads", "upload_chunks", "exports") for statement in security_of(table))
    for index in INDEXES:
        build_index(index)
    changes = (*SYNC_LOGS, *UPLOADS, *EXPORTS, *security)
    for change in changes:
        op.execute(change)


def downgrade() -> None:
    """Files of exports stay where they are, and nobody knows of them any more."""
    op.execute("drop table jobplatform.exports")
    op.execute("drop table jobplatform.upload_chunks")
    op.execute("drop table jobplatform.uploads")
    op.execute("drop index jobplatform.records_changed")
    op.execute(
        f"revoke select (workspace_id, id, job_id, status, errors, started_at), update (status, errors, ended_at), "
        f"delete on jobplatform.sync_logs from {WORKER}"
    )
    op.execute("drop policy works_for_all on jobplatform.sync_logs")
    op.execute("drop index jobplatform.sync_logs_started_at")
    op.execute("drop index jobplatform.sync_logs_running")
    op.execute("alter table jobplatform.sync_logs no force row level security")
    # The version before knows no such end.
    op.execute("update jobplatform.sync_logs set status = 'failed' where status = 'cancelled'")
    op.execute("alter table jobplatform.sync_logs force row level security")
    op.execute(
        "alter table jobplatform.sync_logs drop column warnings, drop constraint sync_logs_known_status, "
        "add constraint sync_logs_known_status check (status in ('running', 'completed', 'failed'))"
    )
