"""`python -m devcluster`: a Kubernetes node on this machine, its images, and the demo."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devcluster import toolchain
from devcluster.archive import ArchiveError
from devcluster.cache import NoRoomError, need_room
from devcluster.debian import NODE_PACKAGES, ensure_packages
from devcluster.node import DEFAULT_NAME, Node, down, find
from devcluster.session import GPU_IMAGES, IMAGES
from devcluster.state import ClusterError, known


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="python -m devcluster", description=__doc__, allow_abbrev=False)
    commands = line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("up", "start the node, or take the one that runs"),
        ("down", "remove it and whatever it left on this machine"),
        ("status", "what runs"),
        ("kubeconfig", "print the path of the kubeconfig"),
        ("load", "bring image archives into the node"),
        ("images", "build the project's images and bring them into the node"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("--name", default=DEFAULT_NAME, help=f"the node's name (default {DEFAULT_NAME})")
        if name == "load":
            command.add_argument("archives", nargs="+", type=Path)
        if name == "images":
            command.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(IMAGES)}; default all")
    text = "build the cluster's programs and the images, and start nothing"
    prepare = commands.add_parser("prepare", help=text, description=text, allow_abbrev=False)
    listed = f"of {', '.join(IMAGES)}; default all of these; for GPUs, of gigabytes: {', '.join(GPU_IMAGES)}"
    prepare.add_argument("images", nargs="*", metavar="IMAGE", help=listed)
    build = commands.add_parser("build", help="build the cluster's programs", allow_abbrev=False)
    build.add_argument("programs", nargs="*", metavar="PROGRAM", help="default all")
    commands.add_parser("demo", help="from nothing to an answer of both engines", add_help=False)
    return line


def run(chosen: argparse.Namespace) -> int:
    """One command; its exit code."""
    if chosen.command == "build":
        print(toolchain.ensure(chosen.programs or tuple(toolchain.BINARIES)))
    elif chosen.command == "prepare":
        _prepare(chosen.images or list(IMAGES))
    elif chosen.command == "up":
        node = Node.up(chosen.name)
        print(f"\nexport KUBECONFIG={node.kubeconfig}\nexport PATH={node.binaries}:$PATH\nkubectl get nodes")
        print("There is no cluster DNS: reach Services by their cluster IP. Take it down with: make cluster-down")
    elif chosen.command == "down":
        print(f"node {chosen.name!r} " + ("is gone" if down(chosen.name) else "does not run"))
    elif chosen.command == "status":
        return _status(chosen.name)
    elif chosen.command == "kubeconfig":
        print(_running(chosen.name).kubeconfig)
    elif chosen.command == "load":
        _running(chosen.name).load(chosen.archives)
    elif chosen.command == "images":
        from devcluster import images  # noqa: PLC0415 - the other commands work without it

        images.bring(chosen.images or list(IMAGES), _running(chosen.name))
    return 0


def _prepare(names: Sequence[str]) -> None:
    from devcluster import images  # noqa: PLC0415 - the other commands work without it

    need_room(images.missing_bytes(names) + toolchain.missing_bytes(), "building the cluster's programs and images")
    ensure_packages(NODE_PACKAGES)
    # Images wait for downloads, programs for the compiler: side by side they take little longer than the slower one.
    with ThreadPoolExecutor(max_workers=2) as pool:
        built, programs = pool.submit(images.build, names), pool.submit(toolchain.ensure)
    built.result()
    programs.result()


def _running(name: str) -> Node:
    node = find(name, toolchain.ensure())
    if node is None:
        raise ClusterError(f"node {name!r} does not run: start it with `make cluster`")
    return node


def _status(name: str) -> int:
    states = known()
    for state in states:
        alive = find(state.name, toolchain.ensure(["kubectl"])) is not None
        print(f"{state.name}: {'runs' if alive else 'is dead: take it down'} ({state.kubeconfig})")
    if not any(state.name == name for state in states):
        print(f"{name}: does not run")
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run; errors that a user can act on are one message, never a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        from devcluster import demo  # noqa: PLC0415 - the other commands work without it

        return demo.main(arguments[1:])
    try:
        return run(parser().parse_args(arguments))
    except (ClusterError, ArchiveError, NoRoomError, toolchain.BuildError, ValueError) as error:
        print(f"devcluster: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"devcluster: {error}\n{error.stderr or ''}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
