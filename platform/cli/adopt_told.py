"""What ``jobplatform adopt`` says: by name what was taken over, what is left and why, and that it adds up."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from jobplatform.adopting import RUNNING, WAITING, Counted, Portion, Rule, Source, Tally, TheirSchedule
from jobplatform.cli.show import print_json, print_table
from jobplatform.wording import agreeing, plural

#: More reasons than these are counted, not listed.
MOST_REASONS = 20
NOT_MAPPED = "there is no --map for it"
STAYS = "stays there, as --leave says"
STOPPED = "this was stopped before its turn"
MEANWHILE = "came meanwhile, or somebody there has it"


@dataclass
class Told:
    """All there is to say; ``before`` and ``after`` are what was there."""

    source: Source
    rules: Mapping[str, Rule]
    stay: frozenset[str]
    before: Sequence[Counted]
    dry_run: bool = False
    stopped: bool = False
    after: Sequence[Counted] | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)

    def add(self, portion: Portion) -> None:
        self.tallies.setdefault(portion.name, Tally()).add(portion)

    def look_again(self) -> None:
        for tally in self.tallies.values():
            tally.forget_left()

    def expected(self) -> int:
        """How many of those that are to be taken over wait."""
        return sum(one.number for one in self.before if one.name in self.rules and one.standing == WAITING)

    def moved(self) -> int:
        return sum(tally.taken + tally.known for tally in self.tallies.values())

    @property
    def there(self) -> Sequence[Counted]:
        return self.before if self.after is None else self.after

    def names(self) -> list[str]:
        return sorted({*self.rules, *(one.name for one in self.there)})

    def tally(self, name: str) -> Tally:
        return self.tallies.get(name, Tally())

    def running(self, name: str) -> int:
        return sum(one.number for one in self.there if one.name == name and one.standing == RUNNING)

    def waiting(self, name: str) -> int:
        """What waits there now. A dry run has taken nothing out: what it would take does not count."""
        found = sum(one.number for one in self.there if one.name == name and one.standing != RUNNING)
        return max(0, found - self.tally(name).taken) if self.dry_run else found

    def reasons(self, name: str) -> Counter[str]:
        """Why what waits there waits there still: so many of each reason, and all together as many as wait."""
        if name not in self.rules:
            return Counter({STAYS if name in self.stay else NOT_MAPPED: self.waiting(name)})
        held = {
            one.standing: one.number
            for one in self.there
            if one.name == name and one.standing not in (RUNNING, WAITING)
        }
        found = self.tally(name).left + Counter(held)
        found[STOPPED if self.stopped else MEANWHILE] = max(0, self.waiting(name) - found.total())
        return +found

    def is_something_left(self) -> bool:
        return any(self.waiting(name) + self.running(name) for name in self.names() if name not in self.stay)


def tell(told: Told, *, as_json: bool) -> None:
    """Say it, as a table and sentences or as one document."""
    if as_json:
        print_json({"dryRun": told.dry_run, "names": [_as_dict(told, name) for name in told.names()]})
        return
    if not told.names():
        click.echo(f"nothing waits or runs in {told.source.system}")
        return
    taken = "would take" if told.dry_run else "taken over"
    columns = [told.source.noun, "task here", taken, "here already", "left", "running there"]
    print_table(columns, [_row(told, name) for name in told.names()])
    if reasons := list(_reasons(told)):
        click.echo()
        print_table(["left", told.source.noun, "why", "such as"], reasons)
    click.echo()
    click.echo(_end(told))


def tell_schedules(found: Sequence[TheirSchedule], rules: Mapping[str, Rule], *, as_json: bool) -> None:
    """What repeats there, as the commands that make it here; nothing is made, so that nothing runs twice."""
    if as_json:
        print_json([{**one._asdict(), "command": _command(one, rules)} for one in found])
        return
    for one in found:
        click.echo(f"# {one.name}{f' ({one.key})' if one.key else ''}{f': {one.note}' if one.note else ''}")
        click.echo(_command(one, rules))
    if not found:
        click.echo("nothing repeats there")


def _row(told: Told, name: str) -> tuple[Any, ...]:
    rule, tally = told.rules.get(name), told.tally(name)
    task = rule.task if rule else None
    return (name, task, f"{tally.taken:,}", f"{tally.known:,}", f"{told.waiting(name):,}", f"{told.running(name):,}")


def _reasons(told: Told) -> Iterator[tuple[Any, ...]]:
    found = [(count, name, why) for name in told.names() for why, count in told.reasons(name).items() if count]
    found.sort(key=lambda one: (-one[0], one[1:]))
    for count, name, why in found[:MOST_REASONS]:
        yield f"{count:,}", name, why, ", ".join(told.tally(name).examples.get(why, ()))
    if rest := found[MOST_REASONS:]:
        yield f"{sum(count for count, *_ in rest):,}", "", f"{len(rest)} more reasons: see --json", ""


def _end(told: Told) -> str:
    names = told.names()
    taken = sum(told.tally(name).taken for name in names)
    known = sum(told.tally(name).known for name in names)
    waiting, running = sum(map(told.waiting, names)), sum(map(told.running, names))
    parts = [f"{plural(taken, 'job')} {'would be' if told.dry_run else agreeing(taken, 'is', 'are')} taken over"]
    if known:
        parts.append(f"{known:,} {agreeing(known, 'was', 'were')} here already")
    parts.append(f"{waiting:,} {agreeing(waiting, 'is', 'are')} left there")
    if running:
        parts.append(f"{running:,} {agreeing(running, 'is', 'are')} running there; run this again")
    return "; ".join([", ".join(parts[:-1]) + f", {parts[-1]}"])


def _as_dict(told: Told, name: str) -> dict[str, Any]:
    rule, tally = told.rules.get(name), told.tally(name)
    reasons = told.reasons(name)
    return {
        "name": name,
        "task": rule.task if rule else None,
        "taken": tally.taken,
        "hereAlready": tally.known,
        "left": told.waiting(name),
        "runningThere": told.running(name),
        "reasons": [
            {"why": why, "count": count, "examples": tally.examples.get(why, [])}
            for why, count in reasons.most_common()
        ],
    }


def _command(schedule: TheirSchedule, rules: Mapping[str, Rule]) -> str:
    rule = rules.get(schedule.name, Rule())
    words = ["jobplatform", "schedules", "create", rule.task or "TASK", "--cron", schedule.cron or "LINE"]
    words += ["-w", rule.workspace] if rule.workspace else []
    words += ["--name", f"{schedule.name}-{schedule.key}" if schedule.key else schedule.name]
    words += ["--timezone", schedule.timezone] if schedule.timezone else []
    if schedule.payload:
        words += ["--payload", json.dumps(schedule.payload)]
    return shlex.join(words)
