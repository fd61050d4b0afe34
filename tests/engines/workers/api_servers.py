"""Several API servers of vLLM, as `vllm serve --api-server-count N` starts them, without an engine. For tests.

    api_servers.py PORT COUNT

Real: the parser, the socket, the manager that spawns the servers, the launcher, uvicorn. Replaced: the application,
which needs an engine, and watchfiles, which the environment lacks and only TLS needs. Each server says when it runs.
"""

import json
import os
import sys
from typing import Any
from unittest.mock import MagicMock

os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

sys.modules["watchfiles"] = MagicMock()

from vllm import platforms  # noqa: E402
from vllm.platforms.cpu import CpuPlatform  # noqa: E402

platforms._current_platform = CpuPlatform()

from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args  # noqa: E402
from vllm.entrypoints.launchers.launcher import serve_http, setup_server  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402
from vllm.v1.utils import APIServerProcessManager  # noqa: E402


class NoListener:
    """In the place of the socket to an engine."""

    address, socket = "ipc:///none", None

    def close(self) -> None:
        """Nothing is open."""

    def cleanup(self) -> None:
        """Nothing is left."""


async def serving(sock: Any, args: Any, loads: Any) -> None:
    """As vllm.entrypoints.launchers.api_server.entry.build_and_serve; its routes only say that they were reached."""
    from fastapi import FastAPI  # noqa: PLC0415

    app = FastAPI(openapi_url=None)
    app.state.engine_client = None

    @app.api_route("/{path:path}", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    async def anything(path: str) -> dict[str, Any]:
        return {"reached": path, "server": loads[1]}

    await (await serve_http(app, sock, peer_loads=loads, host=args.host, port=args.port, log_level="error"))


def server(listen_address: str, sock: Any, args: Any, client_config: Any = None) -> None:
    """One API server."""
    import uvicorn  # noqa: PLC0415 - in the process that serves
    import uvloop  # noqa: PLC0415

    print(json.dumps({"server": client_config["client_index"], "load": uvicorn.Config.load.__name__}), flush=True)
    uvloop.run(serving(sock, args, (client_config["api_server_loads"], client_config["client_index"])))


def main() -> None:
    """Start the servers, and wait for them."""
    parser = FlexibleArgumentParser(prog="vllm")
    serve = parser.add_subparsers(dest="subparser").add_parser("serve")
    make_arg_parser(serve)
    words = ["serve", "org/model", "--host", "127.0.0.1", "--port", sys.argv[1], "--api-server-count", sys.argv[2]]
    args = parser.parse_args(words)
    validate_parsed_serve_args(args)
    count = args.api_server_count
    address, sock = setup_server(args, reuse_port=True)
    listeners = [[NoListener() for _ in range(count)] for _ in range(2)]
    manager = APIServerProcessManager(address, sock, args, count, *listeners, target_server_fn=server)
    for process in manager.processes:
        process.join()


if __name__ == "__main__":
    main()
