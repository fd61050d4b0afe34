"""What the operator trusts, and what it is known by, is rotated in flight; an etcd is restored from an earlier copy."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from devcluster.client import ApiError
from devcluster.pki import make_pki
from tests.cluster.helpers import Space
from tests.faults.conftest import Result
from tests.faults.proxy import Answer, Exchange, status_answer
from tests.faults.state import snapshot, without_revisions
from tests.faults.world import Case, TrustFiles, World
from tests.support.chart import NAMESPACE
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
RELIST = ("--no-leader-elect", "--no-gpu-inventory", "--relist-seconds", "5")
LEADING = ("--no-gpu-inventory", "--lease-name", "llm-llm-operator", "--lease-namespace", NAMESPACE)


def certificate(folder: Path, of: ssl.SSLContext) -> Path:
    """Have a server present a certificate of a new authority from now on; the authority's own certificate."""
    make_pki(folder, ["IP:127.0.0.1"])
    of.load_cert_chain(folder / "api.crt", folder / "api.key")
    return folder / "ca.crt"


@pytest.mark.parametrize("arguments", [RELIST, pytest.param(LEADING, marks=pytest.mark.long)], ids=["alone", "leads"])
def test_certificates_and_token_are_rotated(
    world: World,
    tmp_path: Path,
    arguments: tuple[str, ...],
    measured: Callable[[str, str], AbstractContextManager[Result]],
) -> None:
    """The authority's file is changed later than the server; the election's client is another one."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trusted, token = tmp_path / "ca.crt", tmp_path / "token"
    shutil.copy(certificate(tmp_path / "one", tls), trusted)
    token.write_text(world.token)
    with (
        measured("certificates and token rotated", "rotations") as result,
        Case(world, "rotated", arguments=arguments, files=TrustFiles(tls, trusted, token)) as case,
    ):
        case.space.create(llm("before"))
        eventually(lambda: case.space.is_ready("before"), why="served")
        second = certificate(tmp_path / "two", tls)
        case.proxy.disconnect()
        case.space.create(llm("meanwhile"))
        shutil.copy(second, trusted)
        eventually(lambda: case.space.is_ready("meanwhile"), seconds=60, why=lambda: case.log.read_text()[-3000:])
        result.count += 1

        rotated = world.new_token()
        valid = world.token

        def rule(exchange: Exchange) -> Answer | None:
            return None if exchange.authorization == f"Bearer {valid}" else status_answer(401, "Unauthorized")

        valid = rotated
        case.proxy.rule = rule
        case.proxy.disconnect()
        case.space.create(llm("after"))
        token.write_text(rotated)
        eventually(lambda: case.space.is_ready("after"), seconds=60, why=lambda: case.log.read_text()[-3000:])
        result.count += 1
        wrong = case.complaints() or case.quiet(within=30)
        result.failures += [wrong] if wrong else []


@pytest.mark.long
def test_an_etcd_is_restored(tmp_path: Path, measured: Callable[[str, str], AbstractContextManager[Result]]) -> None:
    """What was made after the copy is gone, versions are lower, and objects that were deleted are back."""
    with (
        measured("etcd restored from an earlier copy", "restores") as result,
        World(tmp_path, nodes=2) as world,
        Case(world, "restored", arguments=RELIST) as case,
    ):
        for name in ("stays", "changes", "goes"):
            case.space.create(llm(name, contextLength=1024))
        expected = without_revisions(case.rest(lambda space: all(map(space.is_ready, ("stays", "changes", "goes")))))
        copy = world.plane.copy_of_etcd(tmp_path / "copy")
        _history_after_the_copy(case.space)
        eventually(lambda: case.space.is_ready("later"), why="served")
        world.plane.restore_etcd(copy)
        eventually(lambda: _readable(case.space), why="the API server has its objects again")
        result.count = 1
        wrong = case.settle(expected, seconds=90, reduced=without_revisions) or case.complaints()
        case.space.patch("stays", {"spec": {"contextLength": 4096}})
        changed = lambda: "4096" in str(case.space.get("Deployment", "stays"))  # noqa: E731
        eventually(changed, seconds=60, why="it goes on watching")
        wrong = wrong or case.quiet(within=60)
        result.failures += [f"{wrong}\n{case.log.read_text()[-3000:]}"] if wrong else []


def _readable(space: Space) -> bool:
    try:
        return bool(snapshot(space))
    except ApiError:
        return False  # 429: storage is (re)initializing


def _history_after_the_copy(space: Space) -> None:
    space.patch("changes", {"spec": {"contextLength": 2048}})
    space.delete("LLMDeployment", "goes")
    space.create(llm("later"))
    for number in range(30):
        # The versions of the copy are to be lower by far.
        space.patch("stays", {"metadata": {"labels": {"number": str(number)}}})
