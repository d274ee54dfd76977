"""Connector types: what a connection of each may say, and how a connector is made from it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from jobplatform.connectors.source import Connector
from jobplatform.errors import Problem

if TYPE_CHECKING:
    from jobplatform.connectors.opening import Opening

Config = Mapping[str, Any]


def _nowhere(_config: Config) -> str | None:
    return None


@dataclass(frozen=True)
class OAuth:
    """How somebody's consent is asked for: where, and for which scopes. ``also`` are further parameters of the
    question. A provider that does not know PKCE does not mind it. ``counts_by_application``: its limits are not an
    account's but the application's, and so they are shared by every workspace that has consented to ours."""

    authorize_url: Callable[[Config], str]
    scopes: Callable[[Config], Sequence[str]]
    separator: str = " "
    also: Mapping[str, str] = field(default_factory=dict)
    counts_by_application: bool = False


@dataclass(frozen=True)
class ConnectorType:
    """A kind of source.

    ``open`` makes a connector, which is used inside ``with``. ``config`` is the schema of a connection's configuration
    and ``credentials`` has one for each scheme that it takes. ``check`` tells what a schema cannot know, as problems
    with paths below the configuration. ``asks`` says to which origin (``https://crm.example.com``) the credentials of
    a configuration are sent: what was given for one is never sent to another. ``token_url`` is where OAuth2 tokens
    are refreshed, unless the credentials say so themselves; with ``oauth`` people can consent, and codes are changed
    into tokens there.
    """

    open: Callable[[Opening], Connector]
    config: type[Schema]
    credentials: Mapping[str, type[Schema]] = field(default_factory=dict)
    needs_credentials: bool = False
    check: Callable[[Config, bool], Iterable[Problem]] | None = None
    asks: Callable[[Config], str | None] = _nowhere
    token_url: Callable[[Config], str | None] = _nowhere
    oauth: OAuth | None = None


#: By name: a connection's ``connector_type`` is one of these.
CONNECTORS: dict[str, ConnectorType] = {}


def unknown_type(name: str) -> str:
    """Words for a type that there is not, with the nearest that there is."""
    near = difflib.get_close_matches(name, CONNECTORS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(CONNECTORS))}"
    return f"there is no connector type {name!r}; {hint}"
