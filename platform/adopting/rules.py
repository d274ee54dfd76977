"""Rules: what becomes of the jobs that another queue calls by one name. Pure.

>>> rule = Rule("email.send", workspace_from="tenant", without=("tenant",))
>>> payload = {"tenant": "acme", "to": "ada@example.org"}
>>> rule.workspace_of(payload), rule.payload_of(payload)
('acme', {'to': 'ada@example.org'})
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from jobplatform.errors import AdoptionError


@dataclass(frozen=True, slots=True)
class Rule:
    """``task`` is ours; the paths lead into their payload, with dots between the fields.

    The workspace is ``workspace`` for all, or what stands at ``workspace_from``. The payload is what stands at
    ``payload_from``, or all of it; the fields ``without`` are left out of that.
    """

    task: str = ""
    workspace: str | None = None
    workspace_from: str | None = None
    payload_from: str | None = None
    without: tuple[str, ...] = ()

    def workspace_of(self, payload: Any) -> str:
        """The workspace that one job is for, by id or name. Raises :class:`LookupError` where nothing says it."""
        if self.workspace_from is None:
            return self.workspace or ""
        found = _at(payload, self.workspace_from)
        if not isinstance(found, str) or not found:
            raise LookupError(f"no workspace stands at {self.workspace_from} in its payload")
        return found

    def payload_of(self, payload: Any) -> Any:
        """The payload as our task gets it. Raises :class:`LookupError` where there is none."""
        value = {} if payload is None else payload
        if self.payload_from is not None:
            value = _at(value, self.payload_from)
        for path in self.without:
            value = _without(value, path.split("."))
        return value


NAMES = tuple(field.name.replace("_", "-") for field in fields(Rule))


def read_rules(text: str, common: Rule) -> dict[str, Rule]:
    """Rules by their name from TOML: a table for each, whose entries count before ``common``.

    Raises :class:`AdoptionError` with what to correct.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AdoptionError(f"is no TOML: {error}") from None
    return {name: _rule(name, entries, common) for name, entries in document.items()}


def require_complete(rules: Mapping[str, Rule]) -> None:
    """Raises :class:`AdoptionError` for a rule that does not say the task, or not in one way for which workspace."""
    for name, rule in rules.items():
        if not rule.task:
            raise AdoptionError(f"which task of ours is {name!r}?")
        if (rule.workspace is None) == (rule.workspace_from is None):
            raise AdoptionError(f"whose are the jobs of {name!r}? Say a workspace, or where in the payload that stands")


def _rule(name: str, entries: Any, common: Rule) -> Rule:
    if isinstance(entries, str):
        return replace(common, task=entries)
    if not isinstance(entries, Mapping):
        raise AdoptionError(f"{name!r} must be the name of a task of ours, or a table")
    given = {key.replace("-", "_"): _value(name, key, value) for key, value in entries.items()}
    if "workspace" in given or "workspace_from" in given:
        common = replace(common, workspace=None, workspace_from=None)
    return replace(common, **given)


def _value(name: str, key: str, value: Any) -> Any:
    if key not in NAMES:
        near = difflib.get_close_matches(key, NAMES, n=1)
        raise AdoptionError(f"{name!r} has {key!r}, which says nothing{f'; is it {near[0]!r}?' if near else ''}")
    if key == "without":
        if not isinstance(value, list) or not _are_texts(value):
            raise AdoptionError(f"{name!r}: {key} must be a list of fields")
        return tuple(value)
    if not _are_texts([value]):
        raise AdoptionError(f"{name!r}: {key} must be text")
    return value


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise LookupError(f"nothing stands at {path} in its payload")
        value = value[step]
    return value


def _without(value: Any, path: list[str]) -> Any:
    """A field that is not there is left out already."""
    first, *rest = path
    if not isinstance(value, Mapping) or first not in value:
        return value
    if not rest:
        return {name: inner for name, inner in value.items() if name != first}
    return {**value, first: _without(value[first], rest)}
