"""What a manifest may not hold: fields that do not exist, keys given twice, other encodings; and directories."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.cli.errors import BadInputError
from llm_operator.cli.manifests import read_manifests
from llm_operator.cli.strict import METADATA, unknown_fields

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
TEXT = """apiVersion: llm-operator.dev/v1alpha1
kind: LLMDeployment
metadata: {name: qwen}
spec:
  model: {huggingFace: {repository: org/model}}
  engine: {type: LMDeploy}
  kvCache: {quantization: Int8}
"""


def problems(path: Path | str) -> list[str]:
    with pytest.raises(BadInputError) as refused:
        read_manifests([str(path)])
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("quantization:", "quantisation:", "spec.kvCache.quantisation: unknown field; did you mean quantization?"),
        ("kvCache:", "kvcache:", "spec.kvcache: unknown field; did you mean kvCache?"),
        ("spec:\n", "spec:\n  contextLenght: 1\n", "spec.contextLenght: unknown field; did you mean contextLength?"),
        ("name: qwen", "name: qwen, lables: {}", "metadata.lables: unknown field; did you mean labels?"),
        ("kind:", "sepc: {}\nkind:", "sepc: unknown field; did you mean spec?"),
        ("{type: LMDeploy}", "{type: LMDeploy, env: [{name: A, valeu: b}]}", "spec.engine.env[0].valeu: unknown"),
        ("{type: LMDeploy}", "{type: LMDeploy, 7: b}", "spec.engine.7: unknown field; expected one of type, "),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in TEXT
    path = tmp_path / "a.yaml"
    path.write_text(TEXT.replace(right, wrong, 1))
    assert any(problem.startswith(f"{path}[1]: {said}") for problem in problems(path)), problems(path)


def documents() -> list[Any]:
    return [
        document
        for path in EXAMPLES
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == "LLMDeployment"
    ]


def test_every_example_is_known_to_its_last_field_and_not_with_one_more() -> None:
    assert documents()
    for document in documents():
        assert unknown_fields(document) == []
        for path in places(document["spec"]):
            changed = copy.deepcopy(document)
            holder = changed["spec"]
            for part in path:
                holder = holder[part]
            holder["zzz"] = 1
            found = [field for field, _ in unknown_fields(changed)]
            assert len(found) == 1, path
            assert found[0].endswith(".zzz")


FREE = {"nodeSelector", "podLabels", "podAnnotations", "requests", "limits", "labels", "annotations", "pod", "service"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every mapping below that has fields and not keys of the user's own."""
    if isinstance(value, list):
        return [place for index, entry in enumerate(value) for place in places(entry, (*path, index))]
    if not isinstance(value, dict) or (path and path[-1] in FREE):
        return []
    return [path, *(place for name, entry in value.items() for place in places(entry, (*path, name)))]


def test_what_the_api_server_adds_is_known() -> None:
    document = {**yaml.safe_load(TEXT), "status": {"replicas": 1}}
    document["metadata"] = dict.fromkeys(METADATA)
    assert unknown_fields(document) == []


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT + "  kvCache: {quantization: Int4}\n")
    (problem,) = problems(path)
    assert problem == f"{path}: the key 'kvCache' is given twice, on lines 7 and 8"
    path.write_text(TEXT.replace("Int8}", "Int8, <<: {quantization: Int4}}"))
    (resource,) = read_manifests([str(path)])
    assert resource.spec.kv_cache.quantization == "Int8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(TEXT.encode(encoding))
    assert problems(path) == [f"{path}: is UTF-16 or UTF-32: save it as UTF-8"]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(TEXT.encode("utf-8-sig"))
    assert read_manifests([str(path)])[0].metadata.name == "qwen"


def test_directories(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: the directory has no file that ends with .yaml, .yml, .json"]
    assert problems("") == ["-f is empty: give a file, a directory, or - for standard input"]
    (tmp_path / "b.yaml").write_text(TEXT)
    (tmp_path / "a.yml").write_text(TEXT.replace("qwen", "first"))
    (tmp_path / "notes.txt").write_text("no manifest")
    assert [resource.metadata.name for resource in read_manifests([str(tmp_path)])] == ["first", "qwen"]


@pytest.mark.parametrize(
    ("text", "also", "not_said"),
    [
        # A rule beside an invalid value.
        ("kvCache: {quantization: int8, memory: 3Gi, memoryPercent: 50}", "memory and memoryPercent exclude", ""),
        # The engine's refusal behind it, and both behind an invalid type.
        ("replicas: two\n  engine: {type: VLLM, extraArgs: [--tp]}", "has no option --tp", ""),
        ("replicas: two\n  kvCache: {memory: 3Gi, memoryPercent: 50}", "memory and memoryPercent exclude", ""),
        # Not what the absent field alone would cause.
        ("model: {huggingFace: org/model}", "Input should be an object", "exactly one of"),
        ("kvCache: {memory: 3, memoryPercent: 50}", "Input should be a valid string", "exclude"),
        ("engine: {type: VLLM, version: 0.9, extraArgs: [--tp]}", "Input should be a valid string", "--tp"),
        ("engine: {env: [{name: A}, {value: b}]}", "spec.engine.env[1].name: Field required", "given"),
    ],
)
def test_errors_that_hide_behind_others_are_said_too(tmp_path: Path, text: str, also: str, not_said: str) -> None:
    path = tmp_path / "a.yaml"
    fields = tuple(part.partition(":")[0] for part in text.split("\n  "))
    kept = [line for line in TEXT.splitlines() if not line.strip().startswith(fields)]
    path.write_text("\n".join([*kept, f"  {text}"]) + "\n")
    said = problems(path)
    assert any(also in problem for problem in said), said
    assert len(set(said)) == len(said)
    assert not not_said or not any(not_said in problem for problem in said), said


def test_a_wrong_name_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT.replace("qwen", "A_1").replace("LMDeploy}", "VLLM, extraArgs: [--tp]}"))
    said = problems(path)
    assert any("metadata.name" in problem for problem in said)
    assert any("has no option --tp" in problem for problem in said)
