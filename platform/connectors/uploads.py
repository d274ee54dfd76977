"""Files that are uploaded for a connection: kept in the database, in small pieces, until another takes their place."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import BinaryIO

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.connectors.connections import get_connection
from jobplatform.models import CHUNK, Upload, UploadChunk, visit

#: Pieces that are sent to the database at a time.
TOGETHER = 16


def keep_upload(
    session: Session,
    workspace_id: uuid.UUID,
    connection_id: uuid.UUID,
    *,
    name: str,
    file: BinaryIO,
    size: int,
    digest: bytes,
) -> Upload:
    """Keep a file for a connection, in place of the one before. A sync that is reading that one begins anew."""
    # Two that come at once take turns: the second would not see the first's, and both are to be the only one.
    get_connection(session, workspace_id, connection_id, lock=True)
    forget_upload(session, workspace_id, connection_id)
    upload = Upload(
        workspace_id=workspace_id, connection_id=connection_id, id=uuid7(), name=name, size=size, digest=digest
    )
    session.add(upload)
    session.flush()
    file.seek(0)
    number = 0
    while chunks := [chunk for _ in range(TOGETHER) if (chunk := file.read(CHUNK))]:
        rows = [
            {
                "workspace_id": workspace_id,
                "connection_id": connection_id,
                "upload_id": upload.id,
                "number": number + place,
                "content": chunk,
            }
            for place, chunk in enumerate(chunks)
        ]
        session.execute(insert(UploadChunk), rows)
        number += len(chunks)
    return upload


def forget_upload(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> bool:
    """Delete the connection's file, and say whether there was one."""
    visit(session, workspace_id)
    mine = (Upload.workspace_id == workspace_id, Upload.connection_id == connection_id)
    return session.execute(delete(Upload).where(*mine).returning(Upload.id)).first() is not None


def find_upload(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> Upload | None:
    """The connection's file, without what is in it."""
    visit(session, workspace_id)
    return session.get(Upload, (workspace_id, connection_id), populate_existing=True)


def read_upload(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, upload_id: uuid.UUID
) -> Iterator[bytes]:
    """What is in this file, piece by piece, each read when it is asked for. Ends early when another takes its place."""
    statement = select(UploadChunk.content).where(
        UploadChunk.workspace_id == workspace_id,
        UploadChunk.connection_id == connection_id,
        UploadChunk.upload_id == upload_id,
    )
    number = 0
    while content := session.scalar(statement.where(UploadChunk.number == number)):
        yield content
        number += 1
