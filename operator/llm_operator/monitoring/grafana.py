"""A dashboard as data, and as Grafana reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]
SCHEMA_VERSION = 39
"""Grafana 10.4's; newer versions upgrade it when they load a dashboard."""
WIDTH = 24
LABELS_OF_THE_SCRAPE = ("__name__", "container", "endpoint", "instance", "job", "pod")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        queries: PromQL and the legend of its series.
        unit: Grafana's unit: short, s, percentunit, bytes, reqps, ...
        kind: timeseries, stat or table.
        width: of 24 columns.
        text: what to read from it; every panel says it.
        value: name of the column with the value in a table; empty: a table without one.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    text: str = field(kw_only=True)
    value: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard: rows of panels, each under a heading."""

    uid: str
    title: str
    by_object: bool
    rows: Sequence[tuple[str, Sequence[Panel]]]


def render(dashboard: Dashboard) -> JSON:
    """The dashboard as Grafana imports it."""
    panels: list[JSON] = []
    y = 0
    for heading, row in dashboard.rows:
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": heading, "gridPos": _place(0, y, WIDTH, 1), "panels": []}
        )
        x, y = 0, y + 1
        height = 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = 4 if panel.kind == "stat" else 8
            panels.append(_panel(panel, len(panels) + 1, _place(x, y, panel.width, height)))
            x += panel.width
        y += height
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["llm-operator"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables(dashboard.by_object)},
        "panels": panels,
    }


def queries(dashboard: Dashboard) -> tuple[str, ...]:
    """Every query of a dashboard, with all objects chosen."""
    return tuple(
        expression.replace("$namespace", ".*").replace("$name", ".*")
        for _, row in dashboard.rows
        for panel in row
        for expression, _ in panel.queries
    )


def _place(x: int, y: int, width: int, height: int) -> JSON:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: JSON) -> JSON:
    table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            **({"instant": True, "range": False, "format": "table"} if table else {}),
            **({"instant": True, "range": False} if panel.kind == "stat" else {}),
        }
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    body: JSON = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, **({} if table else {"min": 0})}, "overrides": []},
        "targets": targets,
    }
    if table:
        hidden = ("Time", *(() if panel.value else ("Value",)), *LABELS_OF_THE_SCRAPE)
        renamed = {"renameByName": {"Value": panel.value}} if panel.value else {}
        options = {"excludeByName": dict.fromkeys(hidden, True), **renamed}
        body["transformations"] = [{"id": "organize", "options": options}]
    return body


def _variables(by_object: bool) -> list[JSON]:
    variables: list[JSON] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    ]
    if by_object:
        variables += [
            _choice("namespace", "Namespace", "label_values(llmdeployment_info, namespace)"),
            _choice("name", "LLMDeployment", 'label_values(llmdeployment_info{namespace=~"$namespace"}, name)'),
        ]
    return variables


def _choice(name: str, label: str, query: str) -> JSON:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
