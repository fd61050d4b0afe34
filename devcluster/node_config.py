"""The files and command lines of a node's programs. Pure: text from a NodeState and the directory of the binaries."""

import json
from pathlib import Path
from typing import Any

from devcluster.pause import PAUSE_IMAGE
from devcluster.state import NodeState

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
"""Inside the node /run is a tmpfs, so this path is the node's own however long the cache directory's path is."""

FAST = ("--kube-api-qps=500", "--kube-api-burst=1000")


def api_names(state: NodeState) -> list[str]:
    """Return the subject alternative names of the API server's certificate."""
    addresses = ["127.0.0.1", state.node_ip, state.api_service_ip]
    hosts = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", state.hostname]
    return [f"IP:{address}" for address in addresses] + [f"DNS:{host}" for host in hosts]


def files(state: NodeState) -> dict[str, str]:
    """Return the configuration files: path relative to the node's folder -> text."""
    return {
        "containerd.toml": _containerd(state),
        "cni/10-bridge.conflist": json.dumps(_cni(state)),
        "kubelet.json": json.dumps(_kubelet(state)),
        "kube-proxy.json": json.dumps(_kube_proxy(state)),
    }


def programs(state: NodeState, binaries: Path) -> dict[str, list[str]]:
    """Return the programs in the order of their start: name -> command line."""
    at, kubeconfig = state.path, f"--kubeconfig={state.kubeconfig}"
    local = ["--bind-address=127.0.0.1", "--leader-elect=false"]
    return {
        "containerd": [str(binaries / "containerd"), "-c", str(at / "containerd.toml")],
        "etcd": [
            str(binaries / "etcd"),
            f"--data-dir={at}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            # The data lives for one run: nothing is worth waiting for the disk.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        "kube-apiserver": [str(binaries / "kube-apiserver"), *_api_server(state)],
        "kube-controller-manager": [
            str(binaries / "kube-controller-manager"),
            kubeconfig,
            *local,
            *FAST,
            f"--service-account-private-key-file={at}/pki/sa.key",
            f"--root-ca-file={at}/pki/ca.crt",
            "--use-service-account-credentials",
            f"--cert-dir={at}/certs/controllers",
        ],
        "kube-scheduler": [
            str(binaries / "kube-scheduler"),
            kubeconfig,
            *local,
            *FAST,
            f"--cert-dir={at}/certs/scheduler",
        ],
        "kubelet": [
            str(binaries / "kubelet"),
            f"--config={at}/kubelet.json",
            kubeconfig,
            f"--root-dir={at}/kubelet",
            f"--cert-dir={at}/certs/kubelet",
            f"--hostname-override={state.hostname}",
            f"--node-ip={state.node_ip}",
        ],
        "kube-proxy": [str(binaries / "kube-proxy"), f"--config={at}/kube-proxy.json"],
    }


def _api_server(state: NodeState) -> list[str]:
    pki = state.path / "pki"
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        f"--advertise-address={state.node_ip}",
        f"--service-cluster-ip-range={state.service_cidr}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        f"--tls-cert-file={pki}/api.crt",
        f"--tls-private-key-file={pki}/api.key",
        f"--service-account-key-file={pki}/sa.key",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={pki}/tokens.csv",
        "--kubelet-preferred-address-types=InternalIP",
        f"--cert-dir={state.path}/certs/apiserver",
    ]


def _containerd(state: NodeState) -> str:
    at = state.path
    return f"""version = 3
root = '{at}/images'
state = '/run/containerd/state'
[grpc]
  address = '{CONTAINERD_SOCKET}'
[ttrpc]
  address = '{CONTAINERD_SOCKET}.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
  # The default, /opt/containerd, would be made on the host.
  path = '{at}/opt'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  # Lowering oom_score_adj needs CAP_SYS_RESOURCE, which root in a container or a small VM often lacks: runc then dies.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '{at}/cni'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _cni(state: NodeState) -> dict[str, Any]:
    ranges = {"dataDir": "/run/cni/ipam", "ranges": [[{"subnet": state.pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        # The host has a route to the pods: they keep their own addresses.
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", **ranges},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet(state: NodeState) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        # Only the host and the pods of this throw-away node can reach it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{state.cgroup}",
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": False,
        # Kubernetes 1.35 and newer refuse cgroup v1 otherwise.
        "failCgroupV1": False,
        # There is no cluster DNS. With a loopback address a look-up fails at once; with none every pod gets a warning
        # event, and with an address that no one has it waits for seconds.
        "clusterDNS": ["127.0.0.1"],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "podLogsDir": f"{state.path}/pod-logs",
        "volumePluginDir": f"{state.path}/kubelet/plugins-exec",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "imageServiceEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "nodeStatusUpdateFrequency": "5s",
    }


def _kube_proxy(state: NodeState) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(state.kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": state.pod_cidr,
        "hostnameOverride": state.hostname,
        # The table's size belongs to the host.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
