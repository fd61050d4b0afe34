"""The hub's stub as a script of its own, as it runs in a pod: standard library only, told what to do over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests import faulty_hub
from tests.unit.modeltools.tool import REPOSITORY
from tests.waiting import eventually

SHARD = f"{REPOSITORY}/model-00001-of-00002.safetensors"


def ask(url: str, content: object = None, **headers: str) -> Any:
    data = None if content is None else json.dumps(content).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return answer.read()


def test_it_runs_alone_and_takes_orders(model_root: Path) -> None:
    command = [sys.executable, "-I", "-S", str(faulty_hub.__file__), "--root", str(model_root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://{server.stdout.readline().split()[-1]}"
            size = (model_root / SHARD).stat().st_size
            path = f"{url}/{REPOSITORY}/resolve/main/{SHARD.rpartition('/')[2]}"
            assert ask(path) == (model_root / SHARD).read_bytes()
            assert ask(path, Range=f"bytes={size - 10}-") == (model_root / SHARD).read_bytes()[-10:]
            # What was sent is counted when it was handed over; the client may have read it by then.
            eventually(lambda: json.loads(ask(f"{url}/_control/state"))["sent"] == {SHARD: size + 10})
            ask(f"{url}/_control/faults", [{"kind": "status", "match": "api/*", "status": 429, "times": 1}])
            with pytest.raises(urllib.error.HTTPError, match="429"):
                ask(f"{url}/api/models/{REPOSITORY}")
            assert json.loads(ask(f"{url}/api/models/{REPOSITORY}"))["id"] == REPOSITORY
            ask(f"{url}/_control/reset", {})
            assert json.loads(ask(f"{url}/_control/state")) == {"sent": {}, "requests": []}
        finally:
            server.terminate()
