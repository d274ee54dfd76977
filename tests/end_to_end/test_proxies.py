"""`jobplatform api` behind a proxy, and with clients that only pretend to be one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from tests.end_to_end.api_process import Api

PROXY = "127.0.0.1"
STRANGER = "127.0.0.2"
SIGN_IN = "/w/sign-in"
#: More wrong tokens than anybody may try in a row.
MANY = 200


@pytest.fixture(params=["threads", pytest.param("gevent", marks=pytest.mark.thorough)])
def api(request: pytest.FixtureRequest, database_url: str) -> Iterator[Api]:
    api = Api(database_url, request.param, JOBPLATFORM_TRUSTED_PROXIES=f"10.0.0.0/8,{PROXY}")
    yield api
    api.stop()


@pytest.fixture(autouse=True)
def somebody_who_could_sign_in(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        mint_token(session, workspace_id, ["jobs:read"], "a test")


def coming_from(address: str, api: Api, **forwarded: str) -> httpx.Client:
    headers = {f"X-Forwarded-{name}": value for name, value in forwarded.items()}
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=api.url, headers=headers, transport=transport, timeout=60)


def try_to_sign_in(client: httpx.Client) -> int:
    found = re.search(r'name="form_token" value="([^"]+)"', client.get(SIGN_IN).text)
    assert found
    # A browser would not send back a cookie that is for https; what it got is for this very page.
    cookies = {cookie.name: cookie.value or "" for cookie in client.cookies.jar}
    told = "; ".join(f"{name}={value}" for name, value in cookies.items())
    form = {"form_token": found.group(1), "token": "jp_wrong"}
    return client.post(SIGN_IN, data=form, headers={"Cookie": told}).status_code


def test_what_a_proxy_passes_on_counts_if_it_is_trusted_and_from_others_it_does_not(api: Api) -> None:
    with coming_from(PROXY, api, Proto="https", For="192.0.2.1") as client:
        by_proxy = client.get(SIGN_IN).headers["Set-Cookie"]
        statuses = [try_to_sign_in(client)]
        while statuses[-1] == 403 and len(statuses) < MANY:
            statuses.append(try_to_sign_in(client))
    with coming_from(PROXY, api, Proto="https", For="192.0.2.1, 192.0.2.2, 10.0.0.9") as client:
        of_another_client = try_to_sign_in(client)
    with coming_from(STRANGER, api, Proto="https", For="192.0.2.1") as client:
        by_stranger = client.get(SIGN_IN).headers["Set-Cookie"]
        of_stranger = try_to_sign_in(client)

    assert ("Secure" in by_proxy, "Secure" in by_stranger) == (True, False)
    assert statuses[-1] == 429
    assert (of_another_client, of_stranger) == (403, 403)


def test_nobody_says_below_which_path_the_api_is(api: Api) -> None:
    with coming_from(PROXY, api) as client:
        answer = client.get(SIGN_IN, headers={"SCRIPT_NAME": "/evil"})

    assert answer.status_code == 200
    assert "/evil" not in answer.text
