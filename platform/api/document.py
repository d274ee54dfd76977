"""The OpenAPI document, made from the same declarations that serve the requests."""

from __future__ import annotations

import functools
import json
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import flask_smorest  # type: ignore[import-untyped]  # it ships no types
from flask import Flask, Response, request
from marshmallow import fields

from jobplatform.api.document_details import complete
from jobplatform.api.problems import PROBLEM_JSON
from jobplatform.api.resource import SECURITY_SCHEME, Resource
from jobplatform.api.schemas.fields import Cursor, Digits, Moment, WholeNumber
from jobplatform.api.schemas.jobs import ProblemSchema

OPENAPI_VERSION = "3.1.1"

documents = Resource("documents", __name__, description="This document")


@documents.endpoint("GET", "/openapi.json", None)
@documents.answers(200, description="The OpenAPI document of this API")
def openapi() -> Response:
    """Show the OpenAPI document"""
    document = {**openapi_document(), "servers": [{"url": _prefix() or "/"}]}
    return Response(json.dumps(document), content_type="application/json")


@functools.cache
def openapi_document() -> dict[str, Any]:
    """The document, its paths below wherever the API is mounted.

    Made in an application that exists for nothing else: flask-smorest's ``Api`` would otherwise put an error
    handler, a command and settings of its own into the application that we are a guest in.
    """
    from jobplatform.api.blueprint import RESOURCES  # it lists this module's resource too

    api = _Api(Flask(__name__, static_folder=None), spec_kwargs=_about())
    api.spec.components.security_scheme(SECURITY_SCHEME, {"type": "http", "scheme": "bearer", "bearerFormat": "jp_…"})
    for resource in RESOURCES:
        api.register_blueprint(resource)
    document: dict[str, Any] = api.spec.to_dict()
    complete(document)
    return document


class _Api(flask_smorest.Api):  # type: ignore[misc]  # see the import
    """flask-smorest's collector of declarations, with problems for errors and no error handlers."""

    ERROR_SCHEMA = ProblemSchema
    # Every status of every endpoint is declared; a catch-all would document that anything may happen.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _init_spec(self, **kwargs: Any) -> None:
        super()._init_spec(**kwargs)
        self.register_field(WholeNumber, fields.Integer)
        self.register_field(Digits, fields.Integer)
        self.register_field(Moment, "string", "date-time")
        self.register_field(Cursor, "string", None)

    def _register_error_handlers(self) -> None:
        pass

    def _register_responses(self) -> None:
        for status in HTTPStatus:
            self.spec.components.response(status.name, _documented_problem(status), lazy=True)


def _documented_problem(status: HTTPStatus) -> dict[str, Any]:
    if status < 400:
        return {"description": status.phrase}
    return {"description": status.phrase, "content": {PROBLEM_JSON: {"schema": ProblemSchema}}}


def _about() -> dict[str, Any]:
    return {
        "title": "jobplatform",
        "version": _version(),
        "openapi_version": OPENAPI_VERSION,
        "info": {"description": "Background jobs for multi-tenant software on PostgreSQL."},
    }


def _version() -> str:
    try:
        return version("jobplatform")
    except PackageNotFoundError:
        return "0"


def _prefix() -> str:
    path = request.script_root + request.path
    return path.removesuffix("/openapi.json")
