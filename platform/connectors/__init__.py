"""Where a sync gets its records from."""

from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.connectors.source import Connector, Page, SourceRecord
from jobplatform.connectors.sync_task import SyncPayload, sync, tasks
from jobplatform.connectors.syncing import CONNECTORS, SyncResult, run_sync

__all__ = [
    "CONNECTORS",
    "Answer",
    "Connector",
    "OutsideClient",
    "Page",
    "SourceRecord",
    "SyncPayload",
    "SyncResult",
    "run_sync",
    "sync",
    "tasks",
]
