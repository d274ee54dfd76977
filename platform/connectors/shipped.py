"""The connector types that come with the platform. A new one is one entry here."""

from __future__ import annotations

from jobplatform.connectors.http_json import HttpJson, HttpJsonConfig
from jobplatform.connectors.registry import CONNECTORS, ConnectorType
from jobplatform.connectors.schemes import HTTP_SCHEMES

SHIPPED = {
    "http_json": ConnectorType(
        open=HttpJson,
        config=HttpJsonConfig,
        credentials=HTTP_SCHEMES,
        asks=lambda config: str(config["base_url"]),
    ),
}

CONNECTORS.update(SHIPPED)
