"""One application before and after a deploy that changed a payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobplatform.queue import Items, RunningJob, Tasks

before = Tasks()
after = Tasks()


@dataclass(frozen=True)
class Letter:
    to: str


@dataclass(frozen=True)
class Mail:
    address: str


def upgrade(payload: dict[str, Any], version: int) -> dict[str, Any]:
    return {"address": f"{payload['to']}@v{version}"}


@before.task("mail", limit_per_workspace=2)
def send_letter(job: RunningJob, payload: Letter) -> str:
    return f"before: {payload.to}"


@after.task("mail", payload_version=2, upgrade=upgrade, limit_per_workspace=3)
def send_mail(job: RunningJob, payload: Mail) -> str:
    return f"after: {payload.address}"


@after.task("fax")
def fax(job: RunningJob, payload: dict[str, Any]) -> str:
    return "after: fax"


@after.batch_task("print", size=2)
def print_together(batch: Items[dict[str, Any]]) -> list[str]:
    return ["after: print" for _ in batch]
