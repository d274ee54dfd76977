"""The same API below /api, with links that stay there."""

from __future__ import annotations

import pytest

from tests.api.conftest import Client


def test_links_keep_the_prefix_that_the_request_came_in_by(client: Client, sync_url: str) -> None:
    started = client.post(f"/api{sync_url}")
    body = started.get_json()

    below = f"/api{sync_url.removesuffix('/sync')}/jobs/{body['jobId']}"
    assert started.headers["Location"] == body["statusUrl"] == body["job"]["statusUrl"] == below
    assert client.get(below).get_json()["statusUrl"] == below
    assert client.get(below.removeprefix("/api")).get_json()["statusUrl"] == below.removeprefix("/api")
    assert client.post(f"/api{sync_url}").headers["Location"] == below
    assert client.get(f"/api{sync_url}/jobs").get_json()["items"][0]["statusUrl"] == below


def test_links_keep_the_prefix_of_a_proxy(client: Client, sync_url: str) -> None:
    answer = client.post(sync_url, environ_overrides={"SCRIPT_NAME": "/behind"})

    assert answer.headers["Location"].startswith("/behind/workspaces/")


@pytest.mark.parametrize("path", ["//console//jobs", "/console//jobs", "/workspaces//jobs"])
def test_a_path_with_two_slashes_leads_nowhere(client: Client, path: str) -> None:
    answer = client.get(path, base_url="http://evil.example")

    assert (answer.status_code, answer.headers.get("Location")) == (404, None)


def test_links_do_not_believe_the_host_header(client: Client, sync_url: str) -> None:
    answer = client.post(sync_url, headers={"Host": "evil.example", "X-Forwarded-Prefix": "/evil"})

    assert "evil" not in answer.text
    assert "evil" not in str(answer.headers)
