"""What the OpenAPI document says of every answer: the headers that all of them have, and what each looks like."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from jobplatform.api.problems import KINDS, PROBLEM_JSON, TYPE_PREFIX

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
#: Members of a problem that only some of them have.
_TOLD_BY = {HTTPStatus.UNPROCESSABLE_ENTITY: ("errors",), HTTPStatus.INTERNAL_SERVER_ERROR: ("requestId",)}
_FORMATS = {
    "uuid": "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d11",
    "date-time": "2026-01-05T09:00:00.000000Z",
    "uri": "https://example.com/",
}


def complete(document: dict[str, Any]) -> None:
    """Add to ``document`` what is the same everywhere, and to each answer an example where it has none."""
    _write_patterns_as_others_do(document)
    for guarded, status, response in _responses(document):
        common = REQUEST_ID | (CHALLENGE if status == "401" else {}) | (STANDING if guarded else {})
        response["headers"] = common | response.get("headers", {})
        for media_type, content in response.get("content", {}).items():
            if "schema" not in content or {"example", "examples"} & set(content):
                continue
            if media_type == PROBLEM_JSON:
                content["examples"] = {"problem": {"$ref": _example_of_problem(content["schema"], status, document)}}
            elif media_type == JSON:
                content["example"] = example_of(content["schema"], document)


def _write_patterns_as_others_do(found: Any) -> None:
    """Python's end of a text is to JavaScript, whose patterns JSON Schema has, the letter Z."""
    if isinstance(found, list):
        for each in found:
            _write_patterns_as_others_do(each)
    elif isinstance(found, dict):
        if isinstance(pattern := found.get("pattern"), str):
            found["pattern"] = pattern.replace("\\Z", "$")
        for each in found.values():
            _write_patterns_as_others_do(each)


def _example_of_problem(schema: dict[str, Any], status: str, document: dict[str, Any]) -> str:
    """Where it is: one for all answers of a status and a schema, of which there are a thousand."""
    name = schema["$ref"].rpartition("/")[2] + status
    examples = document["components"].setdefault("examples", {})
    if name not in examples:
        known = HTTPStatus(int(status))
        value = example_of(schema, document) | {
            "type": TYPE_PREFIX + KINDS.get(known, "error"),
            "title": known.phrase,
            "status": int(known),
            "detail": known.description or known.phrase,
            "instance": _JOB_URL,
        }
        for member in ("errors", "requestId"):
            if member not in _TOLD_BY.get(known, ()):
                value.pop(member, None)
        examples[name] = {"summary": known.phrase, "value": value}
    return f"#/components/examples/{name}"


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
