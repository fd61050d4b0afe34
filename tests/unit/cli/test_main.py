"""The command line as a whole: what each command imports, and what it says of itself."""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import cache
from typing import get_args

import pytest

from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.api.status import ConditionType
from llm_operator.cli import restart, wait
from llm_operator.cli.main import COMMANDS, parser, run
from llm_operator.cli.table import FORMS
from llm_operator.reasons import NAMES

HEAVY = ("kopf", "kubernetes", "aiohttp", "uvloop", "prometheus_client")


def imported(*arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    script = (
        "import sys\nfrom llm_operator.cli.main import run\n"
        f"try:\n    run({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stderr.split())


@cache
def bare() -> set[str]:
    """The modules of an interpreter that does nothing."""
    script = "import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_command_needs_the_operators_packages(command: str) -> None:
    assert imported(command, "--help").isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [("--help",), ("list", "--kubeconfig", "/none"), ("status", "a", "--help")])
def test_a_quick_command_imports_little(arguments: tuple[str, ...]) -> None:
    found = imported(*arguments)
    assert found.isdisjoint({*HEAVY, "pydantic", "huggingface_hub", "asyncio", "llm_operator.api"})
    # A ratio to the bare interpreter, not a time: 2.4 and 8 as measured; 9 take 0.12 s of CPU more than its own 0.03 s.
    ratio = len(found) / len(bare())
    assert ratio < (3 if arguments == ("--help",) else 9), ratio


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_words(command: str | None) -> None:
    text = parser(command).format_help()
    assert all(about in text for about in COMMANDS.values())


@pytest.mark.parametrize("words", [*((name,) for name in COMMANDS), ("cache", "list")], ids=" ".join)
def test_whoever_prints_a_table_prints_a_wide_one(words: tuple[str, ...]) -> None:
    line: argparse.ArgumentParser = parser(words[0])
    for word in words:
        (commands,) = (action.choices for action in line._actions if isinstance(action.choices, dict))
        line = commands[word]
    (output,) = (action.choices for action in line._actions if action.dest == "output") if _prints(line) else (None,)
    assert output is None or "table" not in output or tuple(output) == FORMS


def _prints(line: argparse.ArgumentParser) -> bool:
    return any(action.dest == "output" for action in line._actions)


def test_objects_have_no_wide_form(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(["render", "-f", "x.yaml", "-o", "wide"])
    said = capsys.readouterr().err
    assert said.startswith("kubectl llm render: argument -o/--output: invalid choice: 'wide' (choose from 'yaml',")
    assert said.count("\n") == 1


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 0
    assert set(capsys.readouterr().out.split()) == NAMES
    for name in NAMES:
        assert run(["explain", name.lower()]) == 0
        assert capsys.readouterr().out.startswith(f"{name} (")
    assert run(["explain", "Unschedulabel"]) == 2
    assert capsys.readouterr().err == (
        "kubectl llm explain: there is no reason 'Unschedulabel'; did you mean Unschedulable?\n"
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("kvCache.quantization", "A change replaces the engine's pods"),
        ("spec.replicas", "A change keeps the engine's pods."),
        ("cache", "These do not: cache.size, cache.storageClassName"),
        ("engine.env", "A change replaces"),
        ("engine.env[0].name", "spec.engine.env.name"),
        ("podTemplate.metadata", "Fields: labels, annotations\nA change replaces the engine's pods"),
        ("podTemplate.spec", ", volumes\nA change replaces the engine's pods"),
        ("podTemplate.spec.nodeSelector", "Not here: use spec.nodeSelector."),
        (
            "podTemplate.spec.volumes[0].configMap",
            "see kubectl explain pod.spec.volumes.configMap\nFields: defaultMode",
        ),
        ("tools.podTemplate.spec.containers.env", "(list)\nAs in a pod: see kubectl explain pod.spec.containers.env"),
        ("webUI.podTemplate.spec.affinity", "podAffinity, podAntiAffinity\nA change keeps the engine's pods."),
    ],
)
def test_explain_a_field_says_what_its_change_restarts(
    capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert run(["explain", word]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("unscheduleable", "there is no reason or field 'unscheduleable'; did you mean Unschedulable?"),
        ("engine.tpye", "spec.engine has no field 'tpye'; did you mean type?"),
        ("replicas.x", "spec.replicas has no fields"),
        ("podTemplate.spec.volumes.configMap.nme", "no field 'nme'; did you mean name?"),
        ("podTemplate.metadata.finalizers", "spec.podTemplate.metadata has no field 'finalizers'; it has labels"),
        ("webUI.podTemplate.spec.volumes.name.x", "spec.webUI.podTemplate.spec.volumes.name has no fields"),
        ("gpu.zzzz", "spec.gpu has no field 'zzzz'; it has "),
        ("status.plan", "only fields of spec are explained: see kubectl explain llmdeployment.status.plan"),
        ("OOMKilled", "there is no reason 'OOMKilled'; did you mean HostMemoryExhausted?"),
        ("CrashLoopBackOff", "there is no reason 'CrashLoopBackOff'; did you mean EngineFailed?"),
        (
            "kvcache",
            "there is no reason or field 'kvcache'; did you mean kvCache, KVCacheTooSmall, InvalidKVCacheShare?",
        ),
        ("ImagePullBackOff", "there is no reason 'ImagePullBackOff'; did you mean ImagePullFailed"),
    ],
)
def test_an_unknown_field_has_its_nearest(capsys: pytest.CaptureFixture[str], word: str, said: str) -> None:
    assert run(["explain", word]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("text", "told"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200)])
def test_wait_takes_a_time_as_kubectl_does(text: str, told: int) -> None:
    assert wait.seconds(text) == told


@pytest.mark.parametrize("text", ["-1", "1.5", "soon", "30 m", ""])
def test_what_is_no_time_is_refused(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(["wait", "qwen", f"--timeout={text}"])
    assert f"{text!r}: expected seconds, or such as 30m" in capsys.readouterr().err


def test_a_condition_has_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "modeldamaged"]) == 0
    assert capsys.readouterr().out.endswith("\nReasons: HashMismatch\n")
    assert [name for name in get_args(ConditionType) if run(["explain", name])] == []


def test_a_remedy_names_the_page_and_not_its_link(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "PodTemplateRefused"]) == 0
    assert "(docs/pods.md)" in capsys.readouterr().out
    assert not [name for name in NAMES if run(["explain", name]) or "](" in capsys.readouterr().out]


def test_a_reader_that_goes_away() -> None:
    script = f"{sys.executable} -m llm_operator.cli.main explain | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_restart_sets_the_annotation_that_the_operator_reads() -> None:
    assert restart.ANNOTATION == ANNOTATION_RESTARTED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "kubectl llm: argument COMMAND: invalid choice: 'lst' (choose from "),
        (["list", "--wach"], "kubectl llm: unrecognized arguments: --wach"),
        (["list", "-o", "jso"], "kubectl llm list: argument -o/--output: invalid choice: 'jso' "),
        (["status"], "kubectl llm status: the following arguments are required: NAME; see kubectl llm status --help"),
        ([], "kubectl llm: the following arguments are required: COMMAND; see kubectl llm --help"),
        (
            ["plan", "--tensor", "9" * 5000],
            "kubectl llm plan: argument --tensor: '99999999999999999999'..., 5,000 char",
        ),
    ],
)
def test_a_wrong_word_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(words)
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith(said)
    assert text.count("\n") == 1
    assert ("did you mean" in text) == (words[:1] in (["lst"], ["list"]) and "--wach" not in words), text
