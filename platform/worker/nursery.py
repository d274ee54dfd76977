"""The nursery: the process that makes children, signals them, reaps them, and takes them along when the parent dies.

    1. Import the application's tasks once, so that children share the memory, and tell the parent what they are.
    2. Fork a child for every `spawn`, in a process group of its own.
    3. Signal children when asked, unless they are reaped: no one else signals them, so a pid can't have been reused.
    4. At the exit of a child kill its group *while the zombie still holds the number*, then reap and report.
    5. When the parent is gone (end of the socket, or a reset) kill every group and leave.

One thread, no job, no database connection: a fork copies nothing but this.
"""

import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, Final

from jobplatform.errors import SettingsError
from jobplatform.queue import Tasks, load_tasks
from jobplatform.worker.child import CHILD_FAILED, ChildConfig, ChildEnds, run_child
from jobplatform.worker.frames import MESSAGE_SIZE
from jobplatform.worker.kernel import become_subreaper, die_with_parent, outlive_parent

#: Tasks, or rules, whose descriptions fit into one message.
TASKS_A_MESSAGE: Final = 50
#: Mistakes of settings that are told of one start.
MOST_PROBLEMS: Final = 20
#: The ends of pipes and sockets that a new child gets.
DESCRIPTORS: Final = 5

logger = logging.getLogger("jobplatform.worker.nursery")


class Nursery:
    """The process that makes children: it has loaded the application, and each child is a fork of it."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: set[int] = set()
        self.pid = os.getpid()
        self.tasks: Tasks
        self.config: ChildConfig
        self.wake_read, self.wake_write = os.pipe()
        self.found: dict[int, Any] = {}
        """What signals of a terminal meant before; they mean nothing here, and what they did to a child."""

    def run(self) -> None:
        self.mind_signals()
        become_subreaper()
        # An import may take its time, or never end, and nothing is heard of the parent meanwhile.
        die_with_parent()
        self.configure()
        outlive_parent()
        self.freeze()
        self.say("up", self.pid, threading.active_count() - 1)
        # Not select(): it does not know the number of the socket that a parent with many slots gives a new nursery.
        waiting = select.poll()
        for fd in (self.control.fileno(), self.wake_read):
            waiting.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in waiting.poll()}
            if self.wake_read in ready:
                self.reap()
            if self.control.fileno() in ready:
                self.obey()

    # -- start -----------------------------------------------------------------------------------

    def mind_signals(self) -> None:
        """What a terminal sends hits every process in it, and a supervisor's SIGTERM may hit every one of a unit: only
        the parent may decide.
        """
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for signum in (signal.SIGHUP, signal.SIGQUIT):
            self.found[signum] = signal.signal(signum, signal.SIG_IGN)

    def configure(self) -> None:
        """Import the tasks and send the catalogue; or say why not and leave."""
        _, options = json.loads(self.control.recv(MESSAGE_SIZE))
        sys.path += [path for path in options.pop("import_path") if path not in sys.path]
        self.config = ChildConfig(**options)
        logging.basicConfig(level=self.config.log_level, stream=sys.stderr)
        # In an application with migrations each of its plug-ins says that it is there, whenever somebody imports it.
        logging.getLogger("alembic").setLevel(max(logging.WARNING, self.config.log_level))
        try:
            self.tasks = load_tasks(self.config.tasks)
            catalogue, rules = self.tasks.catalogue(), self.tasks.rules()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the application's module may raise anything at import.
            problems = error.problems if isinstance(error, SettingsError) else [str(error)]
            told = [problem[:4000] for problem in problems[:MOST_PROBLEMS]]
            self.say("failed", type(error).__name__, told, traceback.format_exc()[-20_000:])
            sys.exit(1)
        for start in range(0, len(catalogue), TASKS_A_MESSAGE):
            self.say("tasks", catalogue[start : start + TASKS_A_MESSAGE])
        for start in range(0, len(rules), TASKS_A_MESSAGE):
            self.say("rules", rules[start : start + TASKS_A_MESSAGE])
        for declared in self.tasks.schedules:
            self.say("schedule", declared.as_dict())

    def freeze(self) -> None:
        """Move everything imported so far out of the collector's sight: a collection in a child would touch, and so
        copy, every page of it.
        """
        gc.collect()
        gc.freeze()

    # -- children --------------------------------------------------------------------------------

    def obey(self) -> None:
        """One request of the parent; its end is ours."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, MESSAGE_SIZE, DESCRIPTORS)
        except ConnectionResetError:
            # The parent died with messages of ours unread: a reset, not the end of the stream.
            data, descriptors = b"", []
        if not data:
            self.leave()
        match json.loads(data):
            case ["spawn", number]:
                self.spawn(number, descriptors)
            case ["kill", pid, signum] if pid in self.children:
                os.kill(pid, signum)
            case ["killpg", pid, signum] if pid in self.children:
                kill_group(pid, signum)

    def spawn(self, number: int, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            # Of processes or of memory there are no more; the children that there are go on.
            self.say("unstarted", number, error.strerror)
        else:
            if pid == 0:
                self.become_child(ChildEnds(*descriptors))
            # Both sides set the group: whoever comes second finds it done, and no signal can come too early.
            with suppress(PermissionError, ProcessLookupError):
                os.setpgid(pid, pid)
            self.children.add(pid)
            self.say("started", number, pid)
        for fd in descriptors:
            os.close(fd)

    def become_child(self, ends: ChildEnds) -> None:
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for signum, meaning in self.found.items():
                signal.signal(signum, meaning)
            self.control.close()
            os.close(self.wake_read)
            os.close(self.wake_write)
            run_child(ends, self.config, self.tasks, self.pid)
        except BaseException:  # noqa: BLE001 - this process must not go on as a second nursery
            traceback.print_exc()
        finally:
            os._exit(CHILD_FAILED)

    def reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        while (pid := next_zombie()) is not None:
            if pid in self.children:
                kill_group(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            if pid in self.children:
                self.children.discard(pid)
                self.say("exit", pid, os.waitstatus_to_exitcode(status), usage.ru_maxrss)

    def leave(self) -> None:
        for pid in self.children:
            kill_group(pid, signal.SIGKILL)
        os._exit(0)

    def say(self, *message: Any) -> None:
        # A parent that is gone is noticed where its requests are read.
        with suppress(OSError):
            self.control.send(json.dumps(message).encode())


def next_zombie() -> int | None:
    """The pid of a dead child that is still to be reaped."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None


def kill_group(pid: int, signum: int) -> None:
    """A child, with what it started; also one that has put itself into another group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) != pid:
            os.kill(pid, signum)


if __name__ == "__main__":
    Nursery(socket.socket(fileno=int(sys.argv[1]))).run()
