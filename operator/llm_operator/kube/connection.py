"""How to reach the API server: one set of credentials for every client here, read anew when they change.

Nothing here waits in the event loop. Files are looked at now and then; what has changed, has expired or was refused is
read again in a thread, and a credential plugin that hangs there holds up no one. Until the new credentials are there,
the old ones are used.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from llm_operator import kubeconfig
from llm_operator.kube import tasks
from llm_operator.kubeconfig import Access, KubeconfigError

log = logging.getLogger("llm_operator.connection")

PLUGIN_SECONDS = 20.0
"""For a credential plugin; the process must be able to end within the kubelet's 30 s."""
LOOK_SECONDS = 1.0
"""Between two looks at the files: a Lease must be renewed within ten seconds, also after a rotation."""
AGAIN_SECONDS = 10.0
"""Least time between two readings that no change of a file caused."""
BEFORE_EXPIRY_SECONDS = 60.0
IMPERSONATION = "Impersonate-"


class NoClusterError(Exception):
    """Neither a pod's service account nor a kubeconfig says where the API server is."""


class _Context(ssl.SSLContext):
    """TLS by the settings of the moment at which a connection begins; clients keep their context for ever."""

    current: Callable[[], Access]

    def __new__(cls, current: Callable[[], Access]) -> _Context:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.current = current
        return context

    def __init__(self, current: Callable[[], Access]) -> None:
        """As ssl.SSLContext, which takes everything in __new__."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """What asyncio and uvloop begin TLS with."""
        access = self.current()
        context = access.tls or ssl.create_default_context()
        # Of an earlier context: a session is resumed in its own only.
        return context.wrap_bio(incoming, outgoing, server_side, access.server_name or server_hostname)


class Connection:
    """One API server and the credentials for it. May be used by several threads."""

    def __init__(self, read: Callable[[], Access]) -> None:
        """Read the credentials.

        Args:
            read: gives them as they are now.

        Raises:
            KubeconfigError: there are none.
        """
        self._read = read
        self._lock = threading.Lock()
        self._reading = False
        self._access, self._state = _checked(read()), ()
        self._state = _state(self._access)
        self._looked = self._tried = time.monotonic()
        self._tls = _Context(self._current)

    @property
    def server(self) -> str:
        """Base URL without a trailing slash."""
        return self._access.server

    @property
    def proxy(self) -> str | None:
        """URL of the HTTP proxy on the way, as the kubeconfig names it; None: there is none."""
        return self._access.proxy

    def authorization(self) -> str | None:
        """The Authorization header, as it is known now."""
        return self._current().headers.get("Authorization")

    def refused(self) -> None:
        """The API server does not know the credentials: they may have been rotated."""
        with self._lock:
            if time.monotonic() - self._tried >= AGAIN_SECONDS or _state(self._access) != self._state:
                self._begin()

    def ssl_context(self) -> ssl.SSLContext | bool:
        """TLS settings, which follow the files that they were read from."""
        return self._tls if self.server.startswith("https") else False

    def _current(self) -> Access:
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                expires = self._access.expires
                # The expiry is a time of day; the other times here are not.
                due = expires is not None and time.time() >= expires - BEFORE_EXPIRY_SECONDS
                if _state(self._access) != self._state or (due and now - self._tried >= AGAIN_SECONDS):
                    self._begin()
            return self._access

    def _begin(self) -> None:
        if not self._reading:
            self._reading, self._tried = True, time.monotonic()
            tasks.thread(self._read_again, "credentials")

    def _read_again(self) -> None:
        try:
            # Before they are read: what changes meanwhile is read once more.
            state = _state(self._access)
            access = _checked(self._read())
        except KubeconfigError as error:
            log.warning("the credentials for the API server could not be read again: %s", error)
            return
        else:
            with self._lock:
                self._access, self._state = access, state if access.files == self._access.files else _state(access)
        finally:
            with self._lock:
                self._reading = False


def _checked(access: Access) -> Access:
    if any(name.startswith(IMPERSONATION) for name in access.headers):
        raise KubeconfigError(["the kubeconfig impersonates somebody (`as`), which the operator does not support"])
    return access


def _state(access: Access) -> tuple[Any, ...]:
    """What changes with the files."""
    found: list[Any] = []
    for path in access.files:
        try:
            stat = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def load() -> Connection:
    """Take the pod's service account, else the kubeconfig's current context.

    Raises:
        NoClusterError: neither is there, or it cannot be used; the message says why.
    """
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        return Connection(kubeconfig.own if in_pod else lambda: kubeconfig.load(None, None, PLUGIN_SECONDS))
    except KubeconfigError as error:
        raise NoClusterError(f"no cluster to talk to: {error}; run in a pod or set KUBECONFIG") from error
