"""What people write into the search box."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.errors import Problem, SearchError
from jobplatform.models import Status
from jobplatform.queue import QUALIFIERS, Search, parse_search
from jobplatform.queue.find.search import MOST_VALUES, Range

AN_ID = uuid.UUID("0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10")

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
numbers = st.integers(-999_999, 999_999)
ranges = st.one_of(
    st.builds(lambda low, more: Range(low, min(low + more, 999_999)), numbers, st.integers(0, 9)),
    st.builds(lambda low: Range(low, None), numbers),
    st.builds(lambda high: Range(None, high), numbers),
)


def some(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(values, max_size=4, unique=True).map(tuple)


searches = st.builds(
    Search,
    workspace_ids=some(st.uuids()),
    tasks=some(words),
    queues=some(words),
    statuses=some(st.sampled_from(Status)),
    priorities=some(ranges),
    tags=some(st.lists(words, min_size=1, max_size=3).map(tuple)),
    errors=some(words),
    ids=some(st.uuids()),
)


@given(searches)
def test_a_search_that_is_written_down_and_read_again_is_the_same(search: Search) -> None:
    assert parse_search(search.text) == search


@given(st.text(max_size=200))
def test_whatever_is_typed_is_a_search_or_is_refused_with_words(text: str) -> None:
    assert all(problem.path.startswith("/q") and problem.message for problem in problems_of(text))


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        parse_search(text)
    except SearchError as error:
        return error.problems
    return ()


def test_every_qualifier_has_its_place() -> None:
    search = parse_search(
        f'workspace:{AN_ID} task:sync,export queue:"two words" status:failed,Running priority:>=5 tag:eu tag:a,b '
        f"error:ValueError,0123456789abcdef id:{AN_ID}"
    )

    assert search == Search(
        workspace_ids=(AN_ID,),
        tasks=("sync", "export"),
        queues=("two words",),
        statuses=(Status.FAILED, Status.RUNNING),
        priorities=(Range(5, None),),
        tags=(("eu",), ("a", "b")),
        errors=("ValueError", "0123456789abcdef"),
        ids=(AN_ID,),
    )
    assert search.fingerprints == ("0123456789abcdef",)
    assert search.error_types == ("ValueError",)


def test_a_qualifier_that_is_said_twice_means_either() -> None:
    assert parse_search("task:a task:b task:a").tasks == ("a", "b")


def test_a_jobs_id_may_stand_alone() -> None:
    assert parse_search(f"  {AN_ID} ").ids == (AN_ID,)


@pytest.mark.parametrize(
    ("priority", "found"),
    [
        ("5", Range(5, 5)),
        ("-3", Range(-3, -3)),
        (">5", Range(6, None)),
        ("<=0", Range(None, 0)),
        ("<0", Range(None, -1)),
        ("-10..0", Range(-10, 0)),
    ],
)
def test_priorities_are_numbers_and_ranges(priority: str, found: Range) -> None:
    assert parse_search(f"priority:{priority}").priorities == (found,)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("nightly", "/q", "task:nightly"),
        ("-task:x", "/q", "what is not wanted cannot be said"),
        ("state:failed", "/q/state", "did you mean status:?"),
        ("taks:x", "/q/taks", "did you mean task:?"),
        ("payload.user.id:3", "/q/payload.user.id", "give the jobs tags"),
        ("task:", "/q/task", "has no value"),
        ('task:"open', "/q", "is not closed"),
        ("status:fialed", "/q/status", "did you mean failed?"),
        ("priority:high", "/q/priority", "is no number and no range"),
        ("priority:5..1", "/q/priority", "is empty"),
        ("id:12", "/q/id", "is no id"),
        ("workspace:acme", "/q/workspace", "is no id"),
        ("task:" + ",".join(map(str, range(MOST_VALUES + 1))), "/q/task", "more than 20 values"),
        ("x" * 3000, "/q", "at most 2000 characters"),
    ],
)
def test_what_is_wrong_is_said_of_its_qualifier(text: str, path: str, words: str) -> None:
    with pytest.raises(SearchError) as refused:
        parse_search(text)

    (problem,) = refused.value.problems
    assert problem.path == path
    assert words in problem.message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SearchError) as refused:
        parse_search("status:nope id:12 nightly")

    assert [problem.path for problem in refused.value.problems] == ["/q/status", "/q/id", "/q"]


def test_the_help_has_an_example_of_each_qualifier_that_can_be_parsed() -> None:
    examples = [word for line in QUALIFIERS.values() for word in line.split() if ":" in word and '"' not in word]

    assert all(not parse_search(example.strip(",;")).is_empty for example in examples if not example.endswith(":"))
