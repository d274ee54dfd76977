"""Numbers become a page that Prometheus can read."""

from __future__ import annotations

from jobplatform import metrics
from jobplatform.metrics import BOUNDS, FINISHED, JOBS, Family, Rows, write_page
from jobplatform.queue import Happening
from jobplatform.worker.tally import Tally
from tests.numbers import Numbers, read_numbers


def read(families: list[tuple[Family, Rows]]) -> Numbers:
    body, content_type = write_page(families)
    assert content_type.startswith("text/plain; version=0.0.4")
    return read_numbers(body.decode())


def test_a_page_has_each_number_under_its_name_and_labels() -> None:
    page = read([(FINISHED, {("sync", "sync", "ok"): 3}), (JOBS, {("default", "ready"): 7})])

    assert page == {
        ("jobs_finished_total", "sync", "sync", "ok"): 3,
        ("jobs", "default", "ready"): 7,
    }


def test_a_duration_is_in_its_bucket_and_in_all_larger_ones() -> None:
    tally = Tally()
    tally.ran("default", "export", 0.005, 2.0)
    tally.ran("default", "export", 0.0051, 90_000.0)

    page = read(tally.families())

    def waits(bound: str) -> float:
        return page["job_wait_seconds_bucket", "default", "export", bound]

    assert [waits("0.005"), waits("0.01"), waits("+Inf")] == [1, 2, 2]
    assert page["job_run_seconds_bucket", "default", "export", str(BOUNDS[-1])] == 1
    assert page["job_run_seconds_count", "default", "export"] == 2
    assert page["job_run_seconds_sum", "default", "export"] == 90_002


def test_names_that_a_worker_was_not_started_for_are_one() -> None:
    tally = Tally()
    tally.know({"default"}, {"export"})

    tally.happened(
        {
            Happening("enqueued", "default", "export"): 2,
            Happening("enqueued", "made-up", "export"): 1,
            Happening("enqueued", "default", "made-up-1"): 1,
            Happening("enqueued", "default", "made-up-2"): 1,
            Happening("conflict", "default", "export"): 4,
        }
    )

    assert {key: value for key, value in read(tally.families()).items() if len(key) > 1} == {
        ("jobs_enqueued_total", "default", "export"): 2,
        ("jobs_enqueued_total", "other", "export"): 1,
        ("jobs_enqueued_total", "default", "other"): 2,
        ("guard_conflicts_total", "default", "export"): 4,
    }


def test_no_name_has_a_workspace_for_a_label() -> None:
    families = [family for family in vars(metrics).values() if isinstance(family, Family)]

    assert len(families) >= 11
    labels = {label for family in families for label in family.labels}
    assert labels == {"queue", "task", "outcome", "state", "limit", "which"}
