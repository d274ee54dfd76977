"""Hostile and broken bodies: each refused for its own reason, none a 500."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize

from tests.api.conftest import PROBLEM, Client

JSON = "application/json"


def send(client: Client, url: str, body: bytes | str, content_type: str | None = JSON, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else body.encode()
    return client.post(url, data=data, content_type=content_type, headers=headers)


def job(payload: str) -> str:
    return f'{{"jobType": "echo", "payload": {payload}}}'


def nested(depth: int) -> str:
    return job('{"a":' * depth + "1" + "}" * depth)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "{"),
        (400, '{"jobType": "echo",}'),
        (400, "nonsense"),
        (400, b'{"jobType": "\xff"}'),
        (400, '\ufeff{"jobType": "echo"}'),
        (400, '{"jobType": "a raw \x00"}'),
        (400, job('{"a": NaN}')),
        (400, job('{"a": -Infinity}')),
        (400, job('{"a": ' + "9" * 5000 + "}")),
        (400, nested(64)),
        (400, "[" * 100_000),
        (400, "[]" * 65),
        (400, "[" * 65 + '"'),
        (422, "[]"),
        (422, "5"),
        (422, "null"),
        (422, '"text"'),
        (422, job('{"a": "\\u0000"}')),
        (422, job('{"a": "\\ud800"}')),
        (422, job('{"\\u0000": 1}')),
        (422, job('{"a": 1e999}')),
        (422, '{"jobType": "\\ud800"}'),
        (422, '{"\\udfff": 1}'),
        (202, nested(62)),
        (202, job('{"a": "[[[[{{{{' + "[" * 100 + '"}')),
        (202, job('{"a": ' + "9" * 400 + ', "b": 1e300, "a": 2, "emoji": "\\ud83d\\ude00", "é": "é"}')),
        (202, job("{}") + "   "),
    ],
)
def test_a_body_is_taken_or_refused_for_its_own_reason(
    client: Client, jobs_url: str, status: int, body: bytes | str
) -> None:
    answer = send(client, jobs_url, body)

    assert answer.status_code == status, answer.text
    assert answer.content_type == (JSON if status == 202 else PROBLEM)


def test_what_was_sent_is_what_is_shown(client: Client, jobs_url: str) -> None:
    sent = '{"a": ' + "9" * 400 + ', "b": [1.5, null, true, "\\ud83d\\ude00"], "": {"ü": "\\\\"}}'

    answer = send(client, jobs_url, job(sent))

    assert answer.get_json()["job"]["payload"] == json.loads(sent)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (job('{"a": ["fine", "\\u0000"]}'), "/payload/a/1"),
        (job('{"a~b/c": {"d": "\\udc00"}}'), "/payload/a~0b~1c/d"),
        (job('{"a": 1e999}'), "/payload/a"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_place(client: Client, jobs_url: str, body: str, path: str) -> None:
    assert [error["path"] for error in send(client, jobs_url, body).get_json()["errors"]] == [path]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_body_of_another_media_type_is_refused(client: Client, jobs_url: str, content_type: str) -> None:
    assert send(client, jobs_url, job("{}"), content_type).status_code == 415


def test_a_compressed_body_is_refused(client: Client, jobs_url: str) -> None:
    assert send(client, jobs_url, job("{}"), **{"Content-Encoding": "gzip"}).status_code == 415


def test_a_body_may_say_its_encoding(client: Client, jobs_url: str) -> None:
    assert send(client, jobs_url, job("{}"), "application/json; charset=utf-8").status_code == 202


def test_no_body_is_refused_where_one_is_needed_and_empty_elsewhere(
    client: Client, jobs_url: str, sync_url: str
) -> None:
    needed, optional = send(client, jobs_url, b"", None), send(client, sync_url, b"", None)

    assert (needed.status_code, needed.content_type) == (400, PROBLEM)
    assert optional.status_code == 202


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_one_mebibyte_is_refused(client: Client, jobs_url: str, announced: bool) -> None:
    body = job('"' + "x" * 1024 * 1024 + '"').encode()
    length = {"content_length": len(body)} if announced else {}
    environ = {"wsgi.input_terminated": True}

    answer = client.post(
        jobs_url, input_stream=io.BytesIO(body), content_type=JSON, environ_overrides=environ, **length
    )

    assert (answer.status_code, answer.content_type) == (413, PROBLEM)


def test_a_body_just_under_one_mebibyte_is_taken(client: Client, jobs_url: str) -> None:
    body = job("{}")

    assert send(client, jobs_url, body + " " * (1024 * 1024 - len(body))).status_code == 202
    assert send(client, jobs_url, body + " " * (1024 * 1024 - len(body) + 1)).status_code == 413


def test_a_payload_larger_than_a_job_may_have_is_invalid(client: Client, jobs_url: str) -> None:
    answer = send(client, jobs_url, job('{"a": "' + "x" * 300_000 + '"}'))

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["path"] == "/payload"


@pytest.mark.parametrize(
    "body",
    [
        '\\"' * 500_000,
        '"' + "\\" * 1_000_000,
        '"\\' * 500_000,
        "[" * 65 + '"' * 1_000_000,
        "{}" * 500_000,
        "[" + "[]," * 340_000,
    ],
)
def test_no_body_takes_more_than_linear_time_to_refuse(client: Client, jobs_url: str, body: str) -> None:
    answers: list[Any] = []
    reader = threading.Thread(target=lambda: answers.append(send(client, jobs_url, "[" * 60 + body)), daemon=True)

    reader.start()
    reader.join(timeout=60)

    # Quadratic, any of these takes hours.
    assert not reader.is_alive()
    assert answers[0].status_code == 400


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (413, "x" * 10_000_000),
        (413, "{" + ",".join(f'"{number}":0' for number in range(1_000_000)) + "}"),
        (422, "{" + ",".join(f'"{number}":0' for number in range(80_000)) + "}"),
        (422, job("{" + ",".join(f'"{number}":0' for number in range(80_000)) + "}")),
    ],
    ids=["10 MB", "a million keys", "as many as fit", "as many as fit into a payload"],
)
def test_a_flood_is_refused_in_a_few_words(client: Client, jobs_url: str, status: int, body: str) -> None:
    answer = send(client, jobs_url, body)

    assert (answer.status_code, answer.content_type) == (status, PROBLEM)
    assert len(answer.data) < 64 * 1024


@pytest.mark.parametrize(
    ("of", "body"),
    [
        ("", job("{}")[:-1] + ',"tags":[' + ",".join(["0"] * 400_000) + "]}"),
        ("/batch", '{"jobs":[' + "{}," * 300_000 + "{}]}"),
    ],
    ids=["tags", "jobs"],
)
def test_of_a_list_that_is_too_long_nothing_is_said_but_that(client: Client, jobs_url: str, of: str, body: str) -> None:
    answer = send(client, jobs_url + of, body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == ["/jobs" if of else "/tags"]


def test_a_change_without_a_body_is_refused_and_one_that_changes_nothing_is_not(operator: Client) -> None:
    plan = "/operator/plans/gold"
    operator.request("PUT", plan, json={"weight": 10})

    nothing, empty = operator.request("PATCH", plan), operator.request("PATCH", plan, data="{}", content_type=JSON)

    assert (nothing.status_code, nothing.content_type) == (400, PROBLEM)
    assert (empty.status_code, empty.get_json()["weight"]) == (200, 10)


class BrokenChunks(io.RawIOBase):
    """As gunicorn hands on a body whose chunks are none: it finds out when somebody reads."""

    def readable(self) -> bool:
        return True

    def seek(self, _offset: int, _whence: int = 0) -> int:
        return 0  # the test's client asks how long it is

    def readinto(self, _buffer: object) -> int:
        raise InvalidChunkSize(b"zz")


def test_a_body_whose_chunks_are_none_is_the_client_s_mistake(client: Client, jobs_url: str) -> None:
    answer = client.request(
        "POST",
        jobs_url,
        headers={"Content-Type": "application/json", "Transfer-Encoding": "chunked"},
        input_stream=BrokenChunks(),
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert (answer.status_code, answer.content_type) == (400, PROBLEM)
