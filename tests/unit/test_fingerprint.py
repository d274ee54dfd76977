"""What failures have in common."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.queue import common_part, fingerprint_of
from jobplatform.queue.numbers.fingerprint import FINGERPRINT, LONGEST


@pytest.mark.parametrize(
    ("message", "common"),
    [
        ("user 4711 has no address", "user <n> has no address"),
        ("took 3.5 s, at most 2,000 ms", "took <n> s, at most <n> ms"),
        ("no job 0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10", "no job <id>"),
        ("at 2026-01-05T12:00:01.5Z and on 2026-01-05", "at <time> and on <time>"),
        ("key 'a b' is not in \"x\" or `y`", "key <text> is not in <text> or <text>"),
        ("we don't know the user's name", "we don't know the user's name"),
        ("<Thing at 0x7f3a2c> broke", "<Thing at <n>> broke"),
        ("commit deadbeef01 is gone", "commit <id> is gone"),
        ("\n  first line 1\nsecond line 2", "first line <n>"),
        ("", ""),
        (None, ""),
        ('{"$sealed": "v1:1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}', ""),
        # As much of a long one as is looked at.
        ('{"$sealed":"v1:1:' + "Ab1/" * 500, ""),
    ],
)
def test_what_varies_between_messages_is_left_out(message: str | None, common: str) -> None:
    assert common_part(message) == common


@given(st.text(max_size=3000))
def test_the_common_part_is_short_and_on_one_line_whatever_the_message(message: str) -> None:
    found = common_part(message)

    assert len(found) <= LONGEST
    assert len(found.splitlines()) <= 1


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_messages_that_differ_in_numbers_have_one_fingerprint(one: int, other: int) -> None:
    def fingerprint(number: int) -> str:
        return fingerprint_of("sync", "KeyError", common_part(f"no user {number} in 'workspace {number}'"))

    assert fingerprint(one) == fingerprint(other)


def test_task_type_and_message_tell_failures_apart() -> None:
    found = {
        fingerprint_of("sync", "KeyError", "a"),
        fingerprint_of("export", "KeyError", "a"),
        fingerprint_of("sync", "ValueError", "a"),
        fingerprint_of("sync", "KeyError", "b"),
        fingerprint_of("sync", "KeyErrora", ""),
    }

    assert len(found) == 5
    assert all(FINGERPRINT.match(one) for one in found)


@pytest.mark.parametrize("piece", ["'", '"', "1", "a1", "0x", "1-", "1,", "ab1", "2026-01-"])
def test_no_message_takes_long(piece: str) -> None:
    began = time.process_time()

    common_part(piece * 100_000)

    assert time.process_time() - began < 1
