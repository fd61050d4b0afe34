"""The process that operators are forked from.

What runs is `llm_operator.__main__.main`, with its own arguments, environment, log and process; only the imports are
shared. The program reads one order a line from its standard input and tells of every start and every end:

    {"id": 1, "argv": [...], "env": {...}, "log": "/path"}    ->    {"id": 1, "pid": 4711}, {"id": 1, "code": 0}

A negative code is the signal that ended the process. All of them end with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import sys
import traceback
from typing import Any

from llm_operator.__main__ import main

PR_SET_PDEATHSIG = 1


def run(order: dict[str, Any]) -> None:
    """Become the operator."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(order["env"])
    target = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, source in ((0, nothing), (1, target), (2, target)):
        os.dup2(source, descriptor)
    code = 0
    try:
        main(order["argv"])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Read orders until there are no more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    numbers: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(reader, selectors.EVENT_READ)
        pending = b""
        while True:
            for key, _ in selector.select():
                if key.fd == reader:
                    os.read(reader, 4096)
                    continue
                piece = os.read(sys.stdin.fileno(), 1 << 16)
                if not piece:
                    return
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        run(order)
                    numbers[pid] = order["id"]
                    print(json.dumps({"id": order["id"], "pid": pid}), flush=True)
            while numbers:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                print(json.dumps({"id": numbers.pop(pid), "code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
