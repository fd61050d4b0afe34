"""The chart: what it renders, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from llm_operator import image_names
from llm_operator.__main__ import parser
from llm_operator.api import LLMDeployment
from llm_operator.api.crd import FILE_NAME, crd_yaml
from llm_operator.child_options import tool_settings
from llm_operator.engines import newest_version
from llm_operator.settings import NetworkSettings, ToolSettings
from tests.support.chart import (
    CHART,
    EVERYTHING,
    JSON,
    NAMESPACE,
    REGISTRY,
    ROOT,
    VALUE_SETS,
    Helm,
    of_kind,
    only,
)


def test_lint_is_clean(helm: Helm) -> None:
    result = helm.run("lint", "--strict", str(CHART), "--set", f"imageRegistry={REGISTRY}")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", VALUE_SETS)
def test_rendering_is_the_same_twice(helm: Helm, name: str) -> None:
    assert helm.template_text(VALUE_SETS[name]) == helm.template_text(VALUE_SETS[name])


def test_documents_are_objects_of_the_release(helm: Helm) -> None:
    for entry in helm.template(EVERYTHING):
        assert entry["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm", entry["metadata"]
        if not entry["kind"].startswith(("CustomResourceDefinition", "ClusterRole", "ValidatingAdmissionPolicy")):
            # The monitor of an object with an API key stands beside the Secret that it refers to.
            beside = entry["kind"] == "PodMonitor" and "authorization" in entry["spec"]["podMetricsEndpoints"][0]
            assert entry["metadata"]["namespace"] == ("team" if beside else NAMESPACE)


##### The CRD


def test_the_charts_crd_is_the_generated_one() -> None:
    assert (CHART / "files" / FILE_NAME).read_text() == (ROOT / "crds" / FILE_NAME).read_text() == crd_yaml()


def test_rendered_crd_equals_the_file_but_for_its_metadata(helm: Helm) -> None:
    rendered = only(helm.template({}), "CustomResourceDefinition")
    written = yaml.safe_load((ROOT / "crds" / FILE_NAME).read_text())
    assert rendered["metadata"]["name"] == written["metadata"]["name"]
    assert {**rendered, "metadata": {}} == {**written, "metadata": {}}


@pytest.mark.parametrize(("keep", "expected"), [(True, {"helm.sh/resource-policy": "keep"}), (False, None)])
def test_the_crd_is_kept_unless_asked_otherwise(helm: Helm, keep: bool, expected: dict[str, str] | None) -> None:
    rendered = only(helm.template({"crds": {"keep": keep}}), "CustomResourceDefinition")
    assert rendered["metadata"].get("annotations") == expected


def test_the_crd_can_be_left_to_others(helm: Helm) -> None:
    assert of_kind(helm.template({"crds": {"install": False}}), "CustomResourceDefinition") == []


##### The pod


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_pod_is_restricted(helm: Helm, name: str) -> None:
    pod = only(helm.template(VALUE_SETS[name]), "Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = container["volumeMounts"]
    writable = {mount["mountPath"]: mount["name"] for mount in mounts if not mount.get("readOnly")}
    assert writable == {"/tmp": "tmp"}
    assert next(volume for volume in pod["volumes"] if volume["name"] == "tmp")["emptyDir"] is not None


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_operator_accepts_its_command_line(helm: Helm, name: str) -> None:
    values = VALUE_SETS[name]
    container = only(helm.template(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    chosen = parser().parse_args(container["args"])
    assert chosen.namespace == values.get("watchNamespaces", [])
    assert chosen.all_namespaces == (not chosen.namespace)
    assert chosen.gpu_inventory == values.get("operator", {}).get("gpuInventory", True)
    assert chosen.workers == values.get("operator", {}).get("workers", 8)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": chosen.metrics_port, "health": chosen.health_port}
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "health"}


def test_the_model_tools_are_those_of_the_values(helm: Helm) -> None:
    def tools(values: JSON) -> ToolSettings:
        container = only(helm.template(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        return tool_settings(parser().parse_args(container["args"]))

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert tools({}).image == f"{REGISTRY}/model-tools:{version}"
    assert not tools({"modelTools": {"enabled": False}}).enabled
    given = tools({"modelTools": {"quantizeImage": "a/b:1", "inspect": False, "cacheRetentionSeconds": 31536000}})
    assert (given.quantize_image, given.inspect, given.retention_seconds) == ("a/b:1", False, 31536000)
    assert given.verify_seconds == 30 * 86_400
    assert tools({"modelTools": {"cacheVerifySeconds": 0}}).verify_seconds == 0


def test_the_chat_page_is_that_of_the_values(helm: Helm) -> None:
    def settings(values: JSON) -> ToolSettings:
        container = only(helm.template(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        return tool_settings(parser().parse_args(container["args"]))

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert settings({}).web_image == f"{REGISTRY}/web:{version}"
    given = settings({"webUI": {"image": {"repository": "a.example/web", "tag": "7", "pullPolicy": "Always"}}})
    assert (given.web_image, given.web_pull_policy) == ("a.example/web:7", "Always")


def test_the_lease_of_the_command_line_is_the_one_of_the_role(helm: Helm) -> None:
    objects = helm.template({"fullnameOverride": "other"})
    container = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    leader = only([entry for entry in objects if entry["metadata"]["name"] == "other-leader"], "Role")
    assert leader["rules"][0]["resourceNames"] == [parser().parse_args(container["args"]).lease_name]


def test_the_config_map_of_the_command_line_is_the_one_of_the_role_and_has_no_data(helm: Helm) -> None:
    objects = helm.template({"fullnameOverride": "other"})
    container = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    name = parser().parse_args(container["args"]).learned_config_map
    leader = only([entry for entry in objects if entry["metadata"]["name"] == "other-leader"], "Role")
    assert leader["rules"][-1]["resourceNames"] == [name]
    kept = only([entry for entry in objects if entry["metadata"]["name"] == name], "ConfigMap")
    assert "data" not in kept
    without = helm.template({"fullnameOverride": "other", "operator": {"learning": False}})
    assert name not in str(without)


def test_the_image_is_the_charts_version_unless_given(helm: Helm) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    images = [
        only(helm.template(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
        for values in ({}, EVERYTHING)
    ]
    assert images == [f"{REGISTRY}/operator:{chart['appVersion']}", "registry.example/llm/operator:1.2.3"]


def test_the_registry_names_every_image_of_the_project(helm: Helm) -> None:
    container = only(helm.template({}), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    settings = tool_settings(parser().parse_args(container["args"]))
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    named = {container["image"], settings.image, settings.web_image, settings.quantize_image}
    tags = {"lmdeploy": newest_version("LMDeploy")}
    assert named == {f"{REGISTRY}/{name}:{tags.get(name, version)}" for name in image_names.PUBLISHED}


def test_a_digest_goes_before_a_tag(helm: Helm) -> None:
    digest = "sha256:" + "0" * 64
    image = {"tag": "1.2.3", "digest": digest}
    values = {"image": image, "modelTools": {"image": image}, "webUI": {"image": image}}
    container = only(helm.template(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    settings = tool_settings(parser().parse_args(container["args"]))
    assert container["image"] == f"{REGISTRY}/operator@{digest}"
    assert settings.image == f"{REGISTRY}/model-tools@{digest}"
    assert settings.web_image == f"{REGISTRY}/web@{digest}"


def test_no_default_is_an_image_in_a_registry_that_others_own() -> None:
    """Whoever registers the name there could run code as the operator."""
    settings = tool_settings(parser().parse_args(["--all-namespaces"]))
    for image in (settings.image, settings.web_image, settings.quantize_image):
        assert image.startswith("localhost/"), image
    images = yaml.safe_load(yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]["artifacthub.io/images"])
    assert {entry["image"].rpartition("/")[0] for entry in images} == {image_names.REGISTRY}


def test_labels_of_a_user_cannot_replace_those_that_the_selector_needs(helm: Helm) -> None:
    text = helm.template_text({"podLabels": {"app.kubernetes.io/name": "other"}})
    deployment = only([entry for entry in yaml.safe_load_all(text) if entry], "Deployment")["spec"]
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()


##### Optional parts


def test_a_disruption_budget_only_where_there_is_something_to_keep(helm: Helm) -> None:
    budgets = {count: len(of_kind(helm.template({"replicas": count}), "PodDisruptionBudget")) for count in (0, 1, 2)}
    assert budgets == {0: 0, 1: 0, 2: 1}


def test_metrics_are_guarded_with_rights_only_where_that_is_on(helm: Helm) -> None:
    def texts(values: JSON) -> str:
        return json.dumps(helm.template(values))

    for word in ("tokenreviews", "subjectaccessreviews", "--metrics-authentication", "bearerTokenFile"):
        assert word not in texts(EVERYTHING)
    guarded: JSON = {"metrics": {"authentication": {"enabled": True}, "serviceMonitor": {"enabled": True}}}
    for values in (guarded, {**guarded, "watchNamespaces": ["team"], "operator": {"gpuInventory": False}}):
        objects = helm.template(values)
        rules = {
            entry["metadata"]["name"].rsplit(":", 1)[-1]: entry["rules"]
            for entry in of_kind(objects, "ClusterRole")
            if ":metrics-" in entry["metadata"]["name"]
        }
        assert rules == {
            "metrics-authentication": [
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
                {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
            ],
            "metrics-reader": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
        }
        assert (
            "--metrics-authentication"
            in only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        )
        assert only(objects, "ServiceMonitor")["spec"]["endpoints"][0]["bearerTokenFile"].startswith("/var/run/secrets")
    with pytest.raises(Exception, match="serviceMonitor"):
        helm.template({"metrics": {"authentication": {"enabled": True}, "podMonitor": {"enabled": True}}})


def test_services_monitors_and_policies_select_the_pods(helm: Helm) -> None:
    objects = helm.template(EVERYTHING)
    wanted = only(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert only(objects, "Service")["spec"]["selector"] == wanted
    assert of_kind(objects, "PodMonitor")[0]["spec"]["selector"]["matchLabels"] == wanted
    assert only(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == wanted
    assert only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == wanted


def test_a_network_policy_without_egress_rules_leaves_egress_alone(helm: Helm) -> None:
    policy = only(helm.template({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]


@pytest.mark.parametrize(("user", "ids"), [(65532, {65532}), (1_000_770_000, {1_000_770_000}), (None, set())])
def test_the_user_is_that_of_the_values_or_the_platforms(helm: Helm, user: int | None, ids: set[int]) -> None:
    pod = only(helm.template({"podSecurity": {"runAsUser": user}}), "Deployment")["spec"]["template"]["spec"]
    assert tool_settings(parser().parse_args(pod["containers"][0]["args"])).user == user
    context = pod["securityContext"]
    assert {context[name] for name in ("runAsUser", "runAsGroup") if name in context} == ids
    assert context["runAsNonRoot"] is True


def test_the_operator_and_the_scrapers_reach_every_engine(helm: Helm) -> None:
    def settings(values: JSON) -> NetworkSettings:
        container = only(helm.template(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        return tool_settings(parser().parse_args(container["args"])).network

    here = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    labels = only(helm.template({}), "Deployment")["spec"]["selector"]["matchLabels"]
    operator = {"namespaceSelector": here, "podSelector": {"matchLabels": labels}}
    assert settings({}) == NetworkSettings(True, (operator,))
    off = {"networkPolicy": {"objects": {"enabled": False, "from": [{"podSelector": {}}]}}}
    assert settings(off) == NetworkSettings()
    ingress = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
    beside, address = {"podSelector": {"matchLabels": {"app": "prometheus"}}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}
    scraped = {"networkPolicy": {"metricsFrom": [beside, ingress, address], "objects": {"from": [ingress]}}}
    assert settings(scraped).peers == (operator, {"namespaceSelector": here, **beside}, ingress, address, ingress)


def test_policies_are_rendered_when_asked_for(helm: Helm) -> None:
    kind = "ValidatingAdmissionPolicy"
    assert of_kind(helm.template({}), kind) == []
    (policy,) = of_kind(helm.template({"admissionPolicies": {"objects": {"enabled": True}}}), kind)
    assert len(policy["spec"]["validations"]) == 1, "null limits nothing"
    values = {"enabled": True, "images": [], "podTemplates": False}
    (policy,) = of_kind(helm.template({"admissionPolicies": {"objects": values}}), kind)
    assert len(policy["spec"]["validations"]) == 3, "an empty list allows nothing"
    everything = helm.template({"admissionPolicies": EVERYTHING["admissionPolicies"]})
    objects = next(one for one in of_kind(everything, kind) if one["metadata"]["name"].endswith(".objects"))
    assert len(objects["spec"]["validations"]) == len(EVERYTHING["admissionPolicies"]["objects"]) - 1
    values = {"enabled": True, "drainTimeoutSeconds": 0}
    (policy,) = of_kind(helm.template({"admissionPolicies": {"objects": values}}), kind)
    assert len(policy["spec"]["validations"]) == 2, "zero is a limit"


##### Bad values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": "two"}, "'/replicas': got string, want integer"),
        ({"admissionPolicies": {"objects": {"images": "a"}}}, "'/admissionPolicies/objects/images': got string"),
        ({"admissionPolicies": {"objects": {"images": ["a' || true"]}}}, "does not match pattern"),
        (
            {"admissionPolicies": {"objects": {"serviceTypes": ["ExternalName"]}}},
            "must be one of 'ClusterIP', 'NodePort'",
        ),
        ({"admissionPolicies": {"objects": {"drainTimeoutSeconds": -1}}}, "minimum: got -1, want 0"),
        ({"podSecurity": {"runAsUser": 0}}, "'/podSecurity/runAsUser': minimum: got 0, want 1"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "must be one of 'IfNotPresent', 'Always', 'Never'"),
        ({"image": {"repository": "a b"}}, "'/image/repository': 'a b' does not match pattern"),
        ({"image": {"digest": "sha256:abc"}}, "'/image/digest': 'sha256:abc' does not match pattern"),
        (
            {"imageRegistry": "registry.example/llm/"},
            "'/imageRegistry': 'registry.example/llm/' does not match pattern",
        ),
        (
            {"imageRegistry": "https://registry.example/llm"},
            "'/imageRegistry': 'https://registry.example/llm' does not",
        ),
        ({"imageRegistry": ""}, "imageRegistry is not set: it says where the images of llm-operator are"),
        ({"image": {"tag": "a b"}}, "'/image/tag': 'a b' does not match pattern"),
        ({"operator": {"logLevel": "LOUD"}}, "must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ({"operator": {"workers": 0}}, "'/operator/workers': minimum: got 0, want 1"),
        ({"watchNamespaces": "team-a"}, "'/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["Team_A"]}, "'/watchNamespaces/0': 'Team_A' does not match pattern"),
        ({"watchNamespaces": ["a", "a"]}, "'/watchNamespaces': items at 0 and 1 are equal"),
        ({"metrics": {"podMonitor": {"interval": "30"}}}, "'/metrics/podMonitor/interval': '30' does not match"),
    ],
)
def test_bad_values_are_refused_by_name(helm: Helm, values: JSON, said: str) -> None:
    assert said in helm.refusal(values)


def test_every_value_has_a_schema_and_every_schema_a_value() -> None:
    def paths(values: object, prefix: str = "") -> set[str]:
        if not isinstance(values, dict) or not values:
            return {prefix}
        return {path for key, value in values.items() for path in paths(value, f"{prefix}.{key}")}

    def schema_paths(schema: JSON, prefix: str = "") -> set[str]:
        if "properties" not in schema:
            return {prefix}
        return {path for key, value in schema["properties"].items() for path in schema_paths(value, f"{prefix}.{key}")}

    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    described = {re.sub(r"^\.resources\..*", ".resources", path) for path in schema_paths(schema)} - {".global"}
    given = {
        re.sub(r"^\.resources\..*", ".resources", path)
        for path in paths(yaml.safe_load((CHART / "values.yaml").read_text()))
    }
    assert given == described


##### Notes


def test_the_example_of_the_notes_is_valid(helm: Helm) -> None:
    text = helm.run(
        "install", "llm", str(CHART), "--dry-run=client", "--namespace", NAMESPACE, "--set", f"imageRegistry={REGISTRY}"
    ).stdout
    manifest = re.search(r"<<END\n(.*?)\n +END\n", text, re.DOTALL)
    assert manifest, text[-2000:]
    assert LLMDeployment.parse(yaml.safe_load(manifest[1])).metadata.name == "qwen"


def test_the_example_of_the_package_index_is_valid() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    for document in yaml.safe_load(annotations["artifacthub.io/crdsExamples"]):
        LLMDeployment.parse(document)
