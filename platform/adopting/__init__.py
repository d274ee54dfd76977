"""Jobs of another queue in PostgreSQL become ours, while both go on: pg-boss, Procrastinate and PGQueuer.

``source`` says what there is to know of such a queue, and a file for each system says it in its terms. ``rules`` say
what becomes of which of their jobs, ``identity`` what those are called here, and ``moving`` does it.
"""

from collections.abc import Mapping

from jobplatform.adopting.moving import LOCK, Adoption, Left, Portion, Tally
from jobplatform.adopting.pg_boss import PgBoss
from jobplatform.adopting.pgqueuer import Pgqueuer
from jobplatform.adopting.procrastinate import Procrastinate
from jobplatform.adopting.rules import Rule, read_rules, require_complete
from jobplatform.adopting.source import RUNNING, WAITING, Counted, Source, TheirSchedule

SYSTEMS: Mapping[str, type[Source]] = {system.system: system for system in (PgBoss, Procrastinate, Pgqueuer)}

__all__ = [
    "LOCK",
    "RUNNING",
    "SYSTEMS",
    "WAITING",
    "Adoption",
    "Counted",
    "Left",
    "PgBoss",
    "Pgqueuer",
    "Portion",
    "Procrastinate",
    "Rule",
    "Source",
    "Tally",
    "TheirSchedule",
    "read_rules",
    "require_complete",
]
