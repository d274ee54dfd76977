"""What takes long lets others go on in between."""

from __future__ import annotations

import subprocess
import sys

from jobplatform.api.streams.giving_way import giving_way, has_greenlets

UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import socket, threading, time
from jobplatform.api.streams.giving_way import giving_way, has_greenlets
assert has_greenlets()
ours, theirs = socket.socketpair()
read = []
reader = threading.Thread(target=lambda: read.append(theirs.recv(10)))
reader.start()
time.sleep(0)
for number in giving_way(range(3), 1):
    if number == 0:
        ours.send(b"a request")
assert read == [b"a request"], read
"""


def test_all_things_come_and_in_a_process_of_threads_nothing_waits() -> None:
    assert list(giving_way(range(5), 2)) == [0, 1, 2, 3, 4]
    assert not has_greenlets()


def test_a_greenlet_that_gives_way_lets_another_one_read_what_has_come_meanwhile() -> None:
    subprocess.run([sys.executable, "-c", UNDER_GEVENT], check=True, timeout=60)
