"""Who looks at the pages, and what they may do."""

from __future__ import annotations

import re
import uuid

import pytest

from jobplatform.pages import VERBS, Visitor

MINE, OTHER = uuid.uuid4(), uuid.uuid4()


def test_an_operator_sees_everything_and_may_do_what_is_said() -> None:
    reader, worker = Visitor("r", operator=True), Visitor("w", operator=True, may={"job.retry"})

    assert reader.sees(None)
    assert reader.sees(MINE)
    assert not any(reader.may_do(verb) for verb in VERBS)
    assert [verb for verb in VERBS if worker.may_do(verb)] == ["job.retry"]
    assert all(Visitor("a", operator=True, may="all").may_do(verb) for verb in VERBS)


def test_somebody_of_a_workspace_sees_that_one_and_never_does_what_is_an_operator_s() -> None:
    visitor = Visitor("t", workspaces={MINE}, may="all")

    assert (visitor.sees(MINE), visitor.sees(OTHER), visitor.sees(None)) == (True, False, False)
    assert visitor.may_do("job.cancel")
    assert not any(visitor.may_do(verb) for verb in ("pause", "limit", "worker.drain", "job.delete"))
    assert visitor.as_principal(MINE).workspace_id == MINE


def test_a_token_s_scopes_count_in_its_pages_too() -> None:
    visitor = Visitor("t", workspaces={MINE}, may="all", scopes=frozenset({"jobs:read"}))

    assert not any(visitor.may_do(verb) for verb in VERBS)


@pytest.mark.parametrize("options", [{}, {"operator": True, "workspaces": {MINE}}])
def test_whoever_is_neither_or_both_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either an operator or has workspaces"):
        Visitor("x", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("may", "said"),
    [
        ({"job.retri"}, "'job.retri' is not something that can be done in the pages; did you mean 'job.retry'?"),
        ("everything", "may='everything' is neither 'all' nor 'read_only' nor a set of verbs"),
    ],
)
def test_a_verb_that_is_none_is_refused_with_the_nearest(may: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Visitor("x", operator=True, may=may)  # type: ignore[arg-type]
