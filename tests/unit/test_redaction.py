"""What looks like a secret is not shown, and what only sounds like one is."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform import redaction
from jobplatform.logs import make_formatter
from jobplatform.redaction import REDACTED, is_secret_name, redact_text, redacted

SECRET = "hunter2-c4n4ry"
PLATFORM = Path(redaction.__file__).parent


@pytest.mark.parametrize(
    "name",
    [
        "password", "PASSWORD", "db_password", "passwordHash", "user.passwd", "pwd", "db-pwd", "passphrase",
        "pass_phrase", "secret", "client_secret", "clientSecret", "aws_secret_access_key", "AWS_ACCESS_KEY",
        "token", "accessToken", "access_token", "refresh-token", "X-Auth-Token", "jwt", "auth",
        "Authorization", "Proxy-Authorization", "authorisation",
        "api_key", "apikey", "apiKey", "API-KEY", "X-Api-Key", "x_api_key",
        "cookie", "Set-Cookie", "credential", "credentials", "private_key", "privateKey", "encryption_keys",
        "sessionid", "session_id", "SESSION-ID", "pin", "otp",
    ],
)  # fmt: skip
def test_a_name_that_says_secret_is_one(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "task", "queue", "job_id", "workspace_id", "message", "unique_key", "key", "keyword", "author", "authored_by",
        "passed", "passenger", "compass", "bypass", "pinned", "spin", "monkey", "session", "opinion",
        "token_id", "tokenId", "token_name", "token_type", "password_changed_at", "secret_count", "token_url",
        "token_expires_in", "cookie_name", "credential_ids",
    ],
)  # fmt: skip
def test_a_name_that_only_sounds_like_it_is_none(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "value",
    [
        {"password": SECRET},
        {"outer": {"inner": [{"api_key": SECRET}]}},
        {"credentials": {"user": "ada", "anything": SECRET}},
        {"tokens": [SECRET]},
        [({"secret": SECRET},)],
        {"config": (1, {"Authorization": f"Basic {SECRET}"})},
        {b"password": SECRET},
        {"password": SECRET.encode()},
        {"headers": {"Cookie": f"a=1; sid={SECRET}"}},
        {"url": f"postgresql://ada:{SECRET}@db/jobs"},
        {"note": f'{{"password": "{SECRET}"}}'},
        f"password={SECRET}",
    ],
)
def test_no_secret_is_left_in_what_has_keys(value: Any) -> None:
    assert SECRET not in repr(redacted(value))


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f"password = '{SECRET} with spaces'",
        f"PASSWORD: {SECRET}",
        f"connect failed: host=db user=ada password={SECRET} port=5432",
        f"postgresql://ada:{SECRET}@db.example:5432/jobs",
        f"https://{SECRET}@example.com/repo.git",
        f"GET /callback?access_token={SECRET}&state=1",
        f"GET /v1?api-key={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}",
        f"{{'Authorization': 'Token {SECRET}'}}",
        f'{{"authorization":"{SECRET}"}}',
        f"sent Bearer {SECRET}.abc to the API",
        f"Cookie: sid={SECRET}; other=1",
        f"Set-Cookie: sid={SECRET}; HttpOnly",
        f'{{"password": "{SECRET}"}}',
        f'{{"password":"a\\"{SECRET}"}}',
        f"{{'password': 'a\\'{SECRET}'}}",
        f"{{'clientSecret': b'{SECRET}'}}",
        f'{{"refresh_token" : "{SECRET}", "n": 1}}',
        f'{{"pin_secret": {SECRET}}}',
        f"Config(user='ada', password='{SECRET}')",
        f"KeyError: password='{SECRET}",
        f"X-Api-Key: {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.x",
        f"jp_7f3a_{SECRET}{SECRET} is not known",
        f"first line\n  password={SECRET}\nlast line",
        f"postgresql://ada:p@ss@{SECRET}@db.example:5432/jobs",
        f"failed: pass={SECRET}",
        f"GET https://store.example/file.csv?se=2026-01-01&sig={SECRET}",
        f"GET https://store.example/file.csv?X-Amz-Signature={SECRET}&X-Amz-Expires=60",
    ],
)
def test_no_secret_is_left_in_a_text(text: str) -> None:
    assert SECRET not in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "HubSpot answered 404 for contact 17",
        "no token was given",
        "the password is wrong",
        "https://example.com/users?page=2",
        "token_id=7f3a",
        "see https://example.com/reset-password",
        "KeyError: 'name'",
        "basic auth is not supported",
        "the cookie banner",
        "passed=3, bypass: 4",
        "significant: 5 of 7",
        "job 0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10 failed: a=1, b=2",
    ],
)
def test_an_ordinary_message_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize("prefix", ["jp_7f3a_", "jpe_", "jph_", "jpj_", "jpo_", "jps_", "whsec_"])
def test_a_secret_of_ours_is_known_by_its_form(prefix: str) -> None:
    text = prefix + "aB3-" * 12

    assert redact_text(f"GET /exports/{text} 200") == f"GET /exports/{REDACTED} 200"


def test_no_kind_of_secret_that_the_code_makes_is_missing_here() -> None:
    """By what they begin with, wherever one is made or read."""
    said = "\n".join(path.read_text() for path in PLATFORM.rglob("*.py") if path.name != "redaction.py")

    assert set(re.findall(r"""["'](jp[a-z]?_|whsec_)["'{]""", said)) == {
        "jp_", "jpe_", "jph_", "jpj_", "jpo_", "jps_", "whsec_"
    }  # fmt: skip


def test_what_is_around_a_secret_stays() -> None:
    text = f"GET /v1?page=2&token={SECRET}&size=10 failed: 401"

    assert redact_text(text) == f"GET /v1?page=2&token={REDACTED}&size=10 failed: 401"


@pytest.mark.parametrize(
    "text",
    [
        "the client (invalid_token: hunter2) was refused", "password=hunter2, next", '{"password": "hunter2"}',
        "Authorization: Basic x",
        "{'token': b'hunter2'}", "https://ada:hunter2@example.com/?api_key=hunter2&x=1", "Bearer hunter2hunter2",
    ],
)  # fmt: skip
def test_what_was_redacted_once_stays_as_it_is_when_it_is_redacted_again(text: str) -> None:
    once = redact_text(text)

    assert REDACTED in once
    assert redact_text(once) == once


def test_whether_there_is_a_secret_is_none_and_neither_is_how_many() -> None:
    value = {"password": None, "api_key": "", "token": True, "max_tokens": 4096, "tokens": 1.5}

    assert redacted(value) == value


def test_a_number_can_be_a_secret() -> None:
    assert redacted({"pin": 1234, "password": 1234}) == {"pin": REDACTED, "password": REDACTED}


def test_what_was_given_is_not_changed() -> None:
    value = {"config": {"password": SECRET}, "n": 1}

    redacted(value)

    assert value == {"config": {"password": SECRET}, "n": 1}


def test_what_contains_itself_ends() -> None:
    value: dict[str, Any] = {"password": SECRET}
    value["self"] = [value]

    assert SECRET not in repr(redacted(value))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_has_a_redacted_form_that_is_its_own(value: Any) -> None:
    once = redacted(value)

    assert redacted(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        "password=",
        '"password":"',
        "-----BEGIN PRIVATE KEY-----",
        "a://",
        "Bearer ",
        "x" * 9 + "token",
        "'token",
        "eyJaaaaaaaa.",
    ],
)
def test_a_hostile_text_is_searched_in_linear_time(piece: str) -> None:
    """A pattern that tries every split of a text would not come back from these within the test's time limit."""
    assert isinstance(redact_text(piece * (250_000 // len(piece))), str)


@pytest.mark.parametrize("as_text", [True, False])
def test_no_secret_reaches_a_log_line(as_text: bool) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make_formatter(as_text=as_text))
    logger = logging.Logger("test")
    logger.addHandler(handler)

    try:
        raise RuntimeError(f"cannot connect to postgresql://ada:{SECRET}@db/jobs")
    except RuntimeError as error:
        logger.exception(
            f"login failed: password={SECRET}",
            extra={
                "api_key": SECRET,
                "config": {"headers": [{"Authorization": f"Bearer {SECRET}"}]},
                "error": error,
                "workspace": "acme",
            },
        )

    assert SECRET not in stream.getvalue()
    assert "acme" in stream.getvalue()
    if not as_text:
        assert json.loads(stream.getvalue())["api_key"] == REDACTED
