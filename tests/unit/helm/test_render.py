"""`kubectl llm render` takes the operator's settings from what Helm renders of the chart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from llm_operator.__main__ import parser as operator_parser
from llm_operator.child_options import tool_settings
from llm_operator.cli.main import parser
from llm_operator.cli.operator_settings import NAMESPACE, RELEASE, operator_settings
from llm_operator.settings import ToolSettings
from tests.support.chart import CHART, JSON, REGISTRY, VALUE_SETS, Helm, only


def settings(*options: str) -> ToolSettings:
    return operator_settings(parser("render").parse_args(["render", "-f", "x", *options])).tools


def rendered(helm: Helm, folder: Path, values: JSON) -> tuple[Path, JSON]:
    """The chart with some values as the docs install it: the file, and the operator's container."""
    arguments = ("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-")
    done = helm.run(*arguments, stdin=yaml.safe_dump({"imageRegistry": REGISTRY, **values}))
    assert done.returncode == 0, done.stderr
    file = folder / "chart.yaml"
    file.write_text(done.stdout)
    deployment = only([body for body in yaml.safe_load_all(done.stdout) if body], "Deployment")
    return file, deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_settings_are_those_of_the_operator_itself(helm: Helm, tmp_path: Path, name: str) -> None:
    file, container = rendered(helm, tmp_path, VALUE_SETS[name])
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    chosen = operator_parser().parse_args(container["args"])
    expected = tool_settings(chosen, {**environment, "POD_NAMESPACE": NAMESPACE})
    assert settings("--operator", str(file)) == expected
    assert name != "everything" or (expected.ca_bundle and expected.proxy_secret and expected.propagation)


def test_without_an_operator_they_are_the_charts_defaults(helm: Helm, tmp_path: Path) -> None:
    file, _ = rendered(helm, tmp_path, {})
    images = ("--model-tools-image=a", "--quantize-image=b", "--web-image=c")
    assert settings(*images) == settings("--operator", str(file), *images)
    assert settings("--no-network-policies") != settings()
    assert settings("--run-as-user=") == replace(settings(), user=None)
