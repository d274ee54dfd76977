"""Which addresses may be asked on behalf of a workspace. Does no input or output.

A workspace chooses its own URLs, so an unchecked one would let it reach whatever the worker can: the metadata service
of a cloud, the database's host, an unprotected dashboard. What counts is the address that is really connected to, and
that is judged in one place, just before (:mod:`jobplatform.connectors.outside`); here is the judgement, and what is
wrong with a URL before anybody looks at its host.
"""

from __future__ import annotations

import ipaddress

import httpx

from jobplatform.errors import AddressRefusedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Written down rather than left to ``is_global``, which changes with the version of Python and allows some of these.
NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; some systems take it for loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers; a cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's wire server, on a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays to IPv6
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: Whatever is not in here is no public IPv6 address: loopback, link-local and unique-local ones, multicast, IPv4 mapped
#: or compatible (``::ffff:127.0.0.1``) and IPv4 behind NAT64 (``64:ff9b::7f00:1``).
PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which holds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation
    )
)


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could ask this address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_4)
    return address.scope_id is None and address in PUBLIC_6 and not any(address in network for network in NOT_PUBLIC_6)


def check_url(url: str, *, allow_private: bool) -> httpx.URL:
    """The URL as the client reads it. Raises :class:`AddressRefusedError` for one that is never to be asked.

    Nothing is resolved here: that the host is public is seen when it is connected to.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # Read here: it may be no name at all.
    except (httpx.InvalidURL, UnicodeError, TypeError) as error:
        raise AddressRefusedError(f"{url!r} is not an http or https URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not host:
        raise AddressRefusedError(f"{url!r} is not an http or https URL with a host")
    if parsed.userinfo:
        # Not repeated: it may be somebody's password.
        raise AddressRefusedError(f"the URL for {host} has a user or password in it; give them as a header")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise AddressRefusedError(f"{parsed.port} is not a port")
    if parsed.scheme == "http" and not allow_private:
        raise AddressRefusedError(
            f"{host} would be asked without encryption; use https "
            "(in development http is allowed with JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true)"
        )
    return parsed
