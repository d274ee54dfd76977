"""Settings: read once from the environment, validated together, frozen.

Every problem is found before anything starts and all of them are reported at once, because a deployment that is
corrected one variable at a time takes as many restarts as it has mistakes.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import unquote

import platformdirs

from jobplatform.errors import SettingsError
from jobplatform.key_ring import VARIABLE, KeyRing

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Names that a Flask application may take from the environment into its own configuration.
FLASK_NAMES = frozenset({"JOBPLATFORM_URL_PREFIX", "JOBPLATFORM_REGISTER_BLUEPRINT"})

#: Fields whose variables have another name, and which.
OTHERWISE_NAMED = {"JOBPLATFORM_DATABASE_URL": "DATABASE_URL", "JOBPLATFORM_CRON_TZ": "JOBS_CRON_TZ"}

#: What tests read; a process that a test starts may find it in its environment.
TEST_NAMES = frozenset({"JOBPLATFORM_TEST_DATABASE_URL"})

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off", ""})
QUEUE_NAME = re.compile(r"^[a-z0-9][a-z0-9_.:-]{0,99}\Z")
TASKS_NAME = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


def _default_data_dir() -> Path:
    """Root's home is closed to the database's own user, so root keeps the data outside any home."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/jobplatform")
    return Path(platformdirs.user_data_dir("jobplatform"))


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """By what a provider of OAuth2 knows our application."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may decide. Each field is the variable ``JOBPLATFORM_<FIELD>`` unless it says otherwise."""

    database_url: str | None = field(default=None, repr=False)
    """``JOBS_DATABASE_URL``, else ``DATABASE_URL``; without either, an embedded PostgreSQL is started."""
    direct_database_url: str | None = field(default=None, repr=False)
    """The same database past the transaction pooler that the other URL leads to. A worker's own connections use it."""
    data_dir: Path = field(default_factory=_default_data_dir)
    """Where the embedded PostgreSQL keeps its data."""
    postgres_programs: Path | None = None
    """The folder of the programs that the embedded PostgreSQL is run with, instead of those of its wheel."""
    mode: Literal["queue", "sync"] = "queue"
    """``sync`` runs each job in the process that enqueued it, after the commit. ``DISABLE_QUEUE=true`` does too."""
    tasks: str = "jobplatform.connectors:tasks"
    """Where the application's :class:`~jobplatform.queue.Tasks` is, as ``module:attribute``."""
    concurrency: int = 8
    """Slots of one worker: handler processes."""
    threads: int = 1
    """Handler threads in each process; more than one gives up hard timeouts."""
    queues: tuple[str, ...] = ()
    """Queues a worker serves; empty means every queue its tasks name."""
    drain_timeout: float = 30.0
    """Seconds a stopping worker lets running jobs finish before it hands them back."""
    lease_seconds: float = 30.0
    """Seconds of silence after which a worker is declared dead."""
    heartbeat_seconds: float = 10.0
    poll_seconds: float = 1.0
    kill_grace_seconds: float = 5.0
    """Seconds between the steps of the ladder: exception in the handler, SIGTERM, SIGKILL."""
    memory_mb: int = 0
    """Memory one handler process may use before it is killed; 0 is no limit."""
    max_jobs_per_child: int = 0
    """Jobs after which a handler process is replaced; 0 is never."""
    crash_limit: int = 3
    """Crashes (of a handler process or a whole worker) after which a job fails for good."""
    completed_retention_days: int = 7
    failed_retention_days: int = 30
    audit_retention_days: int = 400
    tick_retention_days: int = 35
    """Days the ticks of schedules are kept; longer where jobs are."""
    sync_log_retention_days: int = 90
    """Days the entries of syncs are kept, longer than their jobs or shorter."""
    exports: str | None = None
    """Where exports go: a folder, or ``s3://bucket/prefix``. The API and the workers have to reach it."""
    exports_endpoint: str | None = None
    """The URL of a store that speaks S3; without one it is Amazon's."""
    export_link_hours: int = 24
    """Hours the link to an export is good for."""
    export_retention_days: int = 7
    """Days an export is kept."""
    public_url: str | None = None
    """Where clients reach the API. Links in results begin with it; without one they are paths."""
    cron_tz: str = "UTC"
    """``JOBS_CRON_TZ``: the time zone of cron lines that name none."""
    doorbell: bool = True
    """Whether an enqueue wakes idle workers at once; without it they find the job at their next poll."""
    host: str = "127.0.0.1"
    port: int = 8080
    trusted_proxies: tuple[Network, ...] = ()
    """From whom ``jobplatform api`` believes what clients' addresses, schemes and hosts were."""
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    """Where a worker serves probes and its numbers; nowhere unless it is said."""
    max_streams: int = 0
    """Requests that one API process may hold open for events; 0 is 2,500 under gevent and 8 elsewhere."""
    max_streams_per_workspace: int = 200
    max_streams_per_token: int = 100
    requests_per_minute: int = 0
    """Requests that one token may make of one API process; 0 is any number."""
    docs: bool = False
    """Whether the API has a page at ``/docs`` that shows its OpenAPI document; it needs the extra ``docs``."""
    refused_deliveries_per_minute: int = 60
    """Deliveries to a hook that are not believed, of which one API process looks into so many; 0 is all."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    allow_private_addresses: bool = False
    """Whether connectors may fetch from private and loopback addresses. For development only."""
    sql_ssl_mode: Literal["require", "verify-ca", "verify-full"] = "require"
    """The weakest ``sslMode`` that a connection of the type ``sql`` may have."""
    trust_login: bool = False
    """Whether a database login that could bypass row security (a superuser) is accepted. For development only."""
    pages_prefix: str = "/console"
    """Where the operator's console is; empty for nowhere."""
    portal_prefix: str = "/w"
    """Where the portals of workspaces are; empty for nowhere."""
    pages_read_only: bool = False
    """Whether nothing can be done in the pages, whoever looks."""
    pages_session_hours: float = 8.0
    """How long a session of the pages lasts that a token was exchanged for."""
    portal_frame_ancestors: str = ""
    """Who may show a portal inside a page of theirs, as in ``'self' https://app.example.com``; empty for nobody."""
    oauth_clients: Mapping[str, OAuthClient] = field(default_factory=dict, repr=False)
    """By connector type, as ``hubspot:id:secret,…``: our application with each provider, so that people can consent."""
    oauth_redirect_url: str | None = None
    """Where providers send people back to; without it ``/oauth/callback`` below the public URL."""
    encryption_keys: KeyRing | None = field(default=None, repr=False)
    """The master keys for payload encryption, as ``id:base64,…``; the first one wraps what is new."""

    @property
    def oauth_callback(self) -> str | None:
        """Where providers send people back to, if that is known."""
        if self.oauth_redirect_url is not None or self.public_url is None:
            return self.oauth_redirect_url
        return f"{self.public_url}/oauth/callback"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read and validate. Raises :class:`SettingsError` with *every* problem, not the first."""
        reader = _Reader(os.environ if environ is None else environ)
        values = {name: value for name, value in reader.read_all().items() if value is not None}
        problems = reader.problems or _contradictions(cls(**values))
        if problems:
            raise SettingsError(problems)
        return cls(**values)


def _contradictions(settings: Settings) -> list[str]:
    """Values that are each fine and cannot work together."""
    problems = []
    if settings.heartbeat_seconds * 2 > settings.lease_seconds:
        problems.append(
            f"JOBPLATFORM_HEARTBEAT_SECONDS={settings.heartbeat_seconds:g} must be at most half of "
            f"JOBPLATFORM_LEASE_SECONDS={settings.lease_seconds:g}: one late heartbeat would cost the lease"
        )
    if settings.export_link_hours > settings.export_retention_days * 24:
        problems.append(
            f"JOBPLATFORM_EXPORT_LINK_HOURS={settings.export_link_hours} is longer than exports are kept "
            f"(JOBPLATFORM_EXPORT_RETENTION_DAYS={settings.export_retention_days})"
        )
    if settings.exports_endpoint and not (settings.exports or "").startswith("s3://"):
        problems.append("JOBPLATFORM_EXPORTS_ENDPOINT goes with JOBPLATFORM_EXPORTS=s3://bucket, which is not set")
    if settings.direct_database_url and not settings.database_url:
        problems.append("JOBPLATFORM_DIRECT_DATABASE_URL goes with DATABASE_URL, which is not set")
    return problems


class _Reader:
    """Reads variables one by one and collects what is wrong instead of raising."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def read_all(self) -> dict[str, Any]:
        self._report_unknown_names()
        return {
            "database_url": self._read_database_url("JOBS_DATABASE_URL", "DATABASE_URL"),
            "direct_database_url": self._read_database_url("JOBPLATFORM_DIRECT_DATABASE_URL"),
            "data_dir": self._read("DATA_DIR", Path),
            "postgres_programs": self._read("POSTGRES_PROGRAMS", Path),
            "mode": self._read_mode(),
            "tasks": self._read("TASKS", _matching(TASKS_NAME, "module:attribute")),
            "concurrency": self._read("CONCURRENCY", _integer(1, 512)),
            "threads": self._read("THREADS", _integer(1, 256)),
            "queues": self._read("QUEUES", parse_queues),
            "drain_timeout": self._read("DRAIN_TIMEOUT", _seconds(0, 86_400)),
            "lease_seconds": self._read("LEASE_SECONDS", _seconds(1, 3_600)),
            "heartbeat_seconds": self._read("HEARTBEAT_SECONDS", _seconds(0.1, 600)),
            "poll_seconds": self._read("POLL_SECONDS", _seconds(0.05, 60)),
            "kill_grace_seconds": self._read("KILL_GRACE_SECONDS", _seconds(0.05, 300)),
            "memory_mb": self._read("MEMORY_MB", _integer(0, 1_048_576)),
            "max_jobs_per_child": self._read("MAX_JOBS_PER_CHILD", _integer(0, 10_000_000)),
            "crash_limit": self._read("CRASH_LIMIT", _integer(1, 100)),
            "completed_retention_days": self._read("COMPLETED_RETENTION_DAYS", _integer(0, 36_500)),
            "failed_retention_days": self._read("FAILED_RETENTION_DAYS", _integer(0, 36_500)),
            "audit_retention_days": self._read("AUDIT_RETENTION_DAYS", _integer(30, 36_500)),
            "tick_retention_days": self._read("TICK_RETENTION_DAYS", _integer(1, 36_500)),
            "sync_log_retention_days": self._read("SYNC_LOG_RETENTION_DAYS", _integer(1, 36_500)),
            "exports": self._read("EXPORTS", _store),
            "exports_endpoint": self._read("EXPORTS_ENDPOINT", _base_url),
            "export_link_hours": self._read("EXPORT_LINK_HOURS", _integer(1, 168)),
            "export_retention_days": self._read("EXPORT_RETENTION_DAYS", _integer(1, 365)),
            "public_url": self._read("PUBLIC_URL", _base_url),
            "cron_tz": self._parse("JOBS_CRON_TZ", _time_zone),
            "doorbell": self._read("DOORBELL", _boolean),
            "host": self._read("HOST", str),
            "port": self._read("PORT", _integer(0, 65_535)),
            "trusted_proxies": self._read("TRUSTED_PROXIES", _networks),
            "health_host": self._read("HEALTH_HOST", str),
            "health_port": self._read("HEALTH_PORT", _integer(0, 65_535)),
            "max_streams": self._read("MAX_STREAMS", _integer(0, 100_000)),
            "max_streams_per_workspace": self._read("MAX_STREAMS_PER_WORKSPACE", _integer(1, 100_000)),
            "max_streams_per_token": self._read("MAX_STREAMS_PER_TOKEN", _integer(1, 100_000)),
            "requests_per_minute": self._read("REQUESTS_PER_MINUTE", _integer(0, 1_000_000)),
            "docs": self._read("DOCS", _boolean),
            "refused_deliveries_per_minute": self._read("REFUSED_DELIVERIES_PER_MINUTE", _integer(0, 1_000_000)),
            "log_level": self._read("LOG_LEVEL", _one_of("DEBUG", "INFO", "WARNING", "ERROR", fold=str.upper)),
            "log_format": self._read("LOG_FORMAT", _one_of("auto", "json", "console", fold=str.lower)),
            "allow_private_addresses": self._read("ALLOW_PRIVATE_ADDRESSES", _boolean),
            "sql_ssl_mode": self._read("SQL_SSL_MODE", _one_of("require", "verify-ca", "verify-full", fold=str.lower)),
            "trust_login": self._read("TRUST_LOGIN", _boolean),
            "pages_prefix": self._read("PAGES_PREFIX", _prefix),
            "portal_prefix": self._read("PORTAL_PREFIX", _prefix),
            "pages_read_only": self._read("PAGES_READ_ONLY", _boolean),
            "pages_session_hours": self._read("PAGES_SESSION_HOURS", _hours(0.1, 720)),
            "portal_frame_ancestors": self._read("PORTAL_FRAME_ANCESTORS", _ancestors),
            "oauth_clients": self._read_oauth_clients(),
            "oauth_redirect_url": self._read("OAUTH_REDIRECT_URL", _base_url),
            "encryption_keys": self._read_key_ring(),
        }

    def _report_unknown_names(self) -> None:
        """A misspelt variable is silent otherwise, and its default is what nobody asked for."""
        known = {f"JOBPLATFORM_{item.name.upper()}" for item in fields(Settings)} - OTHERWISE_NAMED.keys()
        for name in sorted(self.environ):
            if name.startswith("JOBPLATFORM_") and name not in known | FLASK_NAMES | TEST_NAMES:
                self.problems.append(f"{name} is not a setting{_meant(name, known)}")

    def _read(self, name: str, parse: Callable[[str], T]) -> T | None:
        return self._parse(f"JOBPLATFORM_{name}", parse)

    def _parse(self, variable: str, parse: Callable[[str], T]) -> T | None:
        text = self.environ.get(variable)
        if text is None:
            return None
        try:
            return parse(text.strip())
        except ValueError as error:
            self.problems.append(f"{variable}={text!r}: {error}")
            return None

    def _read_key_ring(self) -> KeyRing | None:
        text = self.environ.get(VARIABLE, "").strip()
        try:
            return KeyRing.parse(text) if text else None
        except ValueError as error:
            # The text is not repeated: it is nothing but secrets.
            self.problems.append(f"{VARIABLE}: {error}")
            return None

    def _read_oauth_clients(self) -> Mapping[str, OAuthClient] | None:
        text = self.environ.get("JOBPLATFORM_OAUTH_CLIENTS", "").strip()
        found: dict[str, OAuthClient] = {}
        for number, said in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
            parts = [unquote(part.strip()) for part in said.split(":")]
            if len(parts) != 3 or not all(parts) or parts[0] in found:
                # The text is not repeated: it is mostly secrets.
                self.problems.append(
                    f"JOBPLATFORM_OAUTH_CLIENTS: the {number}. entry must be type:client_id:client_secret, each type "
                    "once; write %3A for a colon and %2C for a comma"
                )
            else:
                found[parts[0]] = OAuthClient(parts[1], parts[2])
        return found or None

    def _read_mode(self) -> str | None:
        disabled = self._parse("DISABLE_QUEUE", _boolean)
        mode = self._read("MODE", _one_of("queue", "sync", fold=str.lower))
        if disabled and mode == "queue":
            self.problems.append("DISABLE_QUEUE=true and JOBPLATFORM_MODE=queue contradict each other")
        return "sync" if disabled else mode

    def _read_database_url(self, *variables: str) -> str | None:
        for variable in variables:
            text = self.environ.get(variable, "").strip()
            if text:
                if not re.match(r"^(postgres|postgresql)(\+psycopg)?://", text):
                    # The rest of the text is not repeated: it may hold a password.
                    begins = re.match(r"[a-z][a-z0-9+]*://", text)
                    found = f", and not with {begins[0]}" if begins else ""
                    self.problems.append(f"{variable} must start with postgresql://{found}")
                return text
        return None


def _meant(name: str, known: Iterable[str]) -> str:
    """Without the prefix, which makes all of them alike."""
    if name in OTHERWISE_NAMED:
        return f"; did you mean {OTHERWISE_NAMED[name]}?"
    by_rest = {one.removeprefix("JOBPLATFORM_"): one for one in known}
    near = difflib.get_close_matches(name.removeprefix("JOBPLATFORM_"), by_rest, n=1)
    return f"; did you mean {by_rest[near[0]]}?" if near else ""


def parse_queues(text: str) -> tuple[str, ...]:
    """Split ``sync,default`` into queue names. Raises ValueError naming the one that is not a queue name."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not QUEUE_NAME.match(name):
            raise ValueError(f"{name!r} is not a queue name (lower-case letters, digits and _.:-, at most 100)")
    return names


def _matching(pattern: re.Pattern[str], form: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.match(text):
            raise ValueError(f"must look like {form}")
        return text

    return parse


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or not low <= float(text) <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return float(text)

    return parse


def _hours(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or not low <= float(text) <= high:
            raise ValueError(f"must be a number of hours from {low:g} to {high:g}")
        return float(text)

    return parse


def _prefix(text: str) -> str:
    text = text.rstrip("/")
    if text and not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+", text):
        raise ValueError("must be a path such as /console, or empty for nowhere")
    return text


def _ancestors(text: str) -> str:
    """It becomes part of a header, so it can be nothing but sources."""
    for word in text.split():
        if not re.fullmatch(r"'self'|https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?", word):
            raise ValueError(f"{word!r} is neither 'self' nor an origin such as https://app.example.com")
    return " ".join(text.split())


def _networks(text: str) -> tuple[Network, ...]:
    def parse(word: str) -> Network:
        try:
            return ipaddress.ip_network(word)
        except ValueError:
            raise ValueError(f"{word!r} is neither an address nor a network such as 10.0.0.0/8") from None

    return tuple(parse(word.strip()) for word in text.split(",") if word.strip())


def _time_zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text or "UTC")
    except (KeyError, ValueError, OSError):
        raise ValueError("is not a time zone, such as Europe/Berlin or UTC") from None
    return text or "UTC"


def _store(text: str) -> str:
    if not (re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", text) or os.path.isabs(text)):
        raise ValueError("must be the absolute path of a folder, or s3://bucket or s3://bucket/prefix")
    return text.rstrip("/")


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("must be an http or https URL, such as https://jobs.example.com/api")
    return text.rstrip("/")


def _boolean(text: str) -> bool:
    word = text.lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError("must be true or false")
    return word in TRUE_WORDS


def _one_of(*words: str, fold: Callable[[str], str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if fold(text) not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return fold(text)

    return parse
