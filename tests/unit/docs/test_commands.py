"""Every command of the documentation is checked by the program that would run it, or needs something named here."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.__main__ import parser as devcluster_parser
from devcluster.cache import ROOT
from devcluster.toolchain import ensure
from devtools.site import SUBCOMMANDS, help_of
from llm_operator.cli.main import COMMANDS
from llm_operator.cli.main import parser as llm_parser
from tests.support.chart import CHART, Helm
from tests.support.pages import Line, all_lines

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ELSEWHERE = {
    "curl": "a request to an engine: tests/e2e/test_serving.py sends the same",
    "docker": "tests/unit/docs/test_docker.py reads it, tests/web/test_image.py runs what it starts",
    "export": "sets a variable of the shell",
    "jq": "reads a log",
    "openssl": "makes a password",
    "pip": "installs this package, as make venv does",
    "pre-commit": "a hook of the user's own repository",
}
"""Programs whose commands no test runs, and why."""
UNKNOWN = re.compile(r"unknown (flag|shorthand flag|command)")
NOWHERE = """apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {token: none}}]
current-context: none
"""
"""A kubeconfig of a server that refuses every connection: kubectl reads its command line before it connects."""


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a page's console blocks, as words; output and comments are left out."""
    for block in re.findall(r"^ *```console\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        lines = re.sub(r"\\\n\s*", " ", block).splitlines()
        prompts = [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]
        for line in prompts or [line.strip() for line in lines if line.strip()]:
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                # A here-document, or a quotation over several lines: the first word tells the program.
                words = line.split()[:1]
            yield from pieces(words)


def pieces(words: list[str]) -> Iterator[list[str]]:
    """The commands of a pipe or a list, each without where its output goes."""
    for ends, group in itertools.groupby(words, lambda word: word in ("|", "&&")):
        piece = before_a_redirection(list(group))
        if piece and not ends:
            yield piece


def before_a_redirection(words: list[str]) -> list[str]:
    ends = [index for index, word in enumerate(words) if word in (">", "2>&1", "--")]
    return words[: min(ends, default=len(words))]


def commands_in_prose(text: str) -> Iterator[list[str]]:
    """The commands of kubectl between backticks, as words; they may be incomplete, or have names to fill in."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`(kubectl [^`\n]+(?:\n[^`\n]+)?)`", prose):
        yield before_a_redirection(list(itertools.takewhile(lambda word: word != "|", shlex.split(code))))


COMMANDS_IN_PROSE = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)[:70]}")
    for page in PAGES
    if page.name != "CHANGELOG.md"
    for words in commands_in_prose(page.read_text())
]
COMMANDS_OF_PAGES = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)[:70]}")
    for page in PAGES
    for words in commands(page.read_text())
]


NOT_OF_TEMPLATE = ("--create-namespace", "--reuse-values", "--reset-then-reuse-values")


@pytest.fixture(scope="module")
def helm() -> Helm:
    return Helm(ensure(["helm"]) / "helm")


class Kubectl:
    """The real kubectl, which reaches no cluster."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "config"
        self._config.write_text(NOWHERE)
        self._path = ensure(["kubectl"]) / "kubectl"

    def complaint(self, arguments: list[str]) -> str:
        """What it has against a command line; empty if nothing."""
        done = subprocess.run(
            [self._path, *arguments], check=False, capture_output=True, text=True, cwd=ROOT, timeout=60,
            stdin=subprocess.DEVNULL, env={"KUBECONFIG": str(self._config), "HOME": str(self._config.parent)},
        )  # fmt: skip
        return done.stderr if UNKNOWN.search(done.stderr) else ""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(tmp_path_factory.mktemp("kubectl"))


@pytest.mark.parametrize("words", COMMANDS_OF_PAGES)
def test_the_program_takes_the_command(helm: Helm, kubectl: Kubectl, words: list[str]) -> None:
    match words:
        case ["make", *_]:
            pass  # tests/unit/docs/test_docs.py
        case ["kubectl-llm", *arguments] | ["kubectl", "llm", *arguments]:
            assert arguments[0] in COMMANDS, arguments
            llm_parser(arguments[0]).parse_args(arguments)
        case ["python", "-m", "devcluster", *arguments]:
            devcluster_parser().parse_args(arguments)
        case ["kubectl", *arguments]:
            assert kubectl.complaint(arguments) == ""
            for path in (after for word, after in itertools.pairwise(arguments) if word in ("-f", "-k")):
                known = path == "-" or path.startswith(("examples", "crds", "gitops"))
                assert not known or path == "-" or (ROOT / path).exists(), path
        case ["helm", "install" | "upgrade" | "template" as verb, name, _chart, *options]:
            settings = [word for word in options if word not in NOT_OF_TEMPLATE]
            if verb == "upgrade":
                settings += ["--set", "imageRegistry=registry.example.com/llm"]
            done = helm.run("template", name, str(CHART), *settings)
            assert done.returncode == 0, done.stderr
        case ["helm", "test" | "uninstall", *_]:
            pass  # tests/e2e/test_helm.py
        case [program, *_]:
            assert program.rpartition("/")[2] in ELSEWHERE, f"no test runs {program}: check it here, or say why not"


@pytest.mark.parametrize("words", COMMANDS_IN_PROSE)
def test_the_program_knows_the_command_of_a_sentence(kubectl: Kubectl, words: list[str]) -> None:
    if words[1] != "llm":
        assert kubectl.complaint(words[1:]) == ""
        return
    named = [word for word in words[2:] if word in COMMANDS]
    command = named[0] if named else None
    told = help_of(command) if command else ""
    told += "".join(help_of(str(command), name) for name in SUBCOMMANDS.get(str(command), ()))
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    assert command or not options
    assert [option for option in options if option != "--help" and option not in told] == []


def test_kubectl_refuses_what_it_does_not_know(kubectl: Kubectl) -> None:
    assert "unknown flag: --al-namespaces" in kubectl.complaint(["get", "llmdep", "--al-namespaces"])
    assert "unknown command" in kubectl.complaint(["frobnicate"])
    assert kubectl.complaint(["get", "llmdep", "--all-namespaces"]) == ""


def test_a_wrong_command_is_found() -> None:
    found = list(commands("```console\n$ kubectl llm plan --gpus 2\n  its output\n```\n"))
    assert found == [["kubectl", "llm", "plan", "--gpus", "2"]]
    with pytest.raises(SystemExit):
        llm_parser("plan").parse_args(found[0][2:])


def test_every_page_has_its_place_in_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text().replace("!!python/name:", "")
    nav = str(yaml.safe_load(text)["nav"])
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = str(page.relative_to(ROOT / "docs"))
        folder = f"{Path(name).parts[0]}/"
        assert name in nav or (folder in ("runbooks/", "decisions/") and folder in nav), name


@pytest.mark.parametrize("line", all_lines(), ids=lambda line: f"{line.page}: {line.text[:70]}")
def test_every_command_runs_in_a_test_or_says_that_it_needs_a_gpu(line: Line) -> None:
    assert line.needs_gpu or line.run_by is not None, "tests/support/pages.py: say what runs it"
    assert not line.run_by or (ROOT / line.run_by).exists(), line.run_by
