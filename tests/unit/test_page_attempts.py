"""How often somebody may try to sign in."""

from __future__ import annotations

from jobplatform.pages.attempts import OF_ALL, OF_ONE, SPAN, Attempts


def test_an_address_that_failed_too_often_waits_until_its_first_failure_is_a_minute_old() -> None:
    now = [1000.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(OF_ONE):
        assert attempts.wait_for("a") == 0
        attempts.note_failure("a")
        now[0] += 1

    assert attempts.wait_for("a") == SPAN - OF_ONE
    assert attempts.wait_for("b") == 0
    now[0] += SPAN - OF_ONE
    assert attempts.wait_for("a") == 0


def test_very_many_addresses_together_wait_too() -> None:
    attempts = Attempts(lambda: 1000.0)
    for number in range(OF_ALL):
        attempts.note_failure(f"address {number}")

    assert attempts.wait_for("somebody else") == SPAN
