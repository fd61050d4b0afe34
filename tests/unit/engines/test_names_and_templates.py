"""servedNames and chatTemplate: what reaches the engine's command line, and what is refused by which field."""

from __future__ import annotations

from typing import Any

import pytest

from llm_operator.api import API_VERSION, KIND, InvalidResource
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import RefusedError
from tests.support.rendered import children_of

NAMES, EXCLUDE = "spec.model.servedNames", "servedName and servedNames exclude each other"
ONE_NAME, TWICE = "serves a model under one name", "has a name twice"
KEY, OTHER = "spec.model.chatTemplate.key", "names another format"


def arguments(engine: str, version: str | None = None, extra: tuple[str, ...] = (), **model: Any) -> list[str]:
    spec = {
        "model": {"huggingFace": {"repository": "a/b"}, "trustRemoteCode": True, **model},
        "engine": {"type": engine, "extraArgs": list(extra), **({"version": version} if version else {})},
    }
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo"}, "spec": spec}
    words: list[str] = children_of(LLMDeployment.parse(body))[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    return words


def after(words: list[str], option: str) -> list[str]:
    """The values of an option."""
    rest = words[words.index(option) + 1 :]
    return rest[: next((place for place, word in enumerate(rest) if word.startswith("--")), len(rest))]


@pytest.mark.parametrize("names", [["demo", "other"], ["org/model", "model:latest"], ["A", "a"], ["x" * 128]])
def test_vllm_serves_each_name_and_the_first_is_the_main_one(names: list[str]) -> None:
    assert after(arguments("VLLM", servedNames=names), "--served-model-name") == names


def test_one_name_is_one_on_either_engine() -> None:
    assert after(arguments("LMDeploy", servedNames=["other"]), "--model-name") == ["other"]
    assert arguments("LMDeploy", servedNames=["a"]) == arguments("LMDeploy", servedName="a")
    assert arguments("VLLM", servedNames=["a"]) == arguments("VLLM", servedName="a")


@pytest.mark.parametrize("version", ["0.10.2", "0.14.0", "0.18.0"])
def test_lmdeploy_refuses_several_names_with_its_version(version: str) -> None:
    with pytest.raises(RefusedError, match=rf"{NAMES}: LMDeploy {version} {ONE_NAME}"):
        arguments("LMDeploy", version, servedNames=["a", "b"])


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        ({"servedNames": []}, NAMES, "at least 1"),
        ({"servedNames": [str(number) for number in range(9)]}, NAMES, "at most 8"),
        ({"servedNames": ["a", "b", "a"]}, NAMES, TWICE),
        ({"servedNames": ["a"], "servedName": "b"}, NAMES, EXCLUDE),
        ({"servedNames": ["a"], "servedName": "a"}, NAMES, EXCLUDE),
        *(
            ({"servedNames": ["a", bad]}, f"{NAMES}[1]", "")
            for bad in ("", " ", "--port", "a b", "a\n", "é", "x" * 129)
        ),
        *(
            ({"chatTemplate": {"name": "t", "key": bad}}, KEY, "")
            for bad in ("", "..", "../a", "a/b", "a\n", "x" * 254)
        ),
        ({"chatTemplate": {"name": "T_", "key": "a"}}, "spec.model.chatTemplate.name", ""),
        ({"chatTemplate": {"name": "t"}}, KEY, ""),
    ],
)
def test_what_is_no_name_and_no_key_is_refused_by_its_field(model: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        arguments("VLLM", **model)
    ((given, said),) = refused.value.errors
    assert given == field
    assert said
    assert message in said


@pytest.mark.parametrize("engine", ["VLLM", "LMDeploy"])
@pytest.mark.parametrize(("word", "field"), [("--chat-template=x", "chatTemplate"), ("--model-name", "servedName")])
def test_an_argument_does_not_say_it_again(engine: str, word: str, field: str) -> None:
    option = "--served-model-name" if engine == "VLLM" and word == "--model-name" else word
    with pytest.raises(RefusedError, match=rf"spec\.engine\.extraArgs: .* what spec\.model\.{field} says"):
        arguments(engine, extra=(option, "x"), chatTemplate={"name": "t", "key": "a"}, servedNames=["a"])


@pytest.mark.parametrize(
    ("engine", "right", "wrong", "file"),
    [
        ("VLLM", ("a", "a.jinja", "a.J2", ".jinja"), ("a.json", "a.JSON"), "/chat-template/template.jinja"),
        (
            "LMDeploy",
            ("a", "a.json", "a.Json"),
            ("a.jinja", "a.JINJA", ".jinja", "a.j2"),
            "/chat-template/template.json",
        ),
    ],
)
def test_a_key_that_names_the_other_format_is_refused(
    engine: str, right: tuple[str, ...], wrong: tuple[str, ...], file: str
) -> None:
    for key in right:
        assert after(arguments(engine, chatTemplate={"name": "t", "key": key}), "--chat-template") == [file]
    for key in wrong:
        with pytest.raises(RefusedError, match=rf"{KEY}: .* {OTHER}"):
            arguments(engine, chatTemplate={"name": "t", "key": key})
