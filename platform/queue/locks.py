"""Locks: the numbers of our advisory locks, each for one thing. The other half of a lock says for which one of these.

A number is used for nothing else, or whoever wants one thing would wait for somebody who does another. Old code runs
beside new while a deploy is under way: one that is changed excludes nobody who still uses the old one.
"""

from __future__ import annotations

from typing import Final

# The first three, and that of a resource, stand as they are in SQL functions, which migrations have made.

#: Whoever counts what runs of a workspace, and claims as much as there is room for.
ROOM_OF_WORKSPACE: Final = 724618001
#: The same of a queue.
ROOM_OF_QUEUE: Final = 724618002
#: The same of a task.
ROOM_OF_TASK: Final = 724618003
#: Whoever counts what waits in a workspace that has a quota, and enqueues as much as there is room for.
QUOTA: Final = 724618004
#: Whoever does what comes under an Idempotency-Key.
REQUEST: Final = 724618005
#: Whoever makes the row of a chore, the first time.
FIRST_TURN: Final = 724618006
#: Whoever tries with one job whether a resource is well again.
TRIAL: Final = 724618007
#: Whoever takes one of the places that a workspace has for schedules.
PLACES_OF_SCHEDULES: Final = 724618008
#: Whoever takes one of the places that it has for connections.
PLACES_OF_CONNECTIONS: Final = 724618015
#: Whoever counts what runs on a resource, and claims as much as there is room for.
ROOM_OF_RESOURCE: Final = 724618016
