"""Delete a schedule, and nothing that it enqueued. Never commits."""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.schedules.row import require_not_in_code


@checks_arguments(InvalidScheduleError)
def delete_schedule(session: Session, schedule: Schedule) -> None:
    """Delete a schedule; jobs it has enqueued stay, and so do its ticks for as long as ticks are kept.

    Raises :class:`ScheduleMadeInCodeError` for one that the next worker would only make again.
    """
    require_not_in_code(schedule)
    session.delete(schedule)
    session.flush()
