"""First process of a node's namespaces: prepares mounts and network, starts the programs, ends when one of them ends.

Run as `python -I node_inside.py <spec.json>` by `devcluster.node` through unshare(1); needs nothing but the standard
library. When this process ends, in whatever way, the kernel ends everything in the namespaces.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

# What the kubelet wants (pkg/kubelet/cm, setupKernelTunables, 1.36) and would otherwise write into the host's kernel.
# It reads before it writes, so showing it the wanted values keeps the host's own.
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

LINK_TIMEOUT = 30.0
"""Seconds until a node whose tool died before it made the network gives up."""

API_TIMEOUT = 120.0
"""Seconds until an API server that does not get ready ends the node."""

BEFORE_API = ("containerd", "etcd", "kube-apiserver")
"""Programs that start at once; the others start when the API server is ready and need not retry."""


def say(text: str) -> None:
    """Write a line with the time to the node's log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def wait_for(what: str, condition: Callable[[], bool], timeout: float) -> None:
    """Poll until the condition holds; end the node after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            say(f"fatal: waited {timeout:.0f} s for {what}")
            sys.exit(1)
        time.sleep(0.05)


def run(*command: str) -> None:
    """Run a command to its end; its failure ends the node."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def mounts(cache: str) -> None:
    """Give the node its own /run, /var/log and /var/lib and the kernel settings that the kubelet wants to see."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/log")
    for folder in ("/run/lock", "/run/var/upper", "/run/var/work", "/run/sysctl", "/run/cache"):
        os.makedirs(folder)
    run("mount", "--bind", cache, "/run/cache")
    # The kubelet and CNI plugins make folders in /var/lib; in this overlay they are gone with the node.
    run(
        "mount",
        "-t",
        "overlay",
        "-o",
        "lowerdir=/var/lib,upperdir=/run/var/upper,workdir=/run/var/work",
        "o",
        "/var/lib",
    )
    if Path(cache).is_relative_to("/var/lib"):
        run("mount", "--bind", "/run/cache", cache)
    for name, value in KUBELET_SYSCTLS.items():
        if os.path.exists(f"/proc/sys/{name}"):
            file = f"/run/sysctl/{name.replace('/', '.')}"
            Path(file).write_text(value + "\n")
            run("mount", "--bind", file, f"/proc/sys/{name}")


def network(host_ip: str, node_ip: str) -> None:
    """Set up the loopback and the link to the host; every setting belongs to this network namespace."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", f"{node_ip}/30", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", host_ip)
    for name, value in {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}.items():
        setting = Path("/proc/sys", name)
        if setting.exists():
            setting.write_text(value)
        else:
            say(f"no {name}: is the kernel module br_netfilter there?")


def api_ready() -> bool:
    """Tell whether the API server says that it is ready."""
    # This process has just started it and is alone in its network namespace: no one else can answer here.
    context = ssl._create_unverified_context()
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open("https://127.0.0.1:6443/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def start(name: str, command: list[str], logs: str, environment: dict[str, str]) -> int:
    """Start a program with its own log; returns its process id."""
    with open(f"{logs}/{name}.log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    say(f"started {name}")
    return process.pid


def stop(_signal: int, _frame: FrameType | None) -> None:
    """End the node on SIGTERM: a first process without a handler ignores it."""
    say("told to stop")
    os._exit(0)


def reap(programs: dict[int, str], *, block: bool) -> bool:
    """Collect what has ended, also what others left behind; True when one of the node's own programs did."""
    while True:
        pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        if pid == 0:
            return False
        if pid in programs:
            say(f"fatal: {programs[pid]} ended ({os.waitstatus_to_exitcode(status)}); see its log")
            return True


def main(spec: dict[str, Any]) -> int:
    """Run the node described by `spec` (written by `devcluster.node`); the exit status."""
    signal.signal(signal.SIGTERM, stop)
    say("waiting for the link")
    wait_for("the link to the host", lambda: "eth0" in [name for _, name in socket.if_nameindex()], LINK_TIMEOUT)
    socket.sethostname(spec["hostname"])
    mounts(spec["cache"])
    network(spec["host_ip"], spec["node_ip"])
    programs: dict[int, str] = {}
    for name in [*BEFORE_API, *(name for name in spec["programs"] if name not in BEFORE_API)]:
        if name not in BEFORE_API and len(programs) == len(BEFORE_API):
            wait_for("the API server", lambda: reap(programs, block=False) or api_ready(), API_TIMEOUT)
            say("API server ready")
        programs[start(name, spec["programs"][name], spec["logs"], spec["environment"])] = name
    say("everything started")
    reap(programs, block=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
