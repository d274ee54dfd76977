"""Where a sync gets its records from."""

from jobplatform.connectors.asking import SourceClient
from jobplatform.connectors.connections import (
    LONGEST_NAME,
    UNCHANGED,
    CredentialsSeen,
    change_connection,
    create_connection,
    credentials_seen,
    delete_connection,
    get_connection,
    list_connections,
    seal_headers,
)
from jobplatform.connectors.keeping import Rate
from jobplatform.connectors.opening import Opening, open_connector
from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.connectors.registry import CONNECTORS, ConnectorType
from jobplatform.connectors.schemas import AnyConfig, ConfigSchema
from jobplatform.connectors.schemes import HTTP_SCHEMES
from jobplatform.connectors.shipped import SHIPPED
from jobplatform.connectors.source import Connector, Page, SourceRecord
from jobplatform.connectors.sync_task import SyncPayload, sync, tasks
from jobplatform.connectors.syncing import SyncResult, run_sync
from jobplatform.connectors.trying import Tried, try_connection
from jobplatform.connectors.webhook_task import add_webhooks, require_askable

__all__ = [
    "CONNECTORS",
    "HTTP_SCHEMES",
    "LONGEST_NAME",
    "SHIPPED",
    "UNCHANGED",
    "Answer",
    "AnyConfig",
    "ConfigSchema",
    "Connector",
    "ConnectorType",
    "CredentialsSeen",
    "Opening",
    "OutsideClient",
    "Page",
    "Rate",
    "SourceClient",
    "SourceRecord",
    "SyncPayload",
    "SyncResult",
    "Tried",
    "add_webhooks",
    "change_connection",
    "create_connection",
    "credentials_seen",
    "delete_connection",
    "get_connection",
    "list_connections",
    "open_connector",
    "require_askable",
    "run_sync",
    "seal_headers",
    "sync",
    "tasks",
    "try_connection",
]
