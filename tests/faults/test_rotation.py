"""What the operator trusts, and what it is known by, is rotated in flight."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from devcluster.pki import make_pki
from tests.faults.conftest import Result
from tests.faults.proxy import Answer, Exchange, status_answer
from tests.faults.world import Case, TrustFiles, World
from tests.support.chart import NAMESPACE
from tests.support.objects import llm
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
LEADING = ("--no-gpu-inventory", "--lease-name", "llm-llm-operator", "--lease-namespace", NAMESPACE)


def certificate(folder: Path, of: ssl.SSLContext) -> Path:
    """Have a server present a certificate of a new authority from now on; the authority's own certificate."""
    make_pki(folder, ["IP:127.0.0.1"])
    of.load_cert_chain(folder / "api.crt", folder / "api.key")
    return folder / "ca.crt"


def test_certificates_and_token_are_rotated(
    world: World, tmp_path: Path, measured: Callable[[str, str], AbstractContextManager[Result]]
) -> None:
    """With the election, whose client is another one; the authority's file is changed later than the server."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trusted, token = tmp_path / "ca.crt", tmp_path / "token"
    shutil.copy(certificate(tmp_path / "one", tls), trusted)
    token.write_text(world.token)
    with (
        measured("certificates and token rotated", "rotations") as result,
        Case(world, "rotated", arguments=LEADING, files=TrustFiles(tls, trusted, token)) as case,
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
