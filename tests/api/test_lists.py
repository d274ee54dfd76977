"""Lists: pages, cursors, filters."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest
from marshmallow import fields
from werkzeug.http import parse_options_header

from jobplatform.api.schemas.fields import CamelSchema, Digits
from tests.api.conftest import Client, Hand

Echo = Callable[..., str]


def ids(client: Client, url: str) -> list[str]:
    return [job["id"] for job in client.get(url).get_json()["items"]]


def test_jobs_are_listed_newest_first(client: Client, jobs_url: str, echo: Echo) -> None:
    made = [echo() for _ in range(3)]

    assert ids(client, jobs_url) == made[::-1]


def test_pages_follow_each_other_and_miss_nothing(client: Client, jobs_url: str, echo: Echo) -> None:
    made = [echo() for _ in range(5)]
    seen, url = [], f"{jobs_url}?limit=2&jobType=echo"

    while url:
        answer = client.get(url)
        seen.append([job["id"] for job in answer.get_json()["items"]])
        link = answer.headers.get("Link")
        assert (link is None) == (answer.get_json()["nextCursor"] is None)
        url = link.removeprefix("<").partition(">")[0] if link else ""

    assert seen == [[made[4], made[3]], [made[2], made[1]], [made[0]]]


def test_a_page_is_stable_while_jobs_are_added(client: Client, jobs_url: str, echo: Echo) -> None:
    made = [echo() for _ in range(3)]
    cursor = client.get(f"{jobs_url}?limit=2").get_json()["nextCursor"]
    echo()

    assert ids(client, f"{jobs_url}?limit=2&cursor={cursor}") == [made[0]]


def test_a_next_link_keeps_the_query(client: Client, jobs_url: str, echo: Echo) -> None:
    for _ in range(2):
        echo()

    link = client.get(f"/api{jobs_url}?limit=1&status=pending&createdAfter=2020-01-01T00:00:00%2B01:00").headers["Link"]

    address, options = parse_options_header(link)
    url = urlsplit(address.strip("<>"))
    assert options == {"rel": "next"}
    assert url.path == f"/api{jobs_url}"
    assert dict(parse_qsl(url.query)) == {
        "limit": "1",
        "status": "pending",
        "createdAfter": "2020-01-01T00:00:00+01:00",
        "cursor": dict(parse_qsl(url.query))["cursor"],
    }


def test_filters_narrow_the_list(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    done, waiting, slow = echo(), echo(), echo(queue="slow")
    hand.complete(workspace_id, done)
    added = client.post(jobs_url, json={"jobType": "add", "payload": {"left": 1, "right": 1}}).get_json()
    moment = client.get(f"{jobs_url}/{waiting}").get_json()["createdAt"]

    assert ids(client, f"{jobs_url}?status=completed") == [done]
    assert ids(client, f"{jobs_url}?status=pending&jobType=echo") == [slow, waiting]
    assert ids(client, f"{jobs_url}?queue=slow") == [slow]
    assert ids(client, f"{jobs_url}?jobType=add") == [added["jobId"]]
    assert ids(client, f"{jobs_url}?createdBefore={moment}") == [done]
    assert ids(client, f"{jobs_url}?createdAfter={moment}&queue=default") == [added["jobId"]]
    assert ids(client, f"{jobs_url}?jobType=nothing") == []


def test_a_workspace_s_list_holds_its_own_jobs_only(
    client: Client, stranger: Client, jobs_url: str, other_workspace: uuid.UUID, echo: Echo
) -> None:
    echo()

    assert ids(stranger, f"/workspaces/{other_workspace}/jobs") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=many",
        "limit=1e9",
        "limit=1_0",
        "limit=%2B5",
        "limit=%205",
        "limit=5%0A",
        "limit=5.0",
        "limit=%D9%A5",
        "limit=" + "9" * 5000,
        "cursor=",
        "cursor=AAAA",
        "cursor=!!!!!!!!!!!!!!!!!!!!!!",
        "cursor=AAAAAAAAAAAAAAAAAAAAAB",
        "cursor=%C3%A9%00",
        "status=done",
        "jobType=",
        "jobType=%00",
        "jobType=" + "x" * 101,
        "createdAfter=yesterday",
        "createdAfter=2026-01-01T00:00:00",
        "createdAfter=0001-01-01T00:00:00Z",
        "state=failed",
        "%00=1",
    ],
)
def test_a_query_that_cannot_be_is_invalid_at_its_place(client: Client, jobs_url: str, query: str) -> None:
    answer = client.get(f"{jobs_url}?{query}")

    name = query.partition("=")[0].replace("%00", "\x00")
    assert answer.status_code == 422, answer.text
    assert [error["path"] for error in answer.get_json()["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("path", ["/jobs", "/events", f"/jobs/{uuid.UUID(int=1)}/events"])
def test_bytes_in_a_query_that_are_no_text_are_invalid_at_their_place(
    client: Client, workspace_id: uuid.UUID, path: str
) -> None:
    # Clients write them as %FF; a server hands on what anything else has sent.
    sent = {"QUERY_STRING": "limit=5&token=\xff"}

    answer = client.get(f"/workspaces/{workspace_id}{path}", environ_overrides=sent)

    assert answer.status_code == 422, answer.text
    assert [error["path"] for error in answer.get_json()["errors"]] == ["?token"]


def test_every_number_of_a_query_is_read_as_strictly() -> None:
    def below(schema: type[CamelSchema]) -> Iterator[type[CamelSchema]]:
        for one in schema.__subclasses__():
            yield one
            yield from below(one)

    queries = [schema for schema in below(CamelSchema) if schema.__name__.endswith("QuerySchema")]
    numbers = [field for schema in queries for field in schema().fields.values() if isinstance(field, fields.Integer)]

    assert len(numbers) > 5
    assert all(isinstance(field, Digits) for field in numbers)


@pytest.mark.parametrize("limit", [1, 200])
def test_the_ends_of_the_limit_s_range_are_in_it(client: Client, jobs_url: str, limit: int) -> None:
    assert client.get(f"{jobs_url}?limit={limit}").status_code == 200
