"""What an engine calls its metrics on `/metrics`, by quantity and version: a file in its folder.

The names were read in lmdeploy/metrics/loggers.py and vllm/v1/metrics/loggers.py of the versions in these files;
tests/engines/test_metric_names.py reads them there again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable


@dataclass(frozen=True, slots=True)
class MetricName:
    """One metric of one engine.

    Attributes:
        name: the name of its samples; a histogram's samples add `_bucket`, `_sum` and `_count`.
        kind: gauge, counter or histogram.
        first: the oldest version known to have it.
    """

    name: str
    kind: str
    first: str


def read_metrics(source: Traversable) -> Mapping[str, tuple[MetricName, ...]]:
    """Read the metrics that make up each quantity."""
    table = json.loads(source.read_text())  # noqa: TID251 - the package's own data
    return {quantity: tuple(MetricName(**entry) for entry in entries) for quantity, entries in table.items()}
