"""The engines' metrics by quantity: one set of names for all engines."""

from __future__ import annotations

from llm_operator.engines.metrics import MetricName
from llm_operator.engines.registry import ENGINES
from llm_operator.engines.table import release


def metric_names(engine: str, quantity: str, version: str | None = None) -> tuple[MetricName, ...]:
    """The metrics that make up a quantity; empty if the engine, or this version of it, has none.

    Args:
        engine: name of the engine.
        quantity: such as `requests_running`; `quantities()` lists them.
        version: the engine's version; None for every version.
    """
    names = ENGINES[engine].metrics.get(quantity, ()) if engine in ENGINES else ()
    return names if version is None else tuple(name for name in names if release(name.first) <= release(version))


def quantities() -> tuple[str, ...]:
    """Every quantity that at least one engine measures."""
    return tuple(dict.fromkeys(quantity for engine in ENGINES.values() for quantity in engine.metrics))


def engines() -> tuple[str, ...]:
    """The engines with known metrics."""
    return tuple(ENGINES)
