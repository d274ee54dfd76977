"""Pages for Prometheus, as tests look at them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Numbers = dict[tuple[str, ...], float]

_LABELS = ("queue", "task", "outcome", "state", "limit", "which", "le")


def read_numbers(page: str) -> Numbers:
    """Every number of a page, by its name without our prefix and the values of its labels, in the order of them."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {(sample.name.removeprefix("jobplatform_"), *_values(sample.labels)): sample.value for sample in samples}


def _values(labels: Mapping[str, str]) -> list[str]:
    return [labels[label] for label in _LABELS if label in labels]
