"""How a line of the audit log spells what it tells."""

from __future__ import annotations

import re

from jobplatform.models import AuditEntry

CAMEL = re.compile(r"[a-z][a-zA-Z0-9]*\Z")


def names_in(line: AuditEntry) -> list[str]:
    """Every name in its details: of a fact, and of what was changed."""
    return [*line.details, *line.details.get("changed", [])]
