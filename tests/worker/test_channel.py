"""What a child's thread says is said once and whole, wherever a signal handler comes between."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from jobplatform.worker.channel import Line

#: More than there are lines between the first and the last of a frame that is sent.
MOST_LINES = 30


class Interruption:
    """Does something once, before the line with this number that a call of the channel comes to."""

    def __init__(self, number: int, do: Callable[[], None]) -> None:
        self.left = number
        self.do = do

    def __call__(self, frame: FrameType, event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.endswith("channel.py"):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.do()
        return self


@pytest.mark.parametrize("number", range(1, MOST_LINES))
def test_what_a_signal_handler_sends_is_sent_once_wherever_it_comes(number: int) -> None:
    read, write = os.pipe()
    line = Line(write, orders=-1)
    # Another one came while the frame before was written.
    line._local.meanwhile.append(b"a")
    interruption = Interruption(number, lambda: line.send(b"signal "))
    before = sys.gettrace()

    sys.settrace(interruption)
    try:
        line.send(b"b")
    finally:
        sys.settrace(before)

    os.close(write)
    with os.fdopen(read, "rb") as sent:
        words = sent.read().replace(b"signal ", b"s")
    assert sorted(words) == sorted(b"ab" + b"s" * (interruption.left <= 0))
