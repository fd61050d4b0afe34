"""Adds certificates to the public roots, as one file for every client: `trust.py OUTPUT (WHAT FILE)...`.

Needs the standard library only: it also runs as `python3 -c` in the images of the engines. Clients of TLS take one
file each and replace their own roots with it (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE): it has to hold both.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What OpenSSL, Python's ssl, httpx and Go read; requests; curl."""
REASON = "CABundleUnusable"
SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Red Hat
    "/etc/ssl/cert.pem",
)
MOST_BYTES = 4 << 20
"""Of one bundle; a ConfigMap holds 1 MiB."""


class BundleError(Exception):
    """What is wrong with a bundle, in a sentence."""


def public_roots() -> list[Path]:
    """The files with public roots that this image has: those of its Python packages and of the system."""
    found = [Path(path) for path in (ssl.get_default_verify_paths().openssl_cafile, *SYSTEM) if path]
    try:
        import certifi  # noqa: PLC0415 - not every image has it
    except ImportError:
        pass
    else:
        found.insert(0, Path(certifi.where()))
    return [path for path in dict.fromkeys(found) if path.is_file()]


def checked(what: str, path: Path) -> str:
    """The text of a bundle.

    Raises:
        BundleError: it is missing, too large, or holds no certificate.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{what} cannot be read ({error.strerror}): create it, or name another one") from error
    if len(content) > MOST_BYTES:
        raise BundleError(f"{what} has more than {MOST_BYTES >> 20} MiB")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        text = content.decode("utf-8")
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise BundleError(f"{what} holds no certificates in PEM: {error}") from error
    if not context.cert_store_stats()["x509"]:
        raise BundleError(f"{what} holds no certificates in PEM")
    return text


def write(output: Path, bundles: Sequence[tuple[str, Path]]) -> None:
    """Write the public roots and the bundles into one file.

    Args:
        output: the file; its folder is there.
        bundles: what each is called in a message, and its file.

    Raises:
        BundleError: a bundle cannot be used, or there are no public roots.
    """
    own = [checked(what, path) for what, path in bundles]
    roots = [path.read_text(encoding="utf-8", errors="replace") for path in public_roots()]
    if not roots:
        raise BundleError("this image has no public roots: neither certifi nor a file of the system")
    output.write_text("\n".join([*roots, *own]) + "\n", encoding="utf-8")
    output.chmod(0o644)


def main(words: Sequence[str]) -> int:
    """Write the file; what is wrong becomes the container's termination message, as a result of the model tools."""
    try:
        write(Path(words[0]), [(what, Path(path)) for what, path in zip(words[1::2], words[2::2], strict=True)])
    except (BundleError, OSError) as error:
        text = json.dumps({"ok": False, "reason": REASON, "message": str(error)[:1024], "retry": False})
        sys.stderr.write(f"{text}\n")
        with contextlib.suppress(OSError):
            Path(os.environ.get("LLM_TERMINATION_LOG", "/dev/termination-log")).write_text(text, encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
