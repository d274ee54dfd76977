"""Where a sync gets its records from.

Where to look, by what is asked:

    what a connector is           source, registry, shipped (those that come along)
    the connectors                csv_file, demo_source, http_json, hubspot, rss, sql, strava
    how files and pages are read  csv_text, http_json_config, paging, following
    what a connection is          connections, schemas, schemes, credentials, choosing, opening, trying
    how somebody consents         authorizing
    how the outside is asked      outside, asking, addresses, allowing, patience
    what all who ask share        keeping, pacing, renewing
    how a sync goes               sync_task, syncing, place, since, storing, blaming, summing_up
    what is kept of it            records
    what is brought as a file     uploads, spool
    how records are taken away    export_task, exporting, export_text, stores, links
    who is told                   webhook_task
"""

from jobplatform.connectors.asking import SourceClient
from jobplatform.connectors.authorizing import (
    Begun,
    Returned,
    Taken,
    Tokens,
    begin_authorization,
    exchange_code,
    keep_authorized,
    take_authorization,
    workspace_of_state,
)
from jobplatform.connectors.choosing import (
    SyncPayload,
    connection_named_by,
)
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
from jobplatform.connectors.export_task import ExportPayload, declare_export, export
from jobplatform.connectors.exporting import ExportResult, Lifetimes, run_export
from jobplatform.connectors.keeping import Rate
from jobplatform.connectors.links import find_linked, read_link_token, renew_link
from jobplatform.connectors.opening import Opening, attention_of, open_connector
from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.connectors.records import RecordPlace, RecordSeen, get_record, list_records
from jobplatform.connectors.registry import CONNECTORS, ConnectorType, OAuth
from jobplatform.connectors.schemas import AnyConfig, ConfigSchema
from jobplatform.connectors.schemes import HTTP_SCHEMES
from jobplatform.connectors.shipped import SHIPPED
from jobplatform.connectors.source import Connector, Page, SourceRecord
from jobplatform.connectors.spool import Spool
from jobplatform.connectors.stores import FolderStore, S3Store, Store, open_store, require_store
from jobplatform.connectors.summing_up import SyncResult
from jobplatform.connectors.sync_task import sync, tasks
from jobplatform.connectors.syncing import run_sync
from jobplatform.connectors.trying import Tried, try_connection
from jobplatform.connectors.uploads import find_upload, forget_upload, keep_upload
from jobplatform.connectors.webhook_task import add_webhooks, require_askable

__all__ = [
    "CONNECTORS",
    "HTTP_SCHEMES",
    "LONGEST_NAME",
    "SHIPPED",
    "UNCHANGED",
    "Answer",
    "AnyConfig",
    "Begun",
    "ConfigSchema",
    "Connector",
    "ConnectorType",
    "CredentialsSeen",
    "ExportPayload",
    "ExportResult",
    "FolderStore",
    "Lifetimes",
    "OAuth",
    "Opening",
    "OutsideClient",
    "Page",
    "Rate",
    "RecordPlace",
    "RecordSeen",
    "Returned",
    "S3Store",
    "SourceClient",
    "SourceRecord",
    "Spool",
    "Store",
    "SyncPayload",
    "SyncResult",
    "Taken",
    "Tokens",
    "Tried",
    "add_webhooks",
    "attention_of",
    "begin_authorization",
    "change_connection",
    "connection_named_by",
    "create_connection",
    "credentials_seen",
    "declare_export",
    "delete_connection",
    "exchange_code",
    "export",
    "find_linked",
    "find_upload",
    "forget_upload",
    "get_connection",
    "get_record",
    "keep_authorized",
    "keep_upload",
    "list_connections",
    "list_records",
    "open_connector",
    "open_store",
    "read_link_token",
    "renew_link",
    "require_askable",
    "require_store",
    "run_export",
    "run_sync",
    "seal_headers",
    "sync",
    "take_authorization",
    "tasks",
    "try_connection",
    "workspace_of_state",
]
