"""Tables: printed while the run goes on, and written as a page at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.facts import Facts
from harness.figures import shown


@dataclass(frozen=True)
class Table:
    """One section's result. ``explanation`` says what was done and what a column means."""

    title: str
    explanation: str = field(repr=False)
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        header = f"| {' | '.join(self.columns)} |"
        rule = f"|{'|'.join(['---'] + ['---:'] * (len(self.columns) - 1))}|"
        body = "\n".join(f"| {' | '.join(row)} |" for row in self.rows)
        return f"{header}\n{rule}\n{body}"

    def section(self) -> str:
        return f"## {self.title}\n\n{self.explanation.strip()}\n\n{self.markdown()}"

    def plain(self) -> str:
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]
        lines = ("  ".join(_aligned(row, widths)) for row in [self.columns, *self.rows])
        return "\n".join(f"  {line}".rstrip() for line in lines)


@dataclass(frozen=True)
class Target:
    """A promise this project measures itself by. ``reached`` is None when the run did not measure it."""

    what: str
    wanted: str
    measured: str
    reached: bool | None

    @classmethod
    def at_least(cls, what: str, wanted: float, measured: float | None, digits: int = 0) -> Target:
        reached = None if measured is None else measured >= wanted
        return cls(what, f"≥ {shown(wanted, digits)}", shown(measured, digits), reached)

    @classmethod
    def at_most(cls, what: str, wanted: float, measured: float | None, digits: int = 0) -> Target:
        reached = None if measured is None else measured <= wanted
        return cls(what, f"≤ {shown(wanted, digits)}", shown(measured, digits), reached)

    @classmethod
    def within(cls, what: str, wanted: float, tolerance: float, measured: float | None, digits: int = 0) -> Target:
        """``tolerance`` is a share of what is wanted."""
        reached = None if measured is None else abs(measured - wanted) <= tolerance * wanted
        return cls(what, f"{shown(wanted, digits)} ± {tolerance:.0%}", shown(measured, digits), reached)


@dataclass
class Report:
    facts: Facts
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, tables: Sequence[Table], targets: Sequence[Target]) -> None:
        self.tables += tables
        self.targets += targets
        for table in tables:
            print(f"\n{table.title}\n{table.plain()}\n", flush=True)

    def print_targets(self) -> None:
        print(f"\nTargets\n{_target_table(self.targets).plain()}")
        for remark in self.remarks:
            print(f"\n{remark}")

    def write(self, path: Path) -> None:
        path.write_text(self.page())

    def page(self) -> str:
        sections = [table.section() for table in self.tables]
        remarks = "\n".join(f"- {remark}" for remark in self.remarks)
        parts = [HEAD, self.facts.markdown(), *sections, TARGETS, _target_table(self.targets).markdown()]
        if remarks:
            parts += ["## Left out", remarks]
        return "\n\n".join(parts) + "\n"


HEAD = """# Benchmarks

Made by `make bench`; run it to get the numbers of your own machine (about forty minutes, everything it needs is
installed beside the repository's environment; `make bench BENCH=--quick` takes six).

How to read it: all contenders ran on the same PostgreSQL server with normal durability, one after another in
alternating rounds of one run, each round on a fresh database. A shared machine easily drifts by a factor of
two within minutes, so compare *ratios*: they are taken within a round, and the number in front is their
median. A number from another run, another day or another page means nothing beside these.

What the contenders keep differs. jobplatform and pg-boss keep the job's record with its result; procrastinate
keeps the job; pgqueuer moves it to a log. jobplatform runs each job in a process it can kill, fences every
write and claims fairly between workspaces; the others run it inside the worker's own process. dbos takes part only
beside the noisy neighbours: it is an engine of durable workflows, and serves partitions in turn."""

TARGETS = """## Targets

What this project has promised itself, and whether this run reached it."""


def _target_table(targets: Sequence[Target]) -> Table:
    rows = [(target.what, target.wanted, target.measured, _word(target.reached)) for target in targets]
    return Table("Targets", "", ("", "target", "measured", "reached"), rows)


def _word(reached: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "not measured"}[reached]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
