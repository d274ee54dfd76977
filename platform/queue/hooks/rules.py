"""What holds for hooks and webhooks alike: their texts, how many a workspace may have, and a secret's last days."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobplatform.errors import Problem
from jobplatform.models import Hook, WebhookSubscription, clock

LONGEST_NAME: Final = 100
#: How long the old one of two secrets is good, unless somebody says otherwise; and at most.
ROTATION: Final = datetime.timedelta(days=1)
LONGEST_ROTATION: Final = datetime.timedelta(days=30)

_AT_ONCE = datetime.timedelta(0)


def problem_of_text(path: str, value: str, longest: int) -> Iterator[Problem]:
    """What is wrong with a text of 1 to ``longest`` characters at ``path``."""
    if not 1 <= len(value) <= longest:
        yield Problem(path, f"must be 1 to {longest} characters")


def problems_of_keeping(keep_old: datetime.timedelta) -> Iterator[Problem]:
    """What is wrong with the time for which an old secret is to be good."""
    if not _AT_ONCE <= keep_old <= LONGEST_ROTATION:
        yield Problem("/keepOldMs", f"must be from 0 to {LONGEST_ROTATION.days} days")


def has_as_many(
    session: Session, kind: type[Hook] | type[WebhookSubscription], workspace_id: uuid.UUID, most: int
) -> bool:
    """Two that are made at once may be one too many; it is a bound and not a promise."""
    count = session.scalar(select(func.count()).select_from(kind).where(kind.workspace_id == workspace_id))
    return (count or 0) >= most


def keep_secret(session: Session, row: Hook | WebhookSubscription, keep_old: datetime.timedelta) -> None:
    """Have the secret that is about to be replaced be good for as long as ``keep_old``, beside the new one."""
    now = session.execute(select(clock())).scalar_one()
    keeps = keep_old > _AT_ONCE
    row.previous_secret = row.secret if keeps else None
    row.previous_until = now + keep_old if keeps else None
