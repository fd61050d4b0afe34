"""The chat page in front of a real engine on the node: a real browser, and no way out of the page's pod."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect

from devcluster.session import CommandError
from tests.browser import keep_picture
from tests.e2e.space import JSON, Space

SENTENCE = "tiny test model"
ELSEWHERE = "192.0.2.1"
"""Of a network that is nobody's (RFC 5737)."""
WAIT_MILLISECONDS = 60_000
LENGTHS = """() => {
  window.lengths = [];
  new MutationObserver(() => {
    const answers = document.querySelectorAll("#conversation .bot.message");
    if (answers.length) window.lengths.push(answers[answers.length - 1].innerText.length);
  }).observe(document.querySelector("#conversation"), {childList: true, subtree: true, characterData: true});
}"""
"""Notes how long the answer is whenever the page changes."""


@contextmanager
def forwarded(space: Space, service: str) -> Iterator[str]:
    """URL of a Service's port on this machine, as docs/chat.md opens it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    session = space.session
    command = [str(session.binaries / "kubectl"), "--kubeconfig", str(session.kubeconfig), "-n", space.name]
    process = subprocess.Popen(
        [*command, "port-forward", f"service/{service}", f"{port}:80"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={"NO_PROXY": "*"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "Forwarding from" in line, line + process.stdout.read()
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def no_way_out(inside: Callable[..., str], pod: JSON, engine: str) -> Iterator[Callable[[], int]]:
    """Within the pod's own network nothing begins but a connection to its engine; yields how much was refused so far.

    What comes in is answered. The rules end with the pod.
    """
    address = pod["status"]["podIP"]
    names = [line.split()[0] for line in inside("ip", "netns", "list").splitlines()]
    (network,) = [name for name in names if f" {address}/" in inside("ip", "-n", name, "-4", "-oneline", "address")]

    def rules(*words: str) -> str:
        return inside("ip", "netns", "exec", network, "iptables", "--wait", *words)

    rules("--new-chain", "OUT")
    rules("--append", "OUT", "--out-interface", "lo", "--jump", "RETURN")
    rules("--append", "OUT", "--match", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "--jump", "RETURN")
    rules("--append", "OUT", "--destination", engine, "--protocol", "tcp", "--dport", "80", "--jump", "RETURN")
    rules("--append", "OUT", "--jump", "REJECT")
    rules("--insert", "OUTPUT", "--jump", "OUT")

    def refused() -> int:
        (line,) = [
            line
            for line in rules("--list", "OUT", "--verbose", "--exact", "--numeric").splitlines()
            if "REJECT" in line
        ]
        return int(line.split()[0])

    try:
        yield refused
    finally:
        rules("--delete", "OUTPUT", "--jump", "OUT")
        rules("--flush", "OUT")
        rules("--delete-chain", "OUT")


def assert_the_page_answers(space: Space, browser: Browser, name: str, engine_name: str) -> None:
    """Give an object that serves a page, ask it something, and keep a picture; the page stays.

    With egress denied to the page's pod, where its node is within reach.
    """
    page_of = json.dumps({"spec": {"webUI": space.session.web_ui(name, space.name)}})
    space.kubectl("patch", "llmdep", name, "--type=merge", "-p", page_of)
    space.becomes(name, "WebUIReady", "True", seconds=180)
    with forwarded(space, f"{name}-chat") as url:
        if space.session.inside is None:
            _ask(browser, url, name, engine_name)
            return
        (pod,) = space.items("Pod", f"llm-operator.dev/chat={name}")
        engine = space.get("Service", name)["spec"]["clusterIP"]
        with no_way_out(space.session.inside, pod, engine) as refused:
            _ask(browser, url, name, engine_name)
            assert refused() == 0, "the page's server called somewhere else than its engine"
            script = f"import socket; socket.create_connection(('{ELSEWHERE}', 443), 5)"
            with pytest.raises(CommandError, match="Connection refused"):
                space.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", script)
            assert refused() > 0, "the rules refuse nothing"


def _ask(browser: Browser, url: str, name: str, engine_name: str) -> None:
    page = browser.new_context(viewport={"width": 1100, "height": 760}).new_page()
    page.set_default_timeout(WAIT_MILLISECONDS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    expect(page.locator("#header h1")).to_have_text(name, timeout=WAIT_MILLISECONDS)
    expect(page.locator("#header")).to_contain_text(engine_name)
    page.get_by_text("Settings").click()
    page.get_by_label("number input for Temperature").fill("0")
    page.get_by_label("number input for Temperature").press("Tab")
    page.get_by_text("Settings").click()
    page.evaluate(LENGTHS)
    box = page.locator("#question textarea")
    box.fill("Who are you?")
    box.press("Enter")
    answer = page.locator("#conversation .bot.message").last
    expect(answer).to_contain_text(SENTENCE, timeout=WAIT_MILLISECONDS)
    expect(page.locator("#question .submit-button")).to_be_visible(timeout=WAIT_MILLISECONDS)
    print(f"    a picture of the page: {keep_picture(page, f'chat-page-{name}')}", file=sys.stderr)
    grown = sorted(set(page.evaluate("() => window.lengths")))
    assert len(grown) > 2, f"the answer did not stream: its lengths were {grown}"
    assert {re.sub(r"^\w+://([^/]*).*", r"\1", one) for one in asked} == {url.split("/")[2]}
    page.context.close()
