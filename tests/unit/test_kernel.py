"""What the system offers a worker's processes."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from jobplatform.worker.kernel import FD_SETSIZE, is_readable

ENOUGH = FD_SETSIZE + 64


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process may have descriptors that select() does not know."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < ENOUGH:
        pytest.skip(f"no process may open more than {hard} files here")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, ENOUGH), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("lowest", [0, FD_SETSIZE], ids=["low", "high"])
def test_a_pipe_is_readable_once_something_was_written(lowest: int) -> None:
    with ExitStack() as stack:
        first_end, write_end = os.pipe()
        read_end = fcntl.fcntl(first_end, fcntl.F_DUPFD_CLOEXEC, lowest)
        for end in (first_end, write_end, read_end):
            stack.callback(os.close, end)
        assert read_end >= lowest

        before = is_readable(read_end, 0.0005)
        os.write(write_end, b"x")

        assert not before
        assert is_readable(read_end, 10)
