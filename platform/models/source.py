"""What a workspace connects, and the copy of it that syncs keep."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobplatform.models.base import Base, clock


def _of_a_connection() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["workspace_id", "connection_id"],
        ["jobplatform.connections.workspace_id", "jobplatform.connections.id"],
        ondelete="CASCADE",
    )


class Connection(Base):
    """A workspace's configured connector.

    ``attention`` says why it is of no use until somebody gives it new credentials, and ``attention_at`` since when.
    """

    __tablename__ = "connections"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connector_type: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]]
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    updated_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    attention: Mapped[str | None] = mapped_column(Text)
    attention_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("name <> '' and connector_type <> ''", name="named"),
        CheckConstraint("(attention is null) = (attention_at is null)", name="attention_whole"),
    )


class ConnectionCredentials(Base):
    """What a connection's source is told to know the workspace by: sealed, and nobody's to read but the connector's.

    A table of its own, so that who reads connections never holds them, and so that its row can be locked while they
    are renewed without holding up what is written of the connection. ``version`` goes up whenever they change.
    """

    __tablename__ = "connection_credentials"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    scheme: Mapped[str] = mapped_column(Text)
    sealed: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(server_default="1")
    set_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    renewed_at: Mapped[datetime.datetime | None]
    expires_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        _of_a_connection(),
        CheckConstraint("scheme <> '' and version > 0", name="named_and_counted"),
        # Whatever a program does wrong: in the clear they are never written.
        CheckConstraint("""left(sealed, 15) = '{"$sealed":"v1:'""", name="sealed_is_sealed"),
    )


class ConnectionAuthorization(Base):
    """That somebody was sent to a provider, to consent to a connection. Good once, and for some minutes.

    ``state_hash`` is of what comes back with them, ``binding_hash`` of what their browser keeps; neither is stored
    itself. ``sealed`` is the secret by which the provider knows that it is us who come with the code. ``origin`` says
    whom the tokens are for. ``client_hash`` is of the client, where it is the connection's own.
    """

    __tablename__ = "connection_authorizations"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    state_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    connection_id: Mapped[uuid.UUID]
    actor: Mapped[str] = mapped_column(Text)
    binding_hash: Mapped[bytes] = mapped_column(LargeBinary)
    sealed: Mapped[str] = mapped_column(Text)
    redirect_url: Mapped[str] = mapped_column(Text)
    origin: Mapped[str | None] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    expires_at: Mapped[datetime.datetime]
    client_hash: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (
        _of_a_connection(),
        CheckConstraint("actor <> '' and redirect_url <> ''", name="named"),
        CheckConstraint("octet_length(state_hash) = 32 and octet_length(binding_hash) = 32", name="hashes_are_digests"),
        CheckConstraint("octet_length(client_hash) = 32", name="client_is_a_digest"),
        CheckConstraint("""left(sealed, 15) = '{"$sealed":"v1:'""", name="sealed_is_sealed"),
    )


class SourceLimit(Base):
    """What the connections of a workspace that use one account of a source share.

    ``full_at``: when as many requests as the account's rate has at once are free again. ``closed_until``: nobody asks
    before, because the source said so.
    """

    __tablename__ = "source_limits"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    resource: Mapped[str] = mapped_column(Text, primary_key=True)
    full_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    closed_until: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint("resource <> ''", name="named"),
        {"postgresql_with": {"fillfactor": 50}},
    )


class Record(Base):
    """One record of a source, as last seen."""

    __tablename__ = "records"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    data: Mapped[dict[str, Any]]
    synced_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    """When a sync last wrote it, or marked it as deleted."""
    generation: Mapped[int] = mapped_column(server_default="0")
    """The newest initial sync of the stream that had begun when a sync last wrote it."""
    deleted_at: Mapped[datetime.datetime | None]
    """When an initial sync did not see it any more."""

    __table_args__ = (
        _of_a_connection(),
        # For whoever asks what has changed since: the tie-breakers are read from the rows of one moment.
        Index("records_changed", "workspace_id", "connection_id", "synced_at"),
    )


class Upload(Base):
    """The file that was uploaded for a connection; a new one takes its place. What is in it are its chunks."""

    __tablename__ = "uploads"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID]
    name: Mapped[str] = mapped_column(Text)
    """What whoever uploaded it calls it."""
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[bytes]
    """SHA-256 of all of it."""
    uploaded_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())

    __table_args__ = (
        _of_a_connection(),
        CheckConstraint("octet_length(digest) = 32", name="digest_is_sha256"),
        CheckConstraint("size >= 0", name="size_not_negative"),
    )


#: Bytes in one row of an upload. Small, because whoever exports a workspace reads some hundred rows at a time.
CHUNK = 65_536


class UploadChunk(Base):
    """A piece of an uploaded file."""

    __tablename__ = "upload_chunks"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    upload_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes]

    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"],
            ["jobplatform.uploads.workspace_id", "jobplatform.uploads.connection_id"],
            ondelete="CASCADE",
        ),
        CheckConstraint(f"number >= 0 and octet_length(content) between 1 and {CHUNK}", name="bounded"),
    )


class SyncStream(Base):
    """What is known of a stream of a connection between two syncs."""

    __tablename__ = "sync_streams"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    generation: Mapped[int] = mapped_column(server_default="0")
    """Goes up with each initial sync that begins."""
    state: Mapped[str | None] = mapped_column(Text)
    """Where the next incremental sync begins."""
    synced_at: Mapped[datetime.datetime | None]

    __table_args__ = (_of_a_connection(),)


class SyncLog(Base):
    """One sync and what came of it. It stays when its job is deleted.

    The sync itself writes down how it ended. Where it could not (killed, out of time, cancelled), a worker closes the
    entry in the course of a minute after its job has ended. ``interrupted``: an attempt came to nothing (its worker
    died, it was out of time), and its job waits for the next.
    """

    __tablename__ = "sync_logs"

    workspace_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID]
    reference: Mapped[str | None] = mapped_column(Text)
    """What whoever asked for the sync calls it."""
    mode: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="running")
    total_records: Mapped[int] = mapped_column(server_default="0")
    results: Mapped[Any] = mapped_column(JSONB, server_default="[]")
    errors: Mapped[Any] = mapped_column(JSONB, server_default="[]")
    warnings: Mapped[Any] = mapped_column(JSONB, server_default="[]")
    """What was odd and did not keep it from going on."""
    started_at: Mapped[datetime.datetime] = mapped_column(server_default=clock())
    ended_at: Mapped[datetime.datetime | None]

    __table_args__ = (
        CheckConstraint(
            "status in ('running', 'completed', 'failed', 'cancelled', 'interrupted')", name="known_status"
        ),
        # Those that may have to be closed: as many as there are syncs under way.
        Index(
            "sync_logs_open",
            "workspace_id",
            "job_id",
            postgresql_where=text("status in ('running', 'interrupted')"),
        ),
        Index(
            "sync_logs_started_at",
            "started_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
        # The newest of all workspaces.
        Index("sync_logs_id", "id", "workspace_id"),
    )
