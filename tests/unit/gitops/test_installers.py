"""The examples for Argo CD and Flux give the chart values that it takes."""

from __future__ import annotations

import yaml

from devcluster.cache import ROOT
from tests.support.chart import CHART, Helm, only

FOLDER = ROOT / "gitops"


def test_flux_installs_this_chart_with_values_that_it_takes(helm: Helm) -> None:
    documents = {
        entry["kind"]: entry for entry in yaml.safe_load_all((FOLDER / "flux" / "llm-operator.yaml").read_text())
    }
    source, release = documents["OCIRepository"], documents["HelmRelease"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert source["spec"]["url"].rpartition("/")[2] == chart["name"]
    assert source["spec"]["ref"]["semver"].rpartition(".")[0] == chart["version"].rpartition(".")[0]
    assert release["spec"]["chartRef"] == {"kind": source["kind"], "name": source["metadata"]["name"]}
    assert only(helm.template(release["spec"]["values"]), "Deployment")
    # Flux waits for LLMDeployments by kstatus.
    assert documents["Kustomization"]["spec"]["wait"] is True


def test_argo_cd_installs_this_chart_with_values_that_it_takes(helm: Helm) -> None:
    application = yaml.safe_load((FOLDER / "argocd" / "application.yaml").read_text())
    source = application["spec"]["source"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (source["chart"], str(source["targetRevision"])) == (chart["name"], chart["version"])
    assert only(helm.template(source["helm"]["valuesObject"]), "Deployment")
