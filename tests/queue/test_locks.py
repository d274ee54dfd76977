"""What is locked by numbers keeps nobody from anything else."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import Every, RequestKey, RunningJob, Tasks, create_schedule, lock_request, locks
from tests.queue.test_schedules import HOUR

#: Of each so many, several have the same hash. (Ordered, so that the planner does not think it has the first at once.)
ALIKE = """
select key, workspace_id
from (select 'key-' || n as key from generate_series(1, 200000) n) keys
join (select md5(n::text)::uuid as workspace_id from generate_series(1, 200000) n) workspaces
    on hashtext(cast(:prefix as text) || key) = hashtext(workspace_id::text)
order by key
limit 1
"""


def test_a_request_is_not_held_up_by_whoever_makes_a_schedule_in_a_workspace_of_the_same_hash(
    db: Session, session: Session
) -> None:
    tasks = Tasks()

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    own = RequestKey(uuid.UUID(int=1), "caller", "")
    key, workspace_id = session.execute(text(ALIKE), {"prefix": own.place}).one()
    create_schedule(session, work, Every(HOUR), workspace_id=workspace_id)

    assert lock_request(db, own._replace(key=key))


def test_no_two_locks_have_one_number() -> None:
    numbers = [value for name, value in vars(locks).items() if name.isupper()]

    assert len(set(numbers)) == len(numbers) > 1
