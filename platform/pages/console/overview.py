"""The first page: is all well, how much is done, how long does it take, and what waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from flask import Response, request

from jobplatform.models import Status
from jobplatform.pages.charts import HALF, WIDE, BarChart, Frame, LineChart, bar_chart, line_chart
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, looking, url
from jobplatform.pages.words import duration, number
from jobplatform.queue import pages

SPANS: tuple[pages.Span, ...] = get_args(pages.Span)
NAMES = {"1h": "Hour", "24h": "Day", "7d": "Week", "30d": "Month"}
#: The page of what an alert is about, by its code.
LEADS: dict[str, tuple[str, dict[str, str]]] = {
    "stuck": ("jobs.list_jobs", {"status": Status.RUNNING}),
    "failing": ("errors.list_errors", {"within": "24h"}),
    "backlog": ("queues.list_queues", {}),
    "no_key": ("jobs.list_jobs", {"status": Status.PENDING}),
    "no_worker": ("workers.list_workers", {}),
    "unserved": ("tasks.list_tasks", {}),
    "overdue_schedules": ("schedules.list_schedules", {}),
    "webhooks_disabled": ("connections.list_webhooks", {}),
}
SAID = {"1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days"}


def make_overview() -> Section:
    section = Section("overview", __name__)
    section.page("/")(show_overview)
    return section


def show_overview() -> Response:
    span = asked_span()
    with looking() as session:
        seen = pages.overview(session, span)
    done, wait, run = charts(seen.throughput, WIDE)
    return render(
        "overview.html",
        seen=seen,
        span=span,
        spans=[(one, NAMES[one]) for one in SPANS],
        said=SAID[span],
        done=done,
        wait=wait,
        run=run,
        rows=table_rows(seen.throughput),
        lead_of=lead_of,
    )


def lead_of(alert: str) -> str:
    """Where there is more about an alert, and something to do about it. The rules are all on the page of alerts."""
    view, values = LEADS.get(alert, ("alerts.show_alerts", {}))
    return url(view, **values)


def asked_span() -> pages.Span:
    """As the query says; the hour where it says nothing."""
    asked = request.args.get("span", "")
    return next((span for span in SPANS if span == asked), SPANS[0])


def charts(throughput: pages.Throughput, frame: Frame = HALF) -> tuple[BarChart, LineChart, LineChart]:
    """What ended, how long it waited, how long it ran."""
    points = throughput.points
    moments, step = [point.at for point in points], throughput.step_seconds
    form = "%H:%M" if step < 3600 else "%d %b %H:%M"
    tips = [
        f"{point.at.strftime(form)} UTC: {number(point.completed)} completed, {number(point.failed)} failed"
        for point in points
    ]
    done = bar_chart(
        moments,
        [
            ("completed", [point.completed for point in points]),
            ("failed", [point.failed for point in points]),
        ],
        tips,
        step_seconds=step,
        frame=frame,
    )
    return done, _times(throughput, "wait", form), _times(throughput, "run", form)


def table_rows(throughput: pages.Throughput) -> list[list[Any]]:
    """The same as numbers, newest first; moments at which nothing happened are left out."""
    return [
        [
            point.at.strftime("%Y-%m-%d %H:%M"),
            number(point.completed),
            number(point.failed),
            *(duration(value) for value in (*_spread(point.wait), *_spread(point.run))),
        ]
        for point in reversed(throughput.points)
        if point.completed or point.failed
    ]


def _times(throughput: pages.Throughput, which: str, form: str) -> LineChart:
    points = throughput.points
    spreads: Sequence[pages.Spread | None] = [getattr(point, which) for point in points]
    tips = [
        f"{point.at.strftime(form)} UTC: p50 {duration(p50)}, p95 {duration(p95)}"
        for point, (p50, p95) in zip(points, map(_spread, spreads), strict=True)
    ]
    series = [("p95", [_spread(one)[1] for one in spreads]), ("p50", [_spread(one)[0] for one in spreads])]
    return line_chart([point.at for point in points], series, tips, step_seconds=throughput.step_seconds)


def _spread(spread: pages.Spread | None) -> tuple[float | None, float | None]:
    return (spread.p50, spread.p95) if spread else (None, None)
