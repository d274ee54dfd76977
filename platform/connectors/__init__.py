"""Where a sync gets its records from."""

from jobplatform.connectors.asking import SourceClient
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

__all__ = [
    "CONNECTORS",
    "HTTP_SCHEMES",
    "SHIPPED",
    "Answer",
    "AnyConfig",
    "ConfigSchema",
    "Connector",
    "ConnectorType",
    "Opening",
    "OutsideClient",
    "Page",
    "Rate",
    "SourceClient",
    "SourceRecord",
    "SyncPayload",
    "SyncResult",
    "open_connector",
    "run_sync",
    "sync",
    "tasks",
]
