"""What the OpenAPI document says of every answer: the headers that all of them have, and what each looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Deep enough for every schema of ours, and an end for one that contains itself.
DEEPEST = 8
JSON = "application/json"

_TEXT = {"type": "string"}
REQUEST_ID = {"X-Request-Id": {"description": "The id of the request, as jobs and log lines have it", "schema": _TEXT}}
CHALLENGE = {"WWW-Authenticate": {"description": "How to say who you are: Bearer", "schema": _TEXT}}
STANDING = {
    "RateLimit-Policy": {"description": "How many requests a token may make, where that is limited", "schema": _TEXT},
    "RateLimit": {"description": "What is left of it (r), and in how many seconds there is more (t)", "schema": _TEXT},
}

#: By the name of a member, where its type says too little.
_JOB_URL = "/workspaces/0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10/jobs/0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d11"
_NAMED = {
    "jobType": "export",
    "taskId": "export",
    "queue": "default",
    "name": "Acme",
    "timezone": "Europe/Berlin",
    "message": "page 3 of 10",
    "statusUrl": _JOB_URL,
    "eventsUrl": f"{_JOB_URL}/events",
}
_FORMATS = {
    "uuid": "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d11",
    "date-time": "2026-01-05T09:00:00.000000Z",
    "uri": "https://example.com/",
}


def complete(document: dict[str, Any]) -> None:
    """Add to ``document`` what is the same everywhere, and to each answer an example where it has none."""
    for guarded, status, response in _responses(document):
        common = REQUEST_ID | (CHALLENGE if status == "401" else {}) | (STANDING if guarded else {})
        response["headers"] = common | response.get("headers", {})
        content = response.get("content", {}).get(JSON, {})
        if "schema" in content and not {"example", "examples"} & set(content):
            content["example"] = example_of(content["schema"], document)


def example_of(schema: dict[str, Any], document: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """A value that ``schema`` allows, always the same: what may be null is, as of something to which nothing has
    happened yet. Members made up one by one would not fit together."""
    schema = _resolved(schema, document)
    if _may_be_null(schema):
        return None
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], document, name, depth)
    match _type_of(schema):
        case "object":
            members = schema.get("properties", {}) if depth < DEEPEST else {}
            return {member: example_of(of, document, member, depth + 1) for member, of in members.items()}
        case "array":
            return [example_of(schema["items"], document, name, depth + 1)] if depth < DEEPEST else []
        case "string":
            return _FORMATS.get(schema.get("format", "")) or _NAMED.get(name, "text")
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    return {}


def _responses(document: dict[str, Any]) -> Iterator[tuple[bool, str, dict[str, Any]]]:
    """Each with whether somebody's token is asked for, and its status. None is shared after this."""
    for operations in document["paths"].values():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            for status, response in operation["responses"].items():
                operation["responses"][status] = own = _own(response, document)
                yield bool(operation.get("security")), status, own


def _own(response: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    resolved = _resolved(response, document)
    return resolved | {
        "content": {media_type: dict(content) for media_type, content in resolved.get("content", {}).items()}
    }


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        kind, name = schema["$ref"].split("/")[-2:]
        schema = document["components"][kind][name]
    return schema


def _may_be_null(schema: dict[str, Any]) -> bool:
    kinds = [schema, *schema.get("anyOf", ())]
    return any("null" in kind.get("type", "") for kind in kinds)


def _type_of(schema: dict[str, Any]) -> str:
    return str(schema.get("type", ""))
