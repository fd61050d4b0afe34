"""What the engines call their metrics on `/metrics`, by quantity and version; one set of names for both engines.

The names were read in lmdeploy/metrics/loggers.py and vllm/v1/metrics/loggers.py of the versions in data/metrics.json;
tests/engines/test_metric_names.py reads them there again.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

from llm_operator.engines.table import release


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


@functools.cache
def _all() -> dict[str, dict[str, tuple[MetricName, ...]]]:
    text = resources.files("llm_operator.engines").joinpath("data", "metrics.json").read_text()
    return {
        engine: {quantity: tuple(MetricName(**entry) for entry in entries) for quantity, entries in table.items()}
        for engine, table in json.loads(text).items()  # noqa: TID251 - the package's own data
    }


def metric_names(engine: str, quantity: str, version: str | None = None) -> tuple[MetricName, ...]:
    """The metrics that make up a quantity; empty if the engine, or this version of it, has none.

    Args:
        engine: VLLM or LMDeploy.
        quantity: such as `requests_running`; `quantities()` lists them.
        version: the engine's version; None for every version.
    """
    names = _all().get(engine, {}).get(quantity, ())
    return names if version is None else tuple(name for name in names if release(name.first) <= release(version))


def quantities() -> tuple[str, ...]:
    """Every quantity that at least one engine measures."""
    return tuple(dict.fromkeys(quantity for table in _all().values() for quantity in table))


def engines() -> tuple[str, ...]:
    """The engines with known metrics."""
    return tuple(_all())
