"""Whom a request comes from when there is a proxy in between: as the proxy says, if it is one that we trust."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from jobplatform.settings import Network

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class BehindProxies:
    """Has an application see the client's address, scheme and host where ``proxies`` pass them on.

    Anybody can send such headers, so nobody else's count.
    """

    def __init__(self, app: WSGIApplication, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        app = self._app
        if self._trusts(environ.get("REMOTE_ADDR", "")):
            hops = self._hops(environ.get("HTTP_X_FORWARDED_FOR", ""))
            app = ProxyFix(app, x_for=hops, x_proto=1, x_host=1)
        return app(environ, start_response)

    def _hops(self, forwarded_for: str) -> int:
        """The client is the last address that is none of our proxies; what stands before it is only what it says."""
        addresses = [address.strip() for address in forwarded_for.split(",")]
        hops = 1
        while hops < len(addresses) and self._trusts(addresses[-hops]):
            hops += 1
        return hops

    def _trusts(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        # As a socket that listens on all addresses of both kinds has it.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)
