"""Where a server of ours listens: on the port that was asked for, or, when nobody asked for one, on another if need
be."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobplatform.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def address_options(command: Command) -> Command:
    """``--host`` and ``--port`` of the API."""
    host = click.option("--host", help="Default: JOBPLATFORM_HOST, or 127.0.0.1.")
    port = click.option("--port", type=click.IntRange(0, 65_535), help="Default: JOBPLATFORM_PORT, or 8080.")
    return host(port(command))


def listen(settings: Settings, host: str | None = None, port: int | None = None) -> socket.socket:
    """A listening socket. Handed to the server as it is, so that nobody can take the port between our look and its
    start.

    A port that was asked for, here or in the environment, is taken or refused. Where nobody asked, a free one takes
    the place of the usual one, and that is said.
    """
    host = host or settings.host
    wanted = settings.port if port is None else port
    try:
        return _listen(host, wanted)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or port is not None or "JOBPLATFORM_PORT" in os.environ:
            raise cannot_listen(host, wanted, error) from error
    try:
        listening = _listen(host, 0)
    except OSError as error:
        raise cannot_listen(host, 0, error) from error
    click.echo(
        f"port {wanted} is taken (`{who_listens(wanted)}` says by whom), so the API gets port "
        f"{listening.getsockname()[1]}; choose one with --port or JOBPLATFORM_PORT"
    )
    return listening


def free_address(settings: Settings, host: str | None = None, port: int | None = None) -> str:
    """Where nobody listens yet, for gunicorn. It would try for five seconds, and not know what can be said instead."""
    host = host or settings.host
    wanted = settings.port if port is None else port
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise cannot_listen(host, wanted, error) from error
    return address_of(host, wanted)


def cannot_listen(host: str, port: int, error: OSError) -> click.ClickException:
    """What is in the way, and what to say instead."""
    who = f" (`{who_listens(port)}` says by whom)" if error.errno == errno.EADDRINUSE else ""
    # Python adds the address, which is said already.
    why, *_ = (error.strerror or str(error)).partition(" (while attempting to bind")
    return click.ClickException(
        f"cannot listen on {address_of(host, port)}: {why}{who}; "
        "say another --host or --port (JOBPLATFORM_HOST, JOBPLATFORM_PORT)"
    )


def address_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def who_listens(port: int) -> str:
    """The command that names the process."""
    return f"lsof -nP -iTCP:{port} -sTCP:LISTEN"


def _listen(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=_family(host))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
