"""`kubectl llm render`: what is printed, what is refused, and what is said to be unchecked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.api.resource import LLMDeployment
from llm_operator.cli.main import run
from llm_operator.engines import KVAllocation
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.rehearsal import COMMIT, rehearse
from tests.support.rendered import TOOLS, manifests

LLAMA = str(Path(__file__).parents[1] / "models" / "configs" / "llama-3.1-8b.json")
LARGE = str(Path(__file__).parents[1] / "models" / "configs" / "llama-3.3-70b.json")
TEXT = """apiVersion: llm-operator.dev/v1alpha1
kind: LLMDeployment
metadata: {name: qwen, namespace: team}
spec:
  model: {huggingFace: {repository: org/model}}
  engine: {type: VLLM, version: 0.33.0, apiKey: {name: keys, key: qwen}}
  cache: {size: 40Gi}
  weightQuantization: {method: AWQ}
  priorityClassName: gold
  webUI: {}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "qwen.yaml"
    path.write_text(TEXT)
    return path


def ran(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Exit code, objects, lines of standard error."""
    code = run(["render", *(str(argument) for argument in arguments)])
    output, errors = capsys.readouterr()
    return code, list(yaml.safe_load_all(output)), errors.splitlines()


def test_every_stage_in_order(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, objects, errors = ran(capsys, "-f", file, "--config", LLAMA, "--gpu", "NVIDIA-L40S")
    assert code == 0
    assert [(body["kind"], body["metadata"]["name"].partition("-")[0]) for body in objects] == [
        *(("NetworkPolicy", "qwen"), ("NetworkPolicy", "qwen.jobs")),
        *(("PersistentVolumeClaim", "qwen"), ("Job", "llm"), ("Job", "llm"), ("NetworkPolicy", "qwen")),
        *(("Deployment", "qwen"), ("Service", "qwen"), ("Deployment", "qwen"), ("Service", "qwen")),
    ]
    assert all(body["metadata"]["namespace"] == "team" for body in objects)
    assert not any("ownerReferences" in body["metadata"] for body in objects)
    arguments = objects[6]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--kv-cache-memory-bytes" in " ".join(arguments)
    said = "\n".join(errors)
    for part in ("Secret keys with the key qwen", "PriorityClass gold", COMMIT, "localhost/llm-operator/web:"):
        assert part in said
    assert "no plan" not in said


def test_without_a_plan_it_says_what_is_missing(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, objects, errors = ran(capsys, "-f", file)
    assert (code, len(objects)) == (0, 10)
    assert any("no plan: without config.json" in line for line in errors)
    file.write_text(TEXT + "  kvCache: {memoryPercent: 50}\n")
    code, objects, errors = ran(capsys, "-f", file)
    assert (code, objects) == (2, [])
    assert any("give --config" in line for line in errors)


def test_an_object_that_needs_a_plan_does_not_hold_back_the_others(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    needs_a_plan = TEXT.replace("name: qwen,", "name: other,") + "  kvCache: {memoryPercent: 50}\n"
    file.write_text(f"{needs_a_plan}---\n{TEXT}")
    code, objects, errors = ran(capsys, "-f", file)
    assert (code, len(objects)) == (2, 10)
    assert not any(body["metadata"]["name"].startswith("other") for body in objects)
    assert errors[-1] == "kubectl llm render: left out: other; the objects of 1 other are printed"
    assert any(line.startswith("kubectl llm render: other: spec.kvCache.memoryPercent: ") for line in errors)
    assert any(line.endswith("give --config") and "other: " in line for line in errors)


def test_what_does_not_fit(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(TEXT.replace("  weightQuantization: {method: AWQ}\n", ""))
    code, objects, errors = ran(capsys, "-f", file, "--config", LARGE, "--gpu", "NVIDIA-L4")
    assert (code, {body["kind"] for body in objects}) == (1, {"NetworkPolicy"})
    assert any("planPolicy is Enforce" in line for line in errors)
    file.write_text(file.read_text() + "  planPolicy: Warn\n")
    code, objects, errors = ran(capsys, "-f", file, "--config", LARGE, "--gpu", "NVIDIA-L4")
    assert (code, len(objects)) == (0, 9)
    assert any("does not fit: " in line for line in errors)


def test_a_misspelt_field_and_a_wrong_namespace_are_refused(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert ran(capsys, "-f", file, "-n", "other") == (
        *(2, []),
        ["kubectl llm render: qwen: metadata.namespace is 'team', but -n says 'other'"],
    )
    file.write_text(TEXT.replace("webUI", "webUi"))
    assert any("did you mean webUI?" in line for line in ran(capsys, "-f", file)[2])


def test_two_sizes_of_the_cache_are_refused_by_their_fields(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    extra = "{type: VLLM, extraArgs: [--gpu-memory-utilization=0.9]}\n  kvCache: {memoryPercent: 50}\n"
    file.write_text(TEXT.split("  engine:", maxsplit=1)[0] + f"  engine: {extra}")
    told = (
        "spec.engine.extraArgs: --gpu-memory-utilization and spec.kvCache.memoryPercent both size the KV cache: "
        "remove one of them"
    )
    code, objects, errors = ran(capsys, "-f", file, "--config", LLAMA, "--gpu", "NVIDIA-L4")
    assert (code, objects, errors) == (2, [], [f"kubectl llm render: qwen: {told}"])


def test_one_config_for_two_models_is_said(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    other = TEXT.replace("name: qwen,", "name: other,").replace("org/model", "org/other")
    file.write_text(f"{TEXT}---\n{other}")
    said = "--config is taken for all 2 models of the manifests: give it with the manifests of one model"
    assert f"kubectl llm render: {said}" in ran(capsys, "-f", file, "--config", LLAMA, "--gpu", "NVIDIA-H200")[2]
    assert run(["plan", "-f", str(file), "--config", LLAMA, "--gpu", "NVIDIA-H200"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"kubectl llm plan: {said}"
    assert all("not checked without a cluster" in line for line in told[1:])
    file.write_text(f"{TEXT}---\n{other.replace('org/other', 'org/model')}")
    assert not [line for line in ran(capsys, "-f", file, "--config", LLAMA)[2] if "is taken for" in line]


def test_keys_of_a_secret_that_may_be_missing_need_no_check(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    text = "\n".join(ran(capsys, "-f", file, "--proxy-secret", "proxy")[2])
    assert "Secret proxy with the key HTTPS_PROXY" in text
    assert "Secret proxy with the key NO_PROXY" not in text


def test_a_recipe_that_is_refused(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    config = Path(LLAMA).with_name("qwen2.5-7b-instruct-awq.json")
    arguments = ("-f", file, "--config", config, "--gpu", "NVIDIA-H200")
    code, objects, errors = ran(capsys, *arguments)
    assert (code, {body["kind"] for body in objects}) == (1, {"NetworkPolicy"})
    file.write_text(TEXT + "  planPolicy: Warn\n")
    code, objects, errors = ran(capsys, *arguments)
    assert (code, objects) == (2, [])
    assert any("RecipeRefused: spec.weightQuantization: " in line for line in errors), errors


def test_a_page_that_is_refused(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    page = "webUI: {podTemplate: {spec: {volumes: [{name: tmp, emptyDir: {}}]}}}"
    file.write_text(TEXT.replace("webUI: {}", page))
    code, objects, errors = ran(capsys, "-f", file)
    assert (code, objects) == (2, [])
    assert any("qwen: spec.webUI.podTemplate.spec.volumes" in line for line in errors), errors


OPERATOR = """apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: other}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: llm-operator, namespace: llm-system}
  spec:
    template:
      spec:
        containers:
        - {name: sidecar, image: x}
        - name: operator
          args: [--all-namespaces, --workers=3, --no-network-policies, --tools-ca-bundle=corporate-ca/ca.crt,
            --proxy-secret=hub-proxy, --model-tools-image=registry.example/tools:1, --propagate-label=example.com/*]
          env:
          - {name: HF_ENDPOINT, value: "https://hub.example"}
          - {name: MODELSCOPE_ENDPOINT, value: "https://user:word@scope.example"}
          - {name: HTTPS_PROXY, valueFrom: {secretKeyRef: {name: hub-proxy, key: HTTPS_PROXY}}}
"""


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    path = tmp_path / "operator.yaml"
    path.write_text(OPERATOR)
    return path


def kinds(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [body for body in objects if body["kind"] == kind]


def test_the_operators_own_settings(capsys: pytest.CaptureFixture[str], file: Path, operator: Path) -> None:
    file.write_text(TEXT.replace("namespace: team}", "namespace: team, labels: {example.com/team: a, other: b}}"))
    code, objects, errors = ran(capsys, "-f", file, "--operator", operator)
    assert (code, kinds(objects, "NetworkPolicy")) == (0, [])
    assert not any("chart's defaults" in line for line in errors)
    pod = kinds(objects, "Job")[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one for one in container["env"]}
    assert container["image"] == "registry.example/tools:1"
    assert variables["HF_ENDPOINT"]["value"] == "https://hub.example"
    assert "MODELSCOPE_ENDPOINT" not in variables  # it has a password
    assert variables["HTTPS_PROXY"]["valueFrom"]["secretKeyRef"]["name"] == "hub-proxy"
    assert variables["SSL_CERT_FILE"]["value"]
    assert "corporate-ca" in str(pod["volumes"])
    for body in objects:
        if body["kind"] in ("Job", "Deployment", "Service"):
            assert body["metadata"]["labels"]["example.com/team"] == "a", body["metadata"]
            assert "other" not in body["metadata"]["labels"]


def test_an_option_replaces_one_setting(capsys: pytest.CaptureFixture[str], file: Path, operator: Path) -> None:
    given = ("-f", file, "--operator", operator, "--network-policies", "--model-tools-image", "mine:1")
    code, objects, _ = ran(capsys, *given, "--tools-env", "HF_ENDPOINT=http://mine")
    assert (code, len(kinds(objects, "NetworkPolicy"))) == (0, 3)
    (container,) = kinds(objects, "Job")[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mine:1"
    variables = {one["name"]: one for one in container["env"]}
    assert variables["HF_ENDPOINT"]["value"] == "http://mine"
    assert "SSL_CERT_FILE" in variables


def test_objects_beside_the_operator_are_refused(
    capsys: pytest.CaptureFixture[str], file: Path, operator: Path
) -> None:
    file.write_text(TEXT.replace("namespace: team", "namespace: llm-system"))
    code, _, errors = ran(capsys, "-f", file, "--operator", operator)
    assert code == 2
    assert any("the operator runs in namespace llm-system" in line for line in errors)
    operator.write_text(OPERATOR.replace("--all-namespaces", "--namespace=llm-system"))
    assert ran(capsys, "-f", file, "--operator", operator)[0] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: List\n", "holds no Deployment with a container named operator: expected what `helm template` prints"),
        ("kind: Deployment\nspec: [1]\n", "holds no Deployment"),
        ("&a\nkind: List\nitems: [*a, 3]\n", "holds no Deployment"),
        (OPERATOR.replace("corporate-ca/ca.crt", "corporate-ca"), "expected CONFIGMAP/KEY"),
        (OPERATOR + "---\n" + OPERATOR, "holds 2 Deployments"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_what_is_no_operator(
    capsys: pytest.CaptureFixture[str], file: Path, operator: Path, text: str, said: str
) -> None:
    operator.write_text(text)
    code, objects, errors = ran(capsys, "-f", file, "--operator", operator)
    assert (code, objects, len(errors)) == (2, [], 1)
    assert said in errors[0]
    assert "operator.yaml" in errors[0]


def test_a_variable_that_is_not_handed_on(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        ran(capsys, "-f", file, "--tools-env", "HF_ENDPOIN=x")
    assert "expected one of HF_ENDPOINT" in capsys.readouterr().err
    assert ran(capsys, "-f", "-", "--operator", "-")[0] == 2


@pytest.mark.parametrize("name", manifests())
def test_every_artifact_of_every_known_manifest_gets_its_job(name: str) -> None:
    resource = LLMDeployment.parse(manifests()[name])
    plan = PlanOutcome("Fits", "Fits", "", resource.spec.parallelism.tensor or 1, kv=KVAllocation(80, 8 << 30))
    found = rehearse(resource, plan, TOOLS)
    assert (found.refusals, found.trouble, found.held) == ((), None, False)
    jobs = [body["metadata"]["name"] for body in found.objects if body["kind"] == "Job"]
    assert jobs == [artifact.job_name for artifact in artifacts_of(resource)]
    assert [body["kind"] for body in found.objects if body["metadata"]["name"] == resource.metadata.name][:2] == [
        "Deployment",
        "Service",
    ]
