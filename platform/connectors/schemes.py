"""The ways in which HTTP sources know their callers, and what each has to be given. Does no input or output."""

from __future__ import annotations

import re
from collections.abc import Mapping

from marshmallow import Schema, ValidationError, fields, validate

from jobplatform.connectors.schemas import ConfigSchema

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_VISIBLE = re.compile(r"[\x20-\x7e]*\Z")
LONGEST_SECRET = 8192

_some = validate.Length(1, LONGEST_SECRET)


def _visible(value: str) -> None:
    """What is sent as a header must not be able to end it."""
    if not _VISIBLE.match(value) or value != value.strip():
        raise ValidationError("Must be printable ASCII, without spaces around it.")


def _header_name(value: str) -> None:
    if not _TOKEN.match(value) or value.lower() in ("host", "content-length", "transfer-encoding", "connection"):
        raise ValidationError("Must be the name of a header that may be set.")


class BearerCredentials(ConfigSchema):
    """``Authorization: Bearer <token>``."""

    token = fields.String(required=True, validate=[_some, _visible])


class BasicCredentials(ConfigSchema):
    """A user name and a password, as HTTP has them."""

    username = fields.String(required=True, validate=validate.Length(max=LONGEST_SECRET))
    password = fields.String(required=True, validate=validate.Length(max=LONGEST_SECRET))


class HeaderCredentials(ConfigSchema):
    """A header of this name with this value."""

    name = fields.String(required=True, validate=_header_name)
    value = fields.String(required=True, validate=[_some, _visible])


class QueryCredentials(ConfigSchema):
    """A parameter of this name with this value in every URL."""

    name = fields.String(required=True, validate=validate.Length(1, 100))
    value = fields.String(required=True, validate=_some)


class GrantCredentials(ConfigSchema):
    """An OAuth2 client and its refresh token. Access tokens are got with them; one that is there already may be
    given, to be used as long as it is accepted."""

    client_id = fields.String(required=True, validate=_some)
    client_secret = fields.String(required=True, validate=_some)
    refresh_token = fields.String(required=True, validate=_some)
    access_token = fields.String(validate=[_some, _visible])


class OAuth2Credentials(GrantCredentials):
    """The same, where tokens are refreshed, and whether the client is named in the form or in a header there."""

    token_url = fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    client_authentication = fields.String(validate=validate.OneOf(("body", "header")))


HTTP_SCHEMES: Mapping[str, type[Schema]] = {
    "bearer": BearerCredentials,
    "basic": BasicCredentials,
    "header": HeaderCredentials,
    "query": QueryCredentials,
    "oauth2": OAuth2Credentials,
}
