"""A certificate as Markdown, which reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jobplatform.proof.certificate import Certificate, Promise, Verdict
from jobplatform.wording import plural

Row = Sequence[object]


def as_markdown(certificate: Certificate) -> str:
    return "\n".join(_lines(certificate)) + "\n"


def verdict_in_words(certificate: Certificate) -> str:
    """One sentence."""
    of = {verdict: [p for p in certificate.promises if p.verdict is verdict] for verdict in Verdict}
    held = f"{len(of[Verdict.HELD])} of {plural(len(certificate.promises), 'promise')} held"
    untested = f"{plural(len(of[Verdict.UNTESTED]), 'was', 'were')} not put to the test"
    if certificate.verdict is Verdict.VIOLATED:
        count = sum(promise.violations for promise in certificate.promises)
        return f"VIOLATED: {plural(count, 'violation')} of {plural(len(of[Verdict.VIOLATED]), 'promise')}."
    if certificate.verdict is Verdict.UNTESTED:
        return f"NOT PROVEN: {held}, none was broken, and {untested}. Give it more --minutes and more --jobs."
    return f"HELD: every one of {plural(len(certificate.promises), 'promise')} was put to the test, and held."


def _lines(certificate: Certificate) -> Iterator[str]:
    yield "# Certificate of `jobplatform prove`"
    yield ""
    yield f"**{verdict_in_words(certificate)}**"
    yield from _section("On what", _table(("", ""), _on_what(certificate)))
    yield from _section("Settings of the server", _table(("setting", "value"), list(certificate.settings.items())))
    yield from _section("What was done to it", _counts(certificate.faults))
    if certificate.not_injected:
        yield from _section("What was not done", _table(("fault", "why"), list(certificate.not_injected.items())))
    yield from _section("Limits that were changed meanwhile", _counts(certificate.limits_changed))
    yield from _section("Times that limits were reached", _counts(certificate.limits_reached))
    yield from _section("What happened", _counts(certificate.happened))
    yield from _section("Promises", _promises(certificate.promises))
    if certificate.violations:
        yield from _section("Violations", _violations(certificate))
    yield from _section("What this cannot show", (f"- {line}" for line in certificate.cannot_show))


def _on_what(certificate: Certificate) -> list[Row]:
    return [
        ("server", certificate.server),
        ("jobplatform", certificate.jobplatform),
        ("Python", certificate.python),
        ("host of the workers", f"{certificate.host}, {plural(certificate.cores, 'core')}"),
        ("workers", certificate.workers),
        ("seed", certificate.seed),
        ("seconds", certificate.seconds),
        ("ended at", certificate.ended_at.isoformat(timespec="seconds").replace("+00:00", "Z")),
    ]


def _promises(promises: Sequence[Promise]) -> Iterator[str]:
    rows = [(p.promise, f"{p.at_what}: {p.looked_at:,}", p.violations, f"**{_in_words(p)}**") for p in promises]
    yield from _table(("promise", "looked at", "violations", "verdict"), rows)
    missing = [(promise.promise, what) for promise in promises for what in promise.missing]
    if missing:
        yield ""
        yield "What would have had to happen, and did not:"
        yield ""
        yield from (f"- {promise}: {what}" for promise, what in missing)


def _in_words(promise: Promise) -> str:
    """Of a promise with several parts some may have been."""
    in_part = promise.verdict is Verdict.UNTESTED and promise.looked_at
    return "not wholly put to the test" if in_part else promise.verdict


def _violations(certificate: Certificate) -> Iterator[str]:
    for violation in certificate.violations:
        yield f"- **{violation.rule}**: {f'job {violation.job_id} ' if violation.job_id else ''}{violation.what}"
        if violation.history:
            yield ""
            yield from ("      " + line for line in violation.history)
            yield ""


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield from lines


def _counts(counts: Mapping[str, int]) -> Iterator[str]:
    return _table(("what", "times"), list(counts.items()))


def _table(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Columns as wide as what is in them; numbers stand to the right."""
    columns = [_column(head, [row[nth] for row in rows]) for nth, head in enumerate(header)]
    return (f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True))


def _column(head: object, values: Sequence[object]) -> list[str]:
    cells = [_cell(value) for value in (head, *values)]
    width = max(map(len, cells))
    if values and all(isinstance(value, int) for value in values):
        first, *rest = (cell.rjust(width) for cell in cells)
        return [first, "-" * (width - 1) + ":", *rest]
    first, *rest = (cell.ljust(width) for cell in cells)
    return [first, "-" * width, *rest]


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")
