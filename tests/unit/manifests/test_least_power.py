"""What the pods may do: as little as they need, on any user id, and what runs is left as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from llm_operator.__main__ import parser
from llm_operator.api.resource import LLMDeployment
from llm_operator.child_options import tool_settings
from llm_operator.engines.common import CACHE_PATH
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.pod import pod_spec
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.job import model_job
from llm_operator.pipeline.preparation import CLAIM_TROUBLES
from llm_operator.pipeline.request import JobRequest
from llm_operator.pipeline.volume_job import remove_job
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.observed import Observed
from llm_operator.settings import USER, ToolSettings
from tests.support.build import plan, resource, serving
from tests.support.rendered import JSON, TOOLS, children_of, jobs_of, manifests
from tests.support.strategies import valid_resources

OBJECTS = {
    name: LLMDeployment.parse({**body, "metadata": {**body["metadata"], "uid": "u"}})
    for name, body in manifests().items()
}
ANY = replace(TOOLS, user=None)


def pods(of: LLMDeployment, tools: ToolSettings = TOOLS) -> list[JSON]:
    """The specs of every pod of an object."""
    bodies = [*children_of(of, tools), *jobs_of(of, tools)]
    return [body["spec"]["template"]["spec"] for body in bodies if "template" in body["spec"]]


def containers(spec: JSON) -> list[JSON]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def contexts(spec: JSON) -> list[JSON]:
    return [spec["securityContext"], *(container["securityContext"] for container in containers(spec))]


@pytest.mark.parametrize("name", OBJECTS)
def test_every_container_is_confined(name: str) -> None:
    for spec in pods(OBJECTS[name]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context


@pytest.mark.parametrize("name", OBJECTS)
def test_what_a_container_writes_has_a_volume(name: str) -> None:
    for spec in pods(OBJECTS[name]):
        kinds = {volume["name"]: next(key for key in volume if key != "name") for volume in spec["volumes"]}
        for container in containers(spec):
            writable = {
                mount["mountPath"]: kinds[mount["name"]]
                for mount in container["volumeMounts"]
                if not mount.get("readOnly")
            }
            assert writable["/tmp"] == "emptyDir"
            if container["name"] == "engine":
                assert set(writable) == {"/tmp", "/dev/shm", CACHE_PATH}
                assert set(writable.values()) == {"emptyDir"}
            home = {one["name"]: one.get("value") for one in container["env"]}.get("HOME")
            assert home in (None, *writable)


@pytest.mark.parametrize("name", OBJECTS)
def test_no_user_is_asked_for_where_the_platform_chooses_one(name: str) -> None:
    for spec in pods(OBJECTS[name], ANY):
        for context in contexts(spec):
            assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)
        assert spec["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize("name", OBJECTS)
def test_another_user_is_the_one_of_every_container(name: str) -> None:
    for spec in pods(OBJECTS[name], replace(TOOLS, user=1_000_770_000)):
        users = {context["runAsUser"] for context in contexts(spec) if "runAsUser" in context}
        assert users == {1_000_770_000}


def test_an_engine_has_a_name_for_its_user() -> None:
    """Without it getpass fails under an id that /etc/passwd doesn't know, as torch imports (kserve#5666)."""
    (engine,) = pods(OBJECTS["tiny-vllm.tiny-vllm"])[0]["containers"]
    assert {"name": "USER", "value": "llm"} in engine["env"]


CLAIMS = {
    "managed": ClaimFacts("models", "uid", single_node=True, managed=True),
    "labelled": ClaimFacts("models", "uid", single_node=True, labelled=True),
    "foreign": ClaimFacts("models", "uid", single_node=True),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_only_a_claim_that_is_ours_or_labelled_is_given_to_a_group(kind: str) -> None:
    of = resource(
        model={"persistentVolumeClaim": {"claimName": "theirs"}}, cache={"claimName": "models"}, weightQuantization={}
    )
    for artifact, claim in zip(("inspect", "quantize"), (CLAIMS["labelled"], CLAIMS[kind]), strict=True):
        request = next(entry for entry in _requests(of, claim) if entry.artifact.stage == artifact)
        security = model_job(request)["spec"]["template"]["spec"]["securityContext"]
        assert ("fsGroup" in security) is (artifact == "quantize" and kind != "foreign")
    removal = remove_job("team", CLAIMS[kind], "models/a/b", TOOLS, {})
    assert "fsGroup" not in removal["spec"]["template"]["spec"]["securityContext"]


def _requests(of: LLMDeployment, claim: ClaimFacts) -> list[JobRequest]:
    return [
        JobRequest(
            of, artifact, TOOLS, claim=claim, source_claim=ClaimFacts("theirs", "u", single_node=True),
            source_directory="a", output_directory="models/x/y", source_in_cache=False,
        )
        for artifact in artifacts_of(of)
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(valid_resources)
def test_claims_that_are_only_read_are_mounted_read_only(of: LLMDeployment) -> None:
    for job in jobs_of(of):
        for volume in job["spec"]["template"]["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            stage = job["metadata"]["labels"]["llm-operator.dev/stage"]
            if claim is not None and (stage == "inspect" or volume["name"] != "model"):
                assert claim["readOnly"] is True


@settings(max_examples=200, deadline=None)
@given(valid_resources)
def test_a_repositorys_code_writes_beside_its_own_original_only(of: LLMDeployment) -> None:
    for job in jobs_of(of):
        if job["metadata"]["labels"]["llm-operator.dev/stage"] not in ("quantize", "convert"):
            continue
        (container,) = job["spec"]["template"]["spec"]["containers"]
        cache = [mount for mount in container["volumeMounts"] if mount["name"] == "model"]
        assert [(mount["mountPath"], mount["subPath"], mount["readOnly"]) for mount in cache] == [
            ("/models/models/org", "models/org", False),
            ("/models/models/org/model--0123456789", "models/org/model--0123456789", True),
        ]
        words = container["args"]
        for option in ("--model", "--output"):
            path = f"/models/{words[words.index(option) + 1]}"
            assert path.startswith("/models/models/org/"), "what it reads and writes is in what it has"


def test_an_original_elsewhere_leaves_the_whole_cache_to_the_tool() -> None:
    of = resource(model={"image": {"reference": "a:1"}}, cache={"claimName": "models"}, weightQuantization={})
    request = next(one for one in _requests(of, CLAIMS["labelled"]) if one.artifact.stage == "quantize")
    (container,) = model_job(request)["spec"]["template"]["spec"]["containers"]
    cache = [mount for mount in container["volumeMounts"] if mount["name"] == "model"]
    assert cache == [{"name": "model", "mountPath": "/models", "readOnly": False}]


def test_a_claim_of_somebody_else_is_written_to_once_its_label_says_so() -> None:
    tools = ToolSettings(image="tools:1")
    of = resource(model={"huggingFace": {"repository": "a/b"}}, cache={"claimName": "models"})

    def kinds(claim: ClaimFacts) -> tuple[list[str], Any]:
        decision = decide(of, Observed(claims={"models": claim}), plan(of), tools)
        assert decision.preparation is not None
        return [apply.body["kind"] for apply in decision.applies], decision.preparation.trouble

    written, trouble = kinds(CLAIMS["foreign"])
    assert written == []
    assert trouble.reason == "ClaimNotLabelled"
    assert "kubectl label pvc models llm-operator.dev/cache=true" in trouble.message
    assert kinds(CLAIMS["labelled"]) == (["Job"], None)
    unread = kinds(ClaimFacts("models", "", single_node=False))
    assert unread[1].reason == "ReadRefused"
    assert unread[1].reason in CLAIM_TROUBLES, "nothing says when the right is given back: it is looked at again"
    assert unread[0] == []
    assert "grant it get on persistentvolumeclaims" in unread[1].message


def test_a_claim_that_is_only_read_needs_no_label() -> None:
    of = resource()
    tools = ToolSettings(image="tools:1")
    decision = decide(of, Observed(claims={"models": CLAIMS["foreign"]}), plan(of), tools)
    assert [apply.body["kind"] for apply in decision.applies] == ["Job"]


def test_pods_of_an_operator_that_gave_more_power_are_kept_until_their_next_roll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = resource()

    def older_spec(*given: Any) -> JSON:
        spec = pod_spec(*given)
        container = {**spec["containers"][0], "securityContext": {"allowPrivilegeEscalation": False}}
        return {**spec, "containers": [container], "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}

    with monkeypatch.context() as older:
        older.setattr("llm_operator.manifests.deployment.pod_spec", older_spec)
        before = serving(of)
    assert decide(of, before, plan(of)).applies == ()
    # Another user id of the operator is no reason of the object's either.
    assert decide(of, before, plan(of), ToolSettings(user=1234)).applies == ()
    changed = resource(contextLength=4096)
    rolled = decide(changed, before, plan(changed)).template
    assert rolled is not None
    assert rolled["spec"]["securityContext"]["runAsUser"] == USER


ROOT: list[JSON] = [
    {"spec": {"securityContext": {"runAsUser": 0}}},
    {"spec": {"containers": [{"name": "engine", "securityContext": {"runAsUser": 0}}]}},
]


@pytest.mark.parametrize("overlay", ROOT, ids=["pod", "container"])
def test_the_pod_template_has_the_exceptions(overlay: JSON) -> None:
    of = resource(podTemplate=overlay)
    template = decide(of, Observed(), plan(of)).template
    assert template is not None
    spec = template["spec"]
    assert "runAsNonRoot" not in spec["securityContext"], "root is asked for by its number alone"
    (engine,) = spec["containers"]
    assert 0 in (spec["securityContext"]["runAsUser"], engine["securityContext"].get("runAsUser"))
    assert engine["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_writable_root_file_system_can_be_asked_for() -> None:
    context = {"readOnlyRootFilesystem": False, "runAsUser": 2000}
    of = resource(podTemplate={"spec": {"containers": [{"name": "engine", "securityContext": context}]}})
    template = decide(of, Observed(), plan(of)).template
    assert template is not None
    assert template["spec"]["containers"][0]["securityContext"].items() >= context.items()
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(("text", "user"), [("", None), ("65532", 65532), ("1", 1), ("2147483647", 2**31 - 1)])
def test_the_command_line_says_the_user(text: str, user: int | None) -> None:
    assert tool_settings(parser().parse_args([f"--run-as-user={text}"])).user == user
    assert tool_settings(parser().parse_args([])).user == USER


@pytest.mark.parametrize("text", ["0", "-1", "root", "2147483648", "9" * 5000, "1.5", "²"])
def test_no_other_user_is_taken(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([f"--run-as-user={text}"])
    assert "expected a user id from 1 to 2147483647" in capsys.readouterr().err
