"""The demo's conversation with the API: what a front-end would ask, and whether the answers are the promised ones."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin
from uuid import UUID

import click
import httpx
from rich.console import Console

from jobplatform.cli.show import print_json, print_table
from jobplatform.cli.waiting import show_progress

POLL_SECONDS = 0.2
FINAL = ("completed", "failed", "cancelled")
DEADLINE_SECONDS = 300.0


class Story:
    """One workspace's sync, from the request to the records."""

    def __init__(self, api_url: str, workspace_id: UUID, token: str) -> None:
        self.client = httpx.Client(
            base_url=api_url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )
        self.sync_path = f"/workspaces/{workspace_id}/sync"
        self.job_id = ""
        self.status_url = ""
        self.job: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    @property
    def total_records(self) -> int:
        return int(self.job["result"]["totalRecords"])

    def start_sync(self) -> None:
        answer = self._ask("POST", self.sync_path, expect=202, json={})
        body = answer.json()
        self.job_id, self.status_url = body["jobId"], urljoin(str(self.client.base_url), body["statusUrl"])
        click.echo(f"jobId     {self.job_id}\nstatusUrl {self.status_url}")

    def ask_again(self) -> None:
        body = self._ask("POST", self.sync_path, expect=409, json={}).json()
        if body["jobId"] != self.job_id:
            raise click.ClickException(f"the second request was refused in favour of another job, {body['jobId']}")
        click.echo(f"{body['title']}: {body['detail']}")

    def watch(self) -> None:
        """Poll as a front-end would; an unchanged job costs a 304 without a body."""
        tag = ""
        deadline = time.monotonic() + DEADLINE_SECONDS
        with show_progress(Console()) as report:
            while self.job.get("status") not in FINAL:
                answer = self.client.get(self.status_url, headers={"If-None-Match": tag})
                if answer.status_code == 200:
                    tag, self.job = answer.headers["ETag"], answer.json()
                    report(self.job["status"], self.job["progress"])
                elif answer.status_code != 304:
                    raise click.ClickException(f"GET {self.status_url} → {answer.status_code}: {answer.text}")
                if time.monotonic() > deadline:
                    raise click.ClickException(f"the sync did not end within {DEADLINE_SECONDS:g} s")
                time.sleep(POLL_SECONDS)
        if self.job["status"] != "completed":
            raise click.ClickException(f"the sync ended as {self.job['status']}: {self.job['error']}")
        click.echo(f"completed in attempt {self.job['attempts']} of {self.job['maxAttempts']}")

    def show_result(self) -> None:
        result = self.job["result"]
        print_json({name: result[name] for name in ("results", "totalRecords", "errors")})

    def show_recent(self) -> None:
        items = self._ask("GET", f"{self.sync_path}/jobs?limit=20", expect=200).json()["items"]
        columns = ["id", "jobType", "status", "createdAt", "completedAt"]
        print_table(columns, [[_short(item[name]) for name in columns] for item in items])

    def try_as_stranger(self, token: str) -> None:
        """Another workspace must not even learn that the job exists."""
        body = self._ask("GET", self.status_url, expect=404, headers={"Authorization": f"Bearer {token}"}).json()
        click.echo(f"{body['title']}: {body['detail']}")

    def _ask(self, method: str, url: str, *, expect: int, **options: Any) -> httpx.Response:
        answer = self.client.request(method, url, **options)
        shown = url.removeprefix(str(self.client.base_url).rstrip("/"))
        click.echo(f"{method} {shown} → {click.style(str(answer.status_code), fg='green')}")
        if answer.status_code != expect:
            raise click.ClickException(f"expected {expect}, got {answer.status_code}: {answer.text[:1000]}")
        return answer


def _short(value: Any) -> Any:
    """A moment as its time of day: it was a moment ago."""
    moment = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\S*Z", value)
    return moment[1] if moment else value
