"""The connector types that come with the platform. A new one is one entry here."""

from __future__ import annotations

from jobplatform.connectors import csv_file, hubspot, rss, sql, strava
from jobplatform.connectors.following import check_url_of
from jobplatform.connectors.http_json import HttpJson, HttpJsonConfig, check_config
from jobplatform.connectors.registry import CONNECTORS, Config, ConnectorType, OAuth
from jobplatform.connectors.schemes import HTTP_SCHEMES


def _base_url(config: Config) -> str:
    return str(config["base_url"])


def _url(config: Config) -> str | None:
    return config.get("url")


SHIPPED = {
    "http_json": ConnectorType(
        open=HttpJson,
        config=HttpJsonConfig,
        credentials=HTTP_SCHEMES,
        check=check_config,
        asks=_base_url,
    ),
    "hubspot": ConnectorType(
        open=hubspot.HubSpot,
        config=hubspot.HubSpotConfig,
        credentials=hubspot.CREDENTIALS,
        needs_credentials=True,
        check=hubspot.check_hubspot,
        asks=_base_url,
        token_url=hubspot.token_url,
        oauth=OAuth(hubspot.authorize_url, hubspot.scopes),
    ),
    "strava": ConnectorType(
        open=strava.Strava,
        config=strava.StravaConfig,
        credentials=strava.CREDENTIALS,
        needs_credentials=True,
        check=strava.check_strava,
        asks=_base_url,
        token_url=strava.token_url,
        oauth=OAuth(
            strava.authorize_url,
            strava.scopes,
            separator=",",
            also={"approval_prompt": "auto"},
            counts_by_application=True,
        ),
    ),
    "rss": ConnectorType(
        open=rss.Rss,
        config=rss.RssConfig,
        credentials=HTTP_SCHEMES,
        check=check_url_of,
        asks=_url,
    ),
    "csv": ConnectorType(
        open=csv_file.CsvFile,
        config=csv_file.CsvConfig,
        credentials=HTTP_SCHEMES,
        check=check_url_of,
        asks=_url,
    ),
    "sql": ConnectorType(
        open=sql.Sql,
        config=sql.SqlConfig,
        credentials={"password": sql.PasswordCredentials},
        needs_credentials=True,
        check=sql.check_encryption,
        asks=sql.server_of,
    ),
}

CONNECTORS.update(SHIPPED)
