"""What is no trace is not taken for one."""

from __future__ import annotations

import pytest

from jobplatform.tracing import well_formed

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_parent_of_the_w3c_is_one() -> None:
    assert well_formed(GOOD) == GOOD


@pytest.mark.parametrize(
    "sent",
    [
        None, "", "00", GOOD + "-more", GOOD.upper(), GOOD + "\n", "01" + GOOD[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)  # fmt: skip
def test_anything_else_is_not(sent: str | None) -> None:
    assert well_formed(sent) is None
