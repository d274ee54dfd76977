"""Processes as a test looks at them: what runs, what became of it, and what it left behind."""

from __future__ import annotations

import os
from pathlib import Path


def process_state(pid: int) -> str:
    """R, S, T, Z …; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def is_dead(pid: int) -> bool:
    """A zombie counts: it runs nothing and waits for whoever inherited it."""
    return process_state(pid) in ("", "Z", "X")


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def children_of(parent: int) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if parent_of(pid) == parent]


def descendants_of(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        below = children_of(todo.pop())
        found += below
        todo += below
    return found
