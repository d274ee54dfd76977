"""The types of the ES module say what the OpenAPI document says, and nothing else."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import pytest

from jobplatform.api import openapi_document
from tests.api.servers import ROOT

TYPES = (ROOT / "platform" / "api" / "static" / "v1" / "jobplatform.d.ts").read_text("utf-8")
#: Each interface with the schema that it is. An enqueue takes the type of the job and its payload beside its options.
PAIRS = [
    ("Job", "Job", set()),
    ("Progress", "Progress", set()),
    ("JobError", "JobError", set()),
    ("Wait", "Wait", set()),
    ("Edge", "Edge", set()),
    ("EnqueueOptions", "NewJob", {"jobType", "payload"}),
    ("JobChange", "JobChange", set()),
    ("ForkOptions", "Fork", set()),
]


class Member(NamedTuple):
    """What both say of a member: whether it may be null, and the words it may be, if they are named."""

    nullable: bool
    words: frozenset[str]


@cache
def schema(name: str) -> Any:
    return openapi_document()["components"]["schemas"][name]


def members_of_interface(name: str) -> dict[str, tuple[bool, str]]:
    """By its name: whether the member may be absent, and its type."""
    found = re.search(rf"^export interface {name}(?:<[^{{]*>)? \{{\n(.*?)^\}}", TYPES, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    lines = re.findall(r"^  (\w+)(\??): (.*);$", found[1], re.MULTILINE)
    return {member: (bool(mark), kind) for member, mark, kind in lines}


def read_type(kind: str) -> Member:
    parts = {part.strip() for part in kind.split("|")}
    named = re.search(rf"^export type {re.escape(min(parts - {'null'}))} = (.*);$", TYPES, re.MULTILINE)
    words = re.findall(r'"(\w+)"', named[1] if named else kind)
    return Member("null" in parts, frozenset(words))


def read_schema(found: Any) -> Member:
    kinds = [found.get("type"), *(one.get("type") for one in found.get("anyOf", ()))]
    nullable = any(kind == "null" or (isinstance(kind, list) and "null" in kind) for kind in kinds)
    return Member(nullable, frozenset(word for word in found.get("enum", ()) if word is not None))


@pytest.mark.parametrize(("interface", "name", "beside"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_an_interface_has_the_members_of_its_schema(interface: str, name: str, beside: set[str]) -> None:
    typed = {member: read_type(kind) for member, (_, kind) in members_of_interface(interface).items()}
    properties = schema(name)["properties"]
    documented = {member: read_schema(properties[member]) for member in properties.keys() - beside}

    if name == "Job":
        assert typed.pop("etag") == Member(nullable=False, words=frozenset())  # the answer's header, not its body
        # Whatever a task takes and answers: the caller says of which type, and whether null is one.
        for member in ("payload", "result"):
            del typed[member], documented[member]
    assert typed == documented


@pytest.mark.parametrize(
    ("interface", "name", "beside"),
    # All members of a progress are answered, null or not; the document leaves that open.
    [pair for pair in PAIRS if pair[0] != "Progress"],
    ids=[pair[0] for pair in PAIRS if pair[0] != "Progress"],
)
def test_a_member_may_be_absent_where_its_schema_says_so(interface: str, name: str, beside: set[str]) -> None:
    optional = {member for member, (may_be_absent, _) in members_of_interface(interface).items() if may_be_absent}

    assert optional - {"etag"} == schema(name)["properties"].keys() - set(schema(name).get("required", ())) - beside
