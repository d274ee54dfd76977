"""Whose failure it is when a connector breaks: its connection's, and nothing else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobplatform.connectors.opening import open_connector
from jobplatform.connectors.source import Connector
from jobplatform.errors import JobPlatformError, SourceError
from jobplatform.models import Connection


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Whatever a connector raises is its connection's failure. Our own errors, and our database's, are not its."""
    try:
        yield
    except (JobPlatformError, SQLAlchemyError):
        raise
    except Exception as error:
        raise SourceError(f"{what}: {type(error).__name__}: {error}") from error


@contextmanager
def opened(
    session: Session, connection: Connection, allow_private: bool, *, patient: bool = True
) -> Iterator[Connector]:
    """The connection's connector, as :func:`open_connector` makes it, open for the block."""
    with ExitStack() as stack:
        with blaming("opening the connection"):
            connector = stack.enter_context(open_connector(session, connection, allow_private, patient=patient))
        yield connector
        with blaming("closing the connection"):
            stack.close()


def streams_of(connector: Connector) -> list[str]:
    """What there is to fetch."""
    with blaming("asking for the streams"):
        return list(connector.streams())
