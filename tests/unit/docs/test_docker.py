"""The docker commands that the documentation prints, against the Dockerfiles, the chart and the programs they start."""

from __future__ import annotations

import re

import pytest
import yaml

from chat_page.settings import PORT, read
from devcluster.cache import ROOT
from devcluster.images import RECIPES
from llm_operator.image_names import PUBLISHED
from tests.support.docker import Docker, Dockerfile, docker_commands

COMMANDS = docker_commands()
CHART = yaml.safe_load((ROOT / "helm/llm-operator/Chart.yaml").read_text())
VERSIONS = {
    **dict.fromkeys(PUBLISHED, CHART["appVersion"]),
    "lmdeploy": CHART["annotations"]["llm-operator.dev/lmdeploy"],
}
"""Tags that the chart names."""
REFERENCE = re.compile(r"registry\.example\.com/(?:llm/)?(?P<name>[a-z-]+):(?P<tag>[0-9.]+)")


def of(verb: str) -> list[Docker]:
    return [command for command in COMMANDS if command.verb == verb]


def name_and_tag(text: str) -> tuple[str, str]:
    found = REFERENCE.fullmatch(text)
    assert found is not None, f"{text} is not <the registry of the examples>/<name>:<version>"
    return found["name"], found["tag"]


def file_of(command: Docker) -> Dockerfile:
    options = command.options
    return Dockerfile(ROOT / (options.file or options.context / "Dockerfile"))


def test_there_are_some_of_each_kind() -> None:
    assert {command.verb for command in COMMANDS} == {"build", "push", "run"}
    assert len(of("build")) >= 2 * len(PUBLISHED)


@pytest.mark.parametrize("command", of("build"), ids=lambda command: f"{command.where} {command.options.tag}")
def test_a_build_finds_its_file_its_context_and_all_that_it_copies(command: Docker) -> None:
    options, file = command.options, file_of(command)
    context = ROOT / options.context
    assert file.path.is_file()
    assert context.is_dir()
    assert {given.partition("=")[0] for given in options.build_arg} <= file.arguments
    for name in file.copied():
        assert (context / name).exists(), f"{name} is not in {options.context}"
        assert not file.ignored(context, name), f"{name} is left out by .dockerignore"


@pytest.mark.parametrize("command", of("build"), ids=lambda command: f"{command.where} {command.options.tag}")
def test_a_tag_names_the_image_that_is_built_in_the_version_that_is_used(command: Docker) -> None:
    name, tag = name_and_tag(command.options.tag)
    file = file_of(command)
    assert file.path.parent.name == name
    text = file.path.read_text()
    given = dict(pair.split("=", 1) for pair in command.options.build_arg)
    default = re.search(r"^ARG VERSION=(\S+)", text, re.MULTILINE)
    expected = given.get("VERSION") or (default[1] if default else VERSIONS[name])
    assert tag == expected
    assert tag == VERSIONS.get(name, tag)


def test_the_page_of_the_installation_builds_and_pushes_what_the_chart_names() -> None:
    here = [command for command in COMMANDS if command.where == "docs/install.md"]
    built = [command.options.tag for command in here if command.verb == "build"]
    assert [command.options.tag for command in here if command.verb == "push"] == built
    assert dict(map(name_and_tag, built)) == VERSIONS
    assert len({text.rpartition("/")[0] for text in built}) == 1
    assert f"--set imageRegistry={built[0].rpartition('/')[0]}" in (ROOT / "docs/install.md").read_text()


def test_the_development_cluster_builds_the_same_files() -> None:
    """So every test on it runs what the page builds, on another base."""
    built = {name_and_tag(command.options.tag)[0]: command for command in of("build")}
    assert set(built) >= set(PUBLISHED)
    for name, command in built.items():
        assert RECIPES[name].context == ROOT / command.options.context
        assert file_of(command).path == ROOT / "images" / name / "Dockerfile"


@pytest.mark.parametrize("command", of("run"), ids=lambda command: command.where)
def test_a_run_publishes_the_port_that_the_program_listens_on(command: Docker) -> None:
    name, _ = name_and_tag(command.options.tag)
    assert name == "web"
    assert command.options.tag in {one.options.tag for one in of("build") if one.where == command.where}
    file = Dockerfile(ROOT / "images" / name / "Dockerfile")
    inside = int(command.options.publish.rpartition(":")[2])
    settings = read(command.options.arguments, {})
    assert file.ports == {inside} == {settings.port} == {PORT}
    assert settings.host == "0.0.0.0"
    assert settings.api.endswith(":23333/v1"), "the port of lmdeploy serve api_server"


def test_pages_that_name_an_image_only_show_the_same_options() -> None:
    """A command within a line of text: `docker run -p 8080:8080 IMAGE --api URL`."""
    shown = [
        words
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for words in re.findall(r"`docker run ([^`]+)`", path.read_text())
    ]
    assert shown
    for words in shown:
        if "IMAGE" in words:
            options = Docker("", ("run", *words.split())).options
            assert options.publish == f"8080:{PORT}"
            assert read([word.replace("URL", "http://a:1") for word in options.arguments], {}).api == "http://a:1/v1"


def test_dockerignore_is_read_as_docker_reads_it() -> None:
    file = Dockerfile(ROOT / "images/operator/Dockerfile")
    names = ("docs/chat.md", "operator/llm_operator/__pycache__", "operator/llm_operator/settings.py")
    assert [file.ignored(ROOT, name) for name in names] == [True, True, False]
