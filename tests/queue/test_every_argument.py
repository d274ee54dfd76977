"""Whatever a public verb is called with that it does not take, whoever calls it is told which argument that is, in an
error of ours, and goes on in the same transaction."""

from __future__ import annotations

import datetime
import inspect
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import MetaData, text
from sqlalchemy.orm import Session

from jobplatform import queue
from jobplatform.errors import JobPlatformError
from jobplatform.models import Hook, Job, Schedule, WebhookSubscription
from jobplatform.queue import Every, JobChange, Matching, Tasks, parse_search
from jobplatform.queue.hooks.hooks import HookChanges
from jobplatform.queue.hooks.webhooks import WebhookChanges
from jobplatform.queue.reading.read import JobFilters
from tests.docs.pages import ROOT, table_rows

ID = uuid.UUID(int=7)
HOUR = datetime.timedelta(hours=1)
NOON = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC)
tasks = Tasks()


@tasks.task("work")
def work(_job: object, _payload: dict[str, str]) -> None: ...


#: What each kind of parameter takes, without which the others could not be tried.
RIGHT: dict[str, Any] = {
    "AnyText": "work",
    "BulkDeed": "cancel",
    "Deed": "cancel",
    "Files": object(),
    "Hook": Hook(workspace_id=ID, id=ID, scheme="standard"),
    "Iterable[Shown]": [],
    "Iterable[str]": ["work"],
    "Iterable[uuid.UUID]": [ID],
    "Collection[uuid.UUID]": [ID],
    "Job": Job(),
    "JobChange": JobChange(priority=1),
    "Mapping[str, Any]": {},
    "Mapping[str, datetime.timedelta | None]": {},
    "Mapping[str, int]": {},
    "Matching": Matching(),
    "MetaData": MetaData(),
    "PauseKind": "queue",
    "PauseKind | str": "queue",
    "Rule": Every(HOUR),
    "Schedule": Schedule(workspace_id=ID, id=ID, task="work"),
    "Search": parse_search("task:work"),
    "Sequence[str]": ["work"],
    "Sequence[tuple[uuid.UUID, uuid.UUID]]": [(ID, ID)],
    "Sequence[uuid.UUID]": [ID],
    "Task[Any, Any]": work,
    "Tasks": tasks,
    "UUID": ID,
    "WebhookSubscription": WebhookSubscription(workspace_id=ID, id=ID, name="n"),
    "bool": True,
    "datetime.datetime": NOON,
    "float": 1.0,
    "int": 1,
    "int | Adaptive | None": 1,
    "int | None": 1,
    "object": ID,
    "str": "work",
    "uuid.UUID": ID,
    "uuid.UUID | str": ID,
}
NO_IDS = ("abc", 4711, b"abc", "\0", [])
NO_TEXTS = (5, b"x", [], {}, "a\0b", "\ud800")
NO_LISTS = ("work", 5, {"work": 1})
NO_IDS_IN_A_LIST = (*NO_LISTS, ["abc"], [4711], [None])
NO_TEXTS_IN_A_LIST = (*NO_LISTS, [5], ["a\0b"], [None])
#: What it does not take. Of a class that is not here, nothing else.
WRONG: dict[str, tuple[Any, ...]] = {
    "BulkDeed": (*NO_TEXTS, "paint"),
    "AnyText": (5, b"x", [], {}),
    "Collection[uuid.UUID]": NO_IDS_IN_A_LIST,
    "Deed": (*NO_TEXTS, "paint"),
    "Iterable[Shown]": NO_LISTS,
    "Iterable[str]": NO_TEXTS_IN_A_LIST,
    "Iterable[uuid.UUID]": NO_IDS_IN_A_LIST,
    "Mapping[str, Any]": ([], "abc", 5, [("a", 1)], {5: 1}),
    "Mapping[str, datetime.timedelta | None]": ([], "abc", 5, {5: HOUR}),
    "PauseKind": (*NO_TEXTS, "planet"),
    "PauseKind | str": (*NO_TEXTS, "planet"),
    "Sequence[str]": NO_TEXTS_IN_A_LIST,
    "Sequence[tuple[uuid.UUID, uuid.UUID]]": (*NO_LISTS, [ID], ["ab"], [(ID, "abc")], [(ID,)], [(ID, None)]),
    "Sequence[uuid.UUID]": NO_IDS_IN_A_LIST,
    "Status | str": (*NO_TEXTS, "tired"),
    "UUID": NO_IDS,
    "bool": ("no", 1, []),
    "datetime.datetime": (
        "noon",
        5,
        datetime.date(2026, 1, 5),
        NOON.replace(tzinfo=None),
        NOON.replace(year=1),
    ),
    "datetime.timedelta": (5, "1h", datetime.timedelta.max),
    "float": ("5", float("nan"), True, []),
    "int": ("5", 2.5, True, -1, 2**70, []),
    "int | Adaptive": ("5", 2.5, True, -1, 2**70, []),
    "str": NO_TEXTS,
    "tuple[uuid.UUID, uuid.UUID]": (ID, (ID,), (ID, "abc"), "ab", [ID, ID]),
    "uuid.UUID": NO_IDS,
    "uuid.UUID | str": NO_IDS,
}
OTHERS = ("abc", 5, object())
#: What else they take, by name.
OPTIONS: dict[str, Any] = {
    "change_hook": HookChanges,
    "change_webhook": WebhookChanges,
    "list_jobs": JobFilters,
    "page_jobs": JobFilters,
}
#: Each job that is enqueued is looked at by itself, and named by its place (test_enqueue).
OF_JOBS = ("enqueue_job", "enqueue_jobs")


def public_verbs() -> Iterator[str]:
    """Those that take a Session and something else, of the names that are documented."""
    for cells in table_rows(ROOT / "docs" / "reference" / "python.md", "## jobplatform.queue"):
        for name in re.findall(r"`(\w+)`", cells[0]):
            found = getattr(queue, name)
            if inspect.isfunction(found) and name not in OF_JOBS:
                parameters = list(inspect.signature(found).parameters)
                if parameters[:1] == ["session"] != parameters:
                    yield name


def parameters_of(verb: Callable[..., Any]) -> dict[str, str]:
    """Their annotations, by name."""
    found = {
        name: str(parameter.annotation)
        for name, parameter in inspect.signature(verb).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    options = OPTIONS.get(verb.__name__)
    return found | ({name: said.__forward_arg__ for name, said in options.__annotations__.items()} if options else {})


def right_arguments(verb: Callable[..., Any]) -> dict[str, Any]:
    """Only those that have to be there."""
    return {
        name: RIGHT[str(parameter.annotation)]
        for name, parameter in inspect.signature(verb).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD and name != "session"
    }


def wrong_values(annotation: str) -> Iterator[Any]:
    if annotation in ("Any", "object", "Files"):
        return
    wanted = annotation.removesuffix(" | None")
    yield from WRONG.get(wanted, OTHERS)
    if wanted == annotation:
        yield None


def path_of(name: str) -> str:
    first, *others = name.split("_")
    return f"/{first}{''.join(word.capitalize() for word in others)}"


def answer_to(session: Session, verb: Callable[..., Any], name: str, said: Any) -> str | None:
    """What somebody is told who says that; None when it is said well."""
    try:
        verb(**{"session": session} | right_arguments(verb) | {name: said})
    except JobPlatformError as error:
        found = [problem.path for problem in getattr(error, "problems", [])]
        is_named = any(path == path_of(name) or path.startswith(f"{path_of(name)}/") for path in found)
        return None if is_named else f"{error!r} does not name it"
    except Exception as error:  # noqa: BLE001  # of whatever kind, it is not ours
        return repr(error)
    return "it was taken"


def bad_answers_of(session: Session, verb: Callable[..., Any]) -> Iterator[str]:
    for name, annotation in parameters_of(verb).items():
        for said in wrong_values(annotation):
            if answer := answer_to(session, verb, name, said):
                yield f"{verb.__name__}({name}={said!r:.60}): {answer}"
                return
    if session.scalar(text("select 1")) != 1:
        yield f"{verb.__name__}: nobody can go on"


def test_who_says_what_a_verb_does_not_take_is_told_which_argument_that_is(session: Session) -> None:
    """One after the other in one transaction, in which nothing may have gone wrong."""
    answers = []
    for name in public_verbs():
        with session.begin_nested() as savepoint:
            answers += bad_answers_of(session, getattr(queue, name))
            savepoint.rollback()

    assert answers == []


def test_nearly_all_verbs_are_tried() -> None:
    assert len(list(public_verbs())) > 100
