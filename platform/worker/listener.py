"""The connection on which a worker hears the doorbell."""

from typing import Any

import psycopg
from sqlalchemy import Engine

from jobplatform.models import is_shared
from jobplatform.queue import CHANNEL, LISTENER


def open_listener(engine: Engine, *, trusted: bool = False) -> psycopg.Connection[Any] | None:
    """A connection of its own that hears the doorbell, taken out of the engine's pool.

    None where a pooler stands between: LISTEN would stay with a backend that others use. ``trusted`` is somebody's word
    that this one keeps sessions together.
    """
    fairy = engine.raw_connection()
    if is_shared(fairy) and not trusted:
        fairy.close()
        return None
    connection = fairy.driver_connection
    fairy.detach()
    assert isinstance(connection, psycopg.Connection)
    connection.autocommit = True
    connection.execute(f"set application_name = '{LISTENER}'")
    connection.execute(f"listen {CHANNEL}")
    return connection
