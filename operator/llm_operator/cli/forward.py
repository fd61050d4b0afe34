"""A port of a pod as a socket of this process: the API server's port-forward over WebSocket, with no open port.

Unlike the API server's proxy it passes every header on, also Authorization.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import websocket
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from llm_operator.cli.cluster import MOST_CONNECTIONS, Cluster, RequestRefusedError, refusal_text
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.threads import Worker

PROTOCOL = "v4.channel.k8s.io"
"""Channel 0 of a port holds its bytes, channel 1 an error; the first message of each is the port (kubelet,
pkg/kubelet/streaming/portforward/websocket.go; Kubernetes 1.36)."""
_DATA, _ERROR = 0, 1
CONNECT_SECONDS = 10
PIECE_BYTES = 1 << 15
ERROR_BYTES = 4096


class Forward:
    """One TCP connection to a port of a pod.

    Attributes:
        socket: this end of it.
        problem: what the kubelet said of the connection's end; empty: nothing.
    """

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: int) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
        self._remote = _connected(cluster, path, f"forward port {port} of pod {pod}")
        self.problem = ""
        self.socket, self._local = socket.socketpair()
        Worker(self._pump, f"forward-{pod}")

    def _pump(self) -> None:
        """Carry bytes both ways until one end closes; one thread, as an SSL connection wants it."""
        opened = set[int]()
        remote: Any = self._remote.sock
        try:
            while True:
                ready = [remote] if _buffered(remote) else []
                if not ready:
                    ready, _, _ = select.select([remote, self._local], [], [])
                if remote in ready and not self._from_remote(opened):
                    return
                if self._local in ready:
                    data = self._local.recv(PIECE_BYTES)
                    if not data:
                        return
                    self._remote.send_binary(bytes([_DATA]) + data)
        except (OSError, ValueError, websocket.WebSocketException):
            return  # either end is gone, which the other one notices
        finally:
            self._local.close()
            self._remote.close(timeout=1)

    def _from_remote(self, opened: set[int]) -> bool:
        """Pass one message on; whether there may be more."""
        kind, message = self._remote.recv_data()
        if kind == websocket.ABNF.OPCODE_CLOSE or not message:
            return kind not in (websocket.ABNF.OPCODE_CLOSE, websocket.ABNF.OPCODE_BINARY)
        channel, content = message[0], message[1:]
        if channel not in opened:
            opened.add(channel)
        elif channel == _DATA:
            self._local.sendall(content)
        elif channel == _ERROR and content:
            self.problem = content[:ERROR_BYTES].decode(errors="replace").strip()
            return False
        return True


def _buffered(connection: Any) -> bool:
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0


def _connected(cluster: Cluster, path: str, what: str) -> websocket.WebSocket:
    access = cluster.access
    scheme, _, rest = access.server.partition("://")
    secure = scheme == "https"
    options: dict[str, Any] = {"http_no_proxy": ["*"]}
    if cluster.proxy:
        proxy = urlsplit(cluster.proxy)
        pair = (proxy.username, proxy.password or "") if proxy.username else None
        options = {
            **{"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port or 80, "proxy_type": "http"},
            **({"http_proxy_auth": pair} if pair else {}),
        }
    if secure:
        name = {"server_hostname": access.server_name} if access.server_name else {}
        options["sslopt"] = {"context": access.tls, **name}
    try:
        made = websocket.create_connection(
            f"{'wss' if secure else 'ws'}://{rest}{path}",
            timeout=CONNECT_SECONDS,
            header=[f"{name}: {value}" for name, value in access.headers.items()],
            subprotocols=[PROTOCOL],
            suppress_origin=True,
            **options,
        )
    except websocket.WebSocketBadStatusException as error:
        said = refusal_text((error.resp_body or b"")[:ERROR_BYTES].decode(errors="replace"))
        raise RequestRefusedError(what, error.status_code, said) from None
    except (OSError, websocket.WebSocketException) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInputError([f"cannot {what} through the API server {access.server}: {reason}"]) from None
    made.settimeout(None)
    return made


class ForwardedPool(HTTPConnectionPool):
    """Kept HTTP connections to a port of some pods; new ones go to each pod in turn."""

    def __init__(self, cluster: Cluster, namespace: str, targets: Sequence[tuple[str, int]]) -> None:
        """Targets are names of pods, and the port of each."""
        turn = itertools.cycle(targets)
        lock = threading.Lock()
        self.last: Forward | None = None

        def connected() -> socket.socket:
            with lock:
                pod, port = next(turn)
            self.last = Forward(cluster, namespace, pod, port)
            return self.last.socket

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return connected()

        self.ConnectionCls = Connection
        super().__init__("engine", maxsize=MOST_CONNECTIONS, retries=False)
