"""Settings are read once, together, and every mistake is told at once."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.errors import SettingsError
from jobplatform.settings import Settings, parse_queues


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(environ)
    return refused.value.problems


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_every_field_is_read_from_the_variable_of_its_name() -> None:
    settings = Settings.from_env(
        {
            "DATABASE_URL": "postgresql://pooler/jobs",
            "JOBPLATFORM_DIRECT_DATABASE_URL": "postgresql://db/jobs",
            "JOBPLATFORM_DATA_DIR": "/srv/data",
            "JOBPLATFORM_POSTGRES_PROGRAMS": "/usr/lib/postgresql/17/bin",
            "JOBPLATFORM_MODE": "sync",
            "JOBPLATFORM_TASKS": "shop.jobs:tasks",
            "JOBPLATFORM_CONCURRENCY": "3",
            "JOBPLATFORM_THREADS": "4",
            "JOBPLATFORM_QUEUES": "sync, default",
            "JOBPLATFORM_DRAIN_TIMEOUT": "5",
            "JOBPLATFORM_LEASE_SECONDS": "40",
            "JOBPLATFORM_HEARTBEAT_SECONDS": "15",
            "JOBPLATFORM_POLL_SECONDS": "0.5",
            "JOBPLATFORM_KILL_GRACE_SECONDS": "2",
            "JOBPLATFORM_MEMORY_MB": "512",
            "JOBPLATFORM_MAX_JOBS_PER_CHILD": "100",
            "JOBPLATFORM_CRASH_LIMIT": "5",
            "JOBPLATFORM_COMPLETED_RETENTION_DAYS": "1",
            "JOBPLATFORM_FAILED_RETENTION_DAYS": "2",
            "JOBPLATFORM_AUDIT_RETENTION_DAYS": "60",
            "JOBPLATFORM_TICK_RETENTION_DAYS": "40",
            "JOBPLATFORM_SYNC_LOG_RETENTION_DAYS": "50",
            "JOBPLATFORM_EXPORTS": "s3://shop-exports/jobs/",
            "JOBPLATFORM_EXPORTS_ENDPOINT": "http://store:9000/",
            "JOBPLATFORM_EXPORT_LINK_HOURS": "2",
            "JOBPLATFORM_EXPORT_RETENTION_DAYS": "3",
            "JOBPLATFORM_PUBLIC_URL": "https://jobs.example.com/api/",
            "JOBS_CRON_TZ": "Europe/Berlin",
            "JOBPLATFORM_DOORBELL": "off",
            "JOBPLATFORM_HOST": "::1",
            "JOBPLATFORM_PORT": "9000",
            "JOBPLATFORM_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "JOBPLATFORM_LOG_LEVEL": "debug",
            "JOBPLATFORM_LOG_FORMAT": "json",
            "JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES": "yes",
            "JOBPLATFORM_TRUST_LOGIN": "on",
            "JOBPLATFORM_SQL_SSL_MODE": "verify-full",
            "JOBPLATFORM_HEALTH_HOST": "0.0.0.0",
            "JOBPLATFORM_HEALTH_PORT": "9100",
            "JOBPLATFORM_REQUESTS_PER_MINUTE": "600",
            "JOBPLATFORM_REFUSED_DELIVERIES_PER_MINUTE": "5",
            "JOBPLATFORM_DOCS": "true",
            "JOBPLATFORM_OAUTH_CLIENTS": "hubspot:1:a%2Cb, strava:2:c%3Ad",
            "JOBPLATFORM_OAUTH_REDIRECT_URL": "https://app.example.com/connected",
            "JOBPLATFORM_PAGES_PREFIX": "/operators",
            "JOBPLATFORM_PORTAL_PREFIX": "/portal",
            "JOBPLATFORM_PAGES_READ_ONLY": "yes",
            "JOBPLATFORM_PAGES_SESSION_HOURS": "2",
            "JOBPLATFORM_PORTAL_FRAME_ANCESTORS": "'self' https://app.example.com",
            "JOBPLATFORM_MAX_STREAMS": "50",
            "JOBPLATFORM_MAX_STREAMS_PER_WORKSPACE": "20",
            "JOBPLATFORM_MAX_STREAMS_PER_TOKEN": "10",
        }
    )

    assert dataclasses.asdict(settings) == {
        "health_host": "0.0.0.0",
        "health_port": 9100,
        "requests_per_minute": 600,
        "refused_deliveries_per_minute": 5,
        "docs": True,
        "oauth_clients": {
            "hubspot": {"client_id": "1", "client_secret": "a,b"},
            "strava": {"client_id": "2", "client_secret": "c:d"},
        },
        "oauth_redirect_url": "https://app.example.com/connected",
        "pages_prefix": "/operators",
        "portal_prefix": "/portal",
        "pages_read_only": True,
        "pages_session_hours": 2.0,
        "portal_frame_ancestors": "'self' https://app.example.com",
        "max_streams": 50,
        "max_streams_per_workspace": 20,
        "max_streams_per_token": 10,
        "database_url": "postgresql://pooler/jobs",
        "direct_database_url": "postgresql://db/jobs",
        "data_dir": Path("/srv/data"),
        "postgres_programs": Path("/usr/lib/postgresql/17/bin"),
        "mode": "sync",
        "tasks": "shop.jobs:tasks",
        "concurrency": 3,
        "threads": 4,
        "queues": ("sync", "default"),
        "drain_timeout": 5,
        "lease_seconds": 40,
        "heartbeat_seconds": 15,
        "poll_seconds": 0.5,
        "kill_grace_seconds": 2,
        "memory_mb": 512,
        "max_jobs_per_child": 100,
        "crash_limit": 5,
        "completed_retention_days": 1,
        "failed_retention_days": 2,
        "audit_retention_days": 60,
        "tick_retention_days": 40,
        "sync_log_retention_days": 50,
        "exports": "s3://shop-exports/jobs",
        "exports_endpoint": "http://store:9000",
        "export_link_hours": 2,
        "export_retention_days": 3,
        "public_url": "https://jobs.example.com/api",
        "cron_tz": "Europe/Berlin",
        "doorbell": False,
        "host": "::1",
        "port": 9000,
        "trusted_proxies": (IPv4Network("10.0.0.0/8"), IPv6Network("::1")),
        "log_level": "DEBUG",
        "log_format": "json",
        "allow_private_addresses": True,
        "trust_login": True,
        "sql_ssl_mode": "verify-full",
        "encryption_keys": None,
    }


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(
        {
            "JOBPLATFORM_CONCURRENCY": "0",
            "JOBPLATFORM_PORT": "http",
            "JOBPLATFORM_QUEUES": "ok,NOT OK",
            "JOBPLATFORM_DOORBELL": "maybe",
            "JOBPLATFORM_TASKS": "no-colon",
            "JOBPLATFORM_LEASE_SECONDS": "-1",
        }
    )

    named = {problem.split("=")[0] for problem in problems}
    assert named == {
        "JOBPLATFORM_CONCURRENCY",
        "JOBPLATFORM_PORT",
        "JOBPLATFORM_QUEUES",
        "JOBPLATFORM_DOORBELL",
        "JOBPLATFORM_TASKS",
        "JOBPLATFORM_LEASE_SECONDS",
    }


@pytest.mark.parametrize("proxies", ["proxy.example.com", "10.0.0.1/8", "10.0.0.1;10.0.0.2", "*"])
def test_a_proxy_that_is_trusted_is_an_address_or_a_network(proxies: str) -> None:
    (problem,) = problems_of({"JOBPLATFORM_TRUSTED_PROXIES": proxies})

    assert "is neither an address nor a network" in problem


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"JOBPLATFORM_EXPORTS": "exports"}, "absolute path"),
        ({"JOBPLATFORM_EXPORTS": "s3://"}, "s3://bucket"),
        ({"JOBPLATFORM_EXPORTS": "s3://Bucket"}, "s3://bucket"),
        ({"JOBPLATFORM_EXPORTS_ENDPOINT": "http://store:9000"}, "goes with JOBPLATFORM_EXPORTS=s3://bucket"),
        ({"JOBPLATFORM_PUBLIC_URL": "jobs.example.com"}, "an http or https URL"),
        ({"JOBPLATFORM_PUBLIC_URL": "https://user:secret@jobs.example.com"}, "an http or https URL"),
        ({"JOBPLATFORM_EXPORT_RETENTION_DAYS": "1", "JOBPLATFORM_EXPORT_LINK_HOURS": "48"}, "longer than exports"),
    ],
)
def test_where_exports_go_and_for_how_long_has_to_make_sense(variables: dict[str, str], said: str) -> None:
    (problem,) = problems_of(variables)

    assert said in problem


def test_a_misspelt_variable_is_a_problem_and_not_silence() -> None:
    assert problems_of({"JOBPLATFORM_CONCURENCY": "4", "JOBPLATFORM_COLOUR": "red"}) == (
        "JOBPLATFORM_COLOUR is not a setting",
        "JOBPLATFORM_CONCURENCY is not a setting; did you mean JOBPLATFORM_CONCURRENCY?",
    )


def test_what_has_no_variable_with_the_prefix_is_said_by_its_name() -> None:
    assert problems_of({"JOBPLATFORM_DATABASE_URL": "postgresql://db", "JOBPLATFORM_CRON_TZ": "UTC"}) == (
        "JOBPLATFORM_CRON_TZ is not a setting; did you mean JOBS_CRON_TZ?",
        "JOBPLATFORM_DATABASE_URL is not a setting; did you mean DATABASE_URL?",
    )


def test_variables_of_others_are_not_ours_to_judge() -> None:
    assert Settings.from_env({"PATH": "/bin", "FLASK_DEBUG": "1"}) == Settings()


def test_the_password_of_a_bad_database_url_is_not_repeated() -> None:
    (problem,) = problems_of({"DATABASE_URL": "mysql://app:hunter2@db/app"})

    assert "hunter2" not in problem


def test_settings_can_be_logged_without_telling_the_password() -> None:
    settings = Settings.from_env({"DATABASE_URL": "postgresql://app:hunter2@db/app"})

    assert "hunter2" not in repr(settings)


def test_the_jobs_database_wins_over_the_applications() -> None:
    settings = Settings.from_env({"DATABASE_URL": "postgresql://app", "JOBS_DATABASE_URL": "postgresql://jobs"})

    assert settings.database_url == "postgresql://jobs"


def test_disabling_the_queue_means_synchronous_mode() -> None:
    assert Settings.from_env({"DISABLE_QUEUE": "true"}).mode == "sync"
    assert Settings.from_env({"DISABLE_QUEUE": "false"}).mode == "queue"


def test_an_unknown_time_zone_is_a_problem() -> None:
    with pytest.raises(SettingsError, match=r"JOBS_CRON_TZ='Mars': is not a time zone"):
        Settings.from_env({"JOBS_CRON_TZ": "Mars"})


def test_two_variables_that_contradict_each_other_are_a_problem() -> None:
    (problem,) = problems_of({"DISABLE_QUEUE": "true", "JOBPLATFORM_MODE": "queue"})

    assert "contradict" in problem


def test_a_way_past_the_pooler_is_a_problem_without_a_database() -> None:
    (problem,) = problems_of({"JOBPLATFORM_DIRECT_DATABASE_URL": "postgresql://db/jobs"})

    assert "JOBPLATFORM_DIRECT_DATABASE_URL" in problem
    assert "DATABASE_URL, which is not set" in problem


def test_a_url_for_another_driver_is_told_what_it_begins_with() -> None:
    (problem,) = problems_of({"DATABASE_URL": "postgresql+psycopg2://shop:hunter2@db/shop"})

    assert problem == "DATABASE_URL must start with postgresql://, and not with postgresql+psycopg2://"


def test_the_password_of_a_bad_direct_url_is_not_repeated() -> None:
    (problem,) = problems_of({"DATABASE_URL": "postgresql://db", "JOBPLATFORM_DIRECT_DATABASE_URL": "db:hunter2"})

    assert "JOBPLATFORM_DIRECT_DATABASE_URL must start with postgresql://" in problem
    assert "hunter2" not in problem


def test_a_heartbeat_too_slow_for_the_lease_is_a_problem() -> None:
    (problem,) = problems_of({"JOBPLATFORM_HEARTBEAT_SECONDS": "20"})

    assert "JOBPLATFORM_HEARTBEAT_SECONDS=20" in problem
    assert "JOBPLATFORM_LEASE_SECONDS=30" in problem


@given(st.text(max_size=30))
def test_any_text_for_a_number_is_a_number_or_a_settings_error(text: str) -> None:
    try:
        settings = Settings.from_env({"JOBPLATFORM_PORT": text, "JOBPLATFORM_DRAIN_TIMEOUT": text})
    except SettingsError:
        return
    assert 0 <= settings.port <= 65_535


@given(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_.:-]{0,9}", fullmatch=True)))
def test_queue_names_joined_by_commas_are_read_back(names: list[str]) -> None:
    assert parse_queues(",".join(names)) == tuple(names)


@pytest.mark.parametrize("text", ["hubspot:id", "hubspot:id:hunter2:more", "a:b:hunter2,a:c:hunter2", ":id:hunter2"])
def test_clients_of_providers_that_cannot_be_are_told_by_their_place_and_not_repeated(text: str) -> None:
    (problem,) = problems_of({"JOBPLATFORM_OAUTH_CLIENTS": text})

    assert "type:client_id:client_secret" in problem
    assert "hunter2" not in problem


def test_people_come_back_to_the_public_url_unless_it_is_said_otherwise() -> None:
    public = {"JOBPLATFORM_PUBLIC_URL": "https://jobs.example.com/api"}

    assert Settings.from_env({}).oauth_callback is None
    assert Settings.from_env(public).oauth_callback == "https://jobs.example.com/api/oauth/callback"
    elsewhere = {**public, "JOBPLATFORM_OAUTH_REDIRECT_URL": "https://app.example.com/connected"}
    assert Settings.from_env(elsewhere).oauth_callback == "https://app.example.com/connected"
