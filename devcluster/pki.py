"""Keys and certificates of a throw-away cluster, made with openssl."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

TOKEN = "admintoken"  # of a cluster that only this machine reaches
DAYS = "365"


def make_pki(folder: Path, names: Sequence[str]) -> None:
    """Write ca, api server certificate, service account key and the admin's token into a folder, unless they are there.

    Args:
        folder: made when missing.
        names: subject alternative names of the API server, such as IP:127.0.0.1 or DNS:kubernetes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "tokens.csv").exists():
        return
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", DAYS)
    _openssl(folder, "req", *curve, "-keyout", "api.key", "-out", "api.csr", "-subj", "/CN=kube-apiserver")
    (folder / "api.ext").write_text(f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth\n")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS, "-extfile", "api.ext"]
    _openssl(folder, "x509", "-req", "-in", "api.csr", "-out", "api.crt", *signing)
    _openssl(folder, "genrsa", "-out", "sa.key", "2048")
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin-uid,"system:masters"\n')


def write_kubeconfig(path: Path, server: str, ca: Path, token: str = TOKEN) -> Path:
    """A kubeconfig with one context."""
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "dev", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "admin"}}],
        "current-context": "dev",
    }
    path.write_text(yaml.safe_dump(body))
    return path


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
