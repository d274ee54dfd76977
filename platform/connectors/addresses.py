"""Which addresses a connector may talk to.

A workspace chooses its own URLs, so an unchecked one would let it reach whatever the worker can: the metadata
service of a cloud, the database's host, an unprotected dashboard.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from jobplatform.errors import SourceError


def check_public_url(url: str, *, allow_private: bool) -> None:
    """Raise :class:`SourceError` unless every address of the URL's host is a public one.

    The name is resolved here and again by the HTTP client, so this stops mistakes and simple misuse; it does not
    stop somebody who controls the name's DNS server and changes its answer in between.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(f"{url!r} is not an http or https URL")
    if allow_private:
        return
    refused = [str(address) for address in _resolve(parts.hostname) if not address.is_global]
    if refused:
        raise SourceError(
            f"{parts.hostname} is {', '.join(refused)}, which is not a public address; "
            "in development it can be allowed with JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true"
        )


def _resolve(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(f"the host {host!r} cannot be found: {error}") from error
    texts = sorted({str(entry[4][0]).split("%")[0] for entry in found})
    return [_unmapped(ipaddress.ip_address(text)) for text in texts]


def _unmapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """``::ffff:127.0.0.1`` is 127.0.0.1 by another name."""
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
