"""Log lines: one formatter for everything that goes through the standard library's ``logging``.

Our modules log plainly: a short event as the message, the facts as ``extra={...}``. Here they become one line of
JSON each, or text when a person is watching. Control characters are always escaped, so that nothing a
job, a source or a client sends can forge a line or move the cursor of a terminal. What looks like a secret is not
shown, by its name or by its form.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from jobplatform.redaction import redact_field, redact_text

LogFormat = Literal["auto", "json", "console"]

#: Made here and never secret; not looked at.
OURS = frozenset({"timestamp", "level", "logger"})


def configure_logging(level: str = "INFO", format: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send every log line of this process to ``stream`` (standard error). ``auto`` is text in a terminal and JSON
    everywhere else. Text has colours in a terminal alone. Calling it again replaces what the first call set up."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    as_text = format == "console" or (format == "auto" and target.isatty())
    handler.setFormatter(make_formatter(as_text=as_text, colours=shows_colours(target)))
    root = logging.getLogger()
    for earlier in [*root.handlers]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level)
    # What they say at INFO (each request, each plug-in) would bury our own events.
    for library in ("alembic", "httpx"):
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def shows_colours(stream: TextIO) -> bool:
    """Whether it is a terminal. ``NO_COLOR`` says that nothing is to have colours, and ``FORCE_COLOR`` that a person
    reads at the other end of a pipe."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def make_formatter(*, as_text: bool, colours: bool | None = None) -> logging.Formatter:
    """The formatter alone, for applications that set up their own handlers. Text has ``colours`` where standard error
    shows them, unless it is said."""
    coloured = shows_colours(sys.stderr) if colours is None else colours
    shared: list[Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(),
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(as_text, coloured)],
    )


def _rendering(as_text: bool, coloured: bool) -> list[Processor]:
    if as_text:
        renderer = structlog.dev.ConsoleRenderer(colors=coloured, pad_event_to=28)
        return [structlog.processors.format_exc_info, _redact, _escape_facts, renderer]
    return [
        structlog.processors.format_exc_info,
        _redact,
        _message_after_logger,
        # ASCII only: JSON's own escapes take care of control characters and lone surrogates.
        structlog.processors.JSONRenderer(default=_as_text),
    ]


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value if name in OURS else redact_field(name, value) for name, value in event.items()}


def _as_text(value: Any) -> str:
    return redact_text(str(value))


def _message_after_logger(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When, how bad, who, what; then the facts."""
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "logger")}
    return {**first, "message": event.pop("event", ""), **event}


def _escape_facts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _escape_lines(value) if name == "exception" else _escape(value) for name, value in event.items()}


def _escape_lines(traceback: str) -> str:
    """A traceback keeps its lines; they are indented, so none of them can pass for a line of its own."""
    return "\n".join("  " + escape_controls(line) for line in traceback.split("\n"))


def _escape(value: Any) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    return escape_controls(value if isinstance(value, str) else _as_text(value))


def escape_controls(text: str) -> str:
    """``text`` with everything unprintable written as a Python escape: one line, and harmless in a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
