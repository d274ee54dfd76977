"""Which of their jobs become which of ours, and what they are called here."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.adopting import Rule, read_rules, require_complete
from jobplatform.adopting.identity import id_of
from jobplatform.errors import AdoptionError

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MOMENTS = st.integers(0, 2**53).map(lambda microseconds: EPOCH + datetime.timedelta(microseconds=microseconds))


def test_a_payload_is_taken_from_where_the_rule_says_without_what_it_says() -> None:
    rule = Rule("t", workspace_from="meta.tenant", payload_from="body", without=("secret", "user.name", "nothing"))
    theirs = {"meta": {"tenant": "Acme"}, "body": {"secret": 1, "user": {"name": "ada", "id": 7}, "n": 1}}

    assert rule.workspace_of(theirs) == "Acme"
    assert rule.payload_of(theirs) == {"user": {"id": 7}, "n": 1}
    assert theirs["body"] == {"secret": 1, "user": {"name": "ada", "id": 7}, "n": 1}


def test_a_payload_without_what_the_rule_names_is_refused() -> None:
    rule = Rule("t", workspace_from="tenant", payload_from="body")

    with pytest.raises(LookupError, match="nothing stands at body"):
        rule.payload_of({"tenant": "Acme"})
    with pytest.raises(LookupError, match="no workspace stands at tenant"):
        rule.workspace_of({"tenant": 7})
    with pytest.raises(LookupError, match="nothing stands at tenant"):
        rule.workspace_of([1])


def test_a_file_says_more_of_a_name_than_what_counts_for_all() -> None:
    common = Rule(workspace_from="tenant", without=("tenant",))

    rules = read_rules(
        """
        refresh = "crm.refresh"

        [send-email]
        task = "email.send"
        workspace = "Acme"
        payload-from = "body"
        without = []
        """,
        common,
    )

    require_complete(rules)
    assert rules == {
        "refresh": Rule("crm.refresh", workspace_from="tenant", without=("tenant",)),
        "send-email": Rule("email.send", workspace="Acme", payload_from="body"),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a =", "is no TOML"),
        ("a = 1", "must be the name of a task"),
        ("[a]\ntaks = 'x'", "is it 'task'?"),
        ("[a]\ntask = ''", "task must be text"),
        ("[a]\ntask = 'x'\nwithout = 'b'", "without must be a list"),
        ("[a]\nworkspace = 'x'", "which task of ours is 'a'?"),
        ("[a]\ntask = 'x'", "whose are the jobs of 'a'?"),
        ("[a]\ntask = 'x'\nworkspace = 'y'\nworkspace-from = 'z'", "whose are the jobs of 'a'?"),
    ],
)
def test_a_file_that_says_nothing_useful_is_refused(text: str, problem: str) -> None:
    with pytest.raises(AdoptionError) as error:
        require_complete(read_rules(text, Rule()))

    assert problem in str(error.value)


@given(st.text(max_size=5), st.integers(1, 2**63 - 1).map(str) | st.uuids().map(str), MOMENTS)
def test_an_id_is_the_same_however_often_it_is_asked_and_of_our_kind(
    place: str, their_id: str, made_at: datetime.datetime
) -> None:
    found = id_of(place, their_id, made_at)

    assert found == id_of(place, their_id, made_at)
    assert found.version == 7
    assert found != id_of(place + "b", their_id, made_at)
    assert found.int >> 80 == (made_at - EPOCH) // datetime.timedelta(milliseconds=1)


@given(st.lists(MOMENTS, min_size=2, max_size=5), st.integers(1, 2**31))
def test_ids_are_in_the_order_in_which_jobs_were_made(moments: list[datetime.datetime], first: int) -> None:
    made = [(moment, number) for number, moment in enumerate(sorted(moments), first)]

    found = [id_of("db", str(number), moment) for moment, number in made]

    assert found == sorted(found)


def test_a_job_whose_moment_nobody_knows_has_an_id_too() -> None:
    assert id_of("db", "7", None).version == 7
