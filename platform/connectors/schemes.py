"""The ways in which HTTP sources know their callers, and what each has to be given. Does no input or output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobplatform.connectors.schemas import ConfigSchema

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_VISIBLE = re.compile(r"[\x20-\x7e]*\Z")
#: As RFC 6749 has it.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,500}\Z")
LONGEST_SECRET = 8192
#: What is said to a provider's page of consent by the platform alone.
OF_OURS = (
    "response_type", "client_id", "client_secret", "redirect_uri", "scope", "state", "code_challenge",
    "code_challenge_method", "request", "request_uri", "response_mode",
)  # fmt: skip

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


class ClientCredentials(ConfigSchema):
    """An OAuth2 client. An access token that is there already may be given, to be used as long as it is accepted."""

    client_id = fields.String(required=True, validate=_some)
    client_secret = fields.String(required=True, validate=_some)
    access_token = fields.String(validate=[_some, _visible])


class GrantCredentials(ClientCredentials):
    """The same with its refresh token, by which access tokens are got."""

    refresh_token = fields.String(required=True, validate=_some)


class OAuth2Credentials(ClientCredentials):
    """A client, where its tokens are got, and whether it is named in the form or in a header there.

    With a refresh token; or with an ``authorizeUrl``, where somebody is sent to consent to these ``scopes``, which
    brings one. ``authorizeParameters`` are what the provider wants to be told there besides.
    """

    token_url = fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    client_authentication = fields.String(validate=validate.OneOf(("body", "header")))
    refresh_token = fields.String(validate=_some)
    authorize_url = fields.Url(schemes={"http", "https"}, require_tld=False)
    scopes = fields.List(
        fields.String(validate=validate.Regexp(_SCOPE, error="Must be a scope: printable ASCII without spaces.")),
        validate=validate.Length(max=50),
    )
    authorize_parameters = fields.Dict(
        keys=fields.String(validate=[validate.Length(1, 100), validate.NoneOf(OF_OURS, error="Is not yours to say.")]),
        values=fields.String(validate=validate.Length(max=1000)),
        validate=validate.Length(max=20),
    )

    @validates_schema
    def leads_to_a_token(self, data: Mapping[str, Any], **_: Any) -> None:
        if "authorize_url" not in data and "refresh_token" not in data:
            raise ValidationError("Needed, unless there is an authorizeUrl where somebody can consent.", "refreshToken")


HTTP_SCHEMES: Mapping[str, type[Schema]] = {
    "bearer": BearerCredentials,
    "basic": BasicCredentials,
    "header": HeaderCredentials,
    "query": QueryCredentials,
    "oauth2": OAuth2Credentials,
}
