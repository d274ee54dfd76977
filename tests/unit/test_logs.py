"""Log lines: facts come out, and nothing that is logged can forge a line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.logs import configure_logging, escape_controls, make_formatter

log = logging.getLogger("jobplatform.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The root logger as it was before the test."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_facts_come_out_as_json_where_nobody_watches(stream: io.StringIO) -> None:
    configure_logging("INFO", "auto", stream)

    log.info("job failed", extra={"job_id": "j1", "attempt": 2})

    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "jobplatform.test",
        "message": "job failed",
        "job_id": "j1",
        "attempt": 2,
    }


def test_an_exception_is_one_line_of_json(stream: io.StringIO) -> None:
    configure_logging("INFO", "json", stream)

    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        log.exception("it broke")

    (line,) = stream.getvalue().splitlines()
    assert "RuntimeError: first\nsecond" in json.loads(line)["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_that_is_logged_can_forge_a_line_or_move_the_cursor(stream: io.StringIO, log_format: str) -> None:
    configure_logging("INFO", log_format, stream)  # type: ignore[arg-type] # two of its words

    log.info("hello\r\n2026 forged %s", "\x1b[2J\u2028", extra={"name_of_it": "a\nb\x9b", "half": "\ud800"})

    written = stream.getvalue()
    assert len(written.splitlines()) == 1
    assert "\x1b[2J" not in written
    assert "\x9b" not in written


def test_a_traceback_in_a_terminal_cannot_begin_a_line_of_its_own(stream: io.StringIO) -> None:
    configure_logging("INFO", "console", stream)

    try:
        raise RuntimeError("\n2026 [info] forged")
    except RuntimeError:
        log.exception("it broke")

    assert not [line for line in stream.getvalue().splitlines() if line.startswith("2026 [info] forged")]


def test_configuring_twice_does_not_say_everything_twice(stream: io.StringIO) -> None:
    configure_logging("INFO", "json", stream)
    configure_logging("WARNING", "json", stream)

    log.info("not this")
    log.warning("this")

    assert len(stream.getvalue().splitlines()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("target", "variable", "coloured"),
    [
        (io.StringIO, None, False),
        (io.StringIO, "NO_COLOR", False),
        (io.StringIO, "FORCE_COLOR", True),
        (Terminal, None, True),
        (Terminal, "NO_COLOR", False),
    ],
)
def test_text_has_colours_in_a_terminal_and_none_in_a_file(
    monkeypatch: pytest.MonkeyPatch, target: type[io.StringIO], variable: str | None, coloured: bool
) -> None:
    stream = target()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "1")

    configure_logging("INFO", "console", stream)
    log.info("job failed", extra={"job_id": "j1"})

    assert "job failed" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_a_formatter_alone_goes_by_what_standard_error_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("sys.stderr", io.StringIO())

    line = make_formatter(as_text=True).format(logging.makeLogRecord({"msg": "job failed"}))

    assert "\x1b[" not in line


@given(st.text(alphabet=st.characters()))
def test_escaped_text_is_printable_and_printable_text_stays_as_it_is(text: str) -> None:
    escaped = escape_controls(text)

    assert escaped.isprintable()
    assert not text.isprintable() or escaped == text
