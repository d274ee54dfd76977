"""The nursery, as its parent starts it."""

from __future__ import annotations

import fcntl
import json
import socket

import pytest

from jobplatform.worker.frames import MESSAGE_SIZE
from jobplatform.worker.kernel import FD_SETSIZE
from jobplatform.worker.nursery_link import NurseryConfig, start_nursery
from tests.unit.test_kernel import many_descriptors

__all__ = ["many_descriptors"]


@pytest.mark.usefixtures("many_descriptors")
def test_a_nursery_of_a_parent_with_a_thousand_open_files_serves_until_it_is_let_go() -> None:
    """A worker with 150 slots has that many."""
    config = NurseryConfig("tests.worker.rolling_tasks:after", "postgresql://", threads=1, log_level=20)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(60)
        with socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, FD_SETSIZE)) as high:
            nursery = start_nursery(high)
        theirs.close()
        ours.send(json.dumps(["configure", config.as_message()]).encode())
        while json.loads(ours.recv(MESSAGE_SIZE))[0] != "up":
            pass

    assert nursery.wait(60) == 0
