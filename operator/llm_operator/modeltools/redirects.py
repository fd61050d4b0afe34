"""Where an answer of a hub may send its reader: to other hosts of the network, not into the machine that reads."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import httpx2

METADATA = frozenset(ipaddress.ip_address(one) for one in ("100.100.100.200", "fd00:ec2::254"))
"""Where clouds tell a machine its own secrets, besides the link-local 169.254.169.254 (Alibaba; AWS by IPv6)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_redirect(response: httpx2.Response) -> None:
    """Let pass an answer that may be followed, or does not redirect; a hook for a client's responses.

    Raises:
        httpx2.UnsupportedProtocol: it leads to another scheme than https (http, if the hub itself has only that), to an
            address that only this machine or its link knows, or nowhere.
    """
    if not response.has_redirect_location:
        return
    before, location = response.request.url, response.headers["Location"]
    try:
        why = _refusal(before, before.join(location))
    except (httpx2.InvalidURL, ValueError):
        why = "it is not a URL"
    if why:
        text = f"{before.host} redirected to {location[:200]!r}, which is not followed: {why}"
        raise httpx2.UnsupportedProtocol(text, request=response.request)


def _refusal(before: httpx2.URL, after: httpx2.URL) -> str:
    if after.scheme != "https" and (after.scheme, before.scheme) != ("http", "http"):
        return f"expected https, not {after.scheme[:20]}"
    if not after.host:
        return "it names no host"
    if after.host == before.host:
        return ""
    addresses = list(_addresses(after.host))
    if any(one.is_link_local or one.is_multicast or one in METADATA for one in addresses):
        return "that is an address of a link or of a cloud's metadata"
    # A hub behind a proxy on this machine may send its reader to another port of the same.
    if any(map(_is_own, addresses)) and not any(map(_is_own, _addresses(before.host))):
        return "that is an address of this machine"
    return ""


def _is_own(address: Address) -> bool:
    return address.is_loopback or address.is_unspecified


def _addresses(host: str) -> Iterable[Address]:
    """What a name stands for; nothing if only a proxy can say."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    for *_, place in found:
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        yield mapped or address
