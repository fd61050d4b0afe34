"""`make demo`: from nothing to an answer of both engines, out of pods that the operator made."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import images, toolchain
from devcluster.archive import ArchiveError
from devcluster.cache import NoRoomError, Steps, need_room
from devcluster.client import ApiError
from devcluster.node import DEFAULT_NAME, Node
from devcluster.session import IMAGES, CommandError, Session, existing
from devcluster.state import ClusterError

QUESTION = "Who are you?"
ENGINES = ("tiny-vllm", "tiny-lmdeploy")
DEMO_IMAGES = ("operator", "model-tools", "web", "vllm-cpu-test", "lmdeploy-cpu-test")
"""Without that of the old release, whose `convert` only the tests need."""
READY_SECONDS = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when both engines answered."""
    line = argparse.ArgumentParser(prog="python -m devcluster demo", description=__doc__, allow_abbrev=False)
    line.add_argument("--use-existing", action="store_true", help="run on the cluster of KUBECONFIG; nothing is built")
    for name in DEMO_IMAGES:
        reference = IMAGES[name]
        line.add_argument(f"--{name}-image", metavar="REFERENCE", help=f"with --use-existing; default {reference}")
    chosen = line.parse_args(argv)
    start = time.monotonic()
    steps = Steps("demo", 7 if chosen.use_existing else 10)
    # As the farewell says: kubectl finds kubectl-llm on the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        session = _existing(chosen) if chosen.use_existing else _own(steps)
        _serve(session, steps)
    except (CommandError, ApiError, ClusterError, ArchiveError, NoRoomError, toolchain.BuildError) as error:
        print(f"\nThe demo stopped: {error}")
        return 1
    print(_farewell(session, time.monotonic() - start, own=not chosen.use_existing))
    return 0


def _existing(chosen: argparse.Namespace) -> Session:
    given = {name: getattr(chosen, f"{name.replace('-', '_')}_image") for name in DEMO_IMAGES}
    return existing({name: reference for name, reference in given.items() if reference})


def _own(steps: Steps) -> Session:
    need_room(missing_bytes(), "the demo")
    with steps.step("build the cluster's programs"):
        binaries = toolchain.ensure()
    with steps.step("start the node"):
        node = Node.up()
    with steps.step("build the images and bring them into the node"):
        images.bring(DEMO_IMAGES, node)
    return Session(node.kubeconfig, binaries, volumes=node.volumes)


def missing_bytes() -> int:
    """Bytes that the demo takes on the disk at most: the compiler's caches go before the first image is built."""
    built = toolchain.kept_bytes() + images.missing_bytes(DEMO_IMAGES, DEFAULT_NAME)
    return max(toolchain.missing_bytes(), built)


def _serve(session: Session, steps: Steps) -> None:
    with steps.step("install the chart"):
        session.install_chart()
    with steps.step("make a tiny model"):
        session.provide_tiny_model()
    with steps.step(f"apply examples/{ENGINES[0]}.yaml and examples/{ENGINES[1]}.yaml"):
        for name in ENGINES:
            session.apply(session.example(name))
    with steps.step("wait until both are Ready"):
        for name in ENGINES:
            session.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_SECONDS}s", f"llmdep/{name}")
    with steps.step("ask both"):
        for name in ENGINES:
            print(f"    {name}: {QUESTION!r} -> {session.chat('default', name, name, QUESTION)!r}")
    with steps.step(f"kubectl llm chat {ENGINES[0]}"):
        words = ("-m", QUESTION, "--temperature", "0", "--max-tokens", "32")
        print(f"    {session.kubectl('llm', 'chat', ENGINES[0], *words).strip()!r}")
    with steps.step(f"a chat page beside {ENGINES[0]}"):
        page = json.dumps({"spec": {"webUI": session.web_ui(ENGINES[0])}})
        session.kubectl("patch", f"llmdep/{ENGINES[0]}", "--type=merge", f"--patch={page}")
        session.kubectl("wait", "--for=condition=WebUIReady", f"--timeout={READY_SECONDS}s", f"llmdep/{ENGINES[0]}")


def _endpoint(*, own: bool) -> str:
    if own:
        return "status.endpoint does not resolve here, without DNS on this node:\npods use the Service's cluster IP."
    return "In the cluster the endpoint is status.endpoint."


def _farewell(session: Session, seconds: float, *, own: bool) -> str:
    uninstall = "kubectl delete llmdep --all && helm uninstall -n llm-operator llm-operator"
    down = "make cluster-down" if own else uninstall
    return f"""
Done in {seconds:.0f} s. What to try next:

  export KUBECONFIG={session.kubeconfig}
  export PATH={session.binaries}:{Path(sys.executable).parent}:$PATH
  kubectl llm chat tiny-vllm            # a conversation; -m asks one question
  kubectl llm status tiny-vllm          # one screen; kubectl llm list shows all
  kubectl llm bench tiny-vllm --plot    # how fast it answers
  kubectl describe llmdep tiny-vllm     # conditions, plan, events
  kubectl scale llmdep tiny-lmdeploy --replicas=2

The chat page is at http://127.0.0.1:8080/ while this runs:

  kubectl port-forward service/tiny-vllm-chat 8080:80

{_endpoint(own=own)}
Take everything down with:

  {down}"""
