"""Every code by which `why` names what is in a job's way is documented, with its facts."""

from __future__ import annotations

import re

from jobplatform.api import openapi_document
from jobplatform.queue import BLOCKER_CODES
from tests.docs.pages import ROOT, table_rows

PAGE = ROOT / "docs" / "howto" / "why-is-my-job-not-running.md"


def words(column: int) -> set[str]:
    return {word for row in table_rows(PAGE, "## Codes") for word in re.findall(r"`([^`]+)`", row[column])}


def test_the_codes_of_the_page_are_those_there_are() -> None:
    assert words(0) == set(BLOCKER_CODES)


def test_the_facts_of_the_page_are_those_an_answer_can_have() -> None:
    members = set(openapi_document()["components"]["schemas"]["Blocker"]["properties"])

    assert words(-1) == members - {"code", "message", "until"}
