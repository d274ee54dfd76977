"""Who is looked at out of turn, and how often."""

from __future__ import annotations

from jobplatform.worker.newcomers import MOST, ONE_IN, Newcomers


def test_those_who_rang_are_taken_once_and_in_order() -> None:
    newcomers = Newcomers(lambda _: True)
    newcomers.rang(["a", "b", "a"])

    assert newcomers.take(limit=8) == ["a", "b"]
    assert newcomers.take(limit=8) == []


def test_one_that_has_had_its_share_waits_for_its_turn() -> None:
    newcomers = Newcomers(lambda workspace_id: workspace_id != "greedy")
    newcomers.rang(["greedy", "modest"])

    assert newcomers.take(limit=8) == ["modest"]


def test_newcomers_get_no_more_than_their_part_of_what_is_claimed() -> None:
    newcomers = Newcomers(lambda _: True)
    newcomers.rang(map(str, range(MOST)))

    for limit in (1, 3, 50):
        taken = [len(newcomers.take(limit)) for _ in range(40)]
        assert sum(taken) <= 40 * limit / ONE_IN + 1, f"of claims of {limit}"

    assert sum(len(newcomers.take(1)) for _ in range(40)) >= 40 / ONE_IN - 1


def test_of_too_many_the_newest_are_remembered() -> None:
    newcomers = Newcomers(lambda _: True)
    newcomers.rang(map(str, range(MOST + 5)))

    assert newcomers.take(limit=ONE_IN) == ["5"]
