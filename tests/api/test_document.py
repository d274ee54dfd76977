"""The OpenAPI document says what there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask
from jsonschema_rs import validator_for

from tests.api.conftest import Client
from tests.api.routes import BY_KEY, PUBLIC, routes


def document(client: Client, prefix: str = "") -> Any:
    return client.get(f"{prefix}/openapi.json").get_json()


def test_every_route_is_documented_and_nothing_else(app: Flask, nobody: Client) -> None:
    documented = {
        (method.upper(), path)
        for path, operations in document(nobody)["paths"].items()
        for method in operations
        if method != "parameters"
    }

    assert documented == set(routes(app))


def test_every_guarded_operation_documents_its_scope_and_refusals(nobody: Client) -> None:
    for path, operations in document(nobody)["paths"].items():
        for method, operation in operations.items():
            if method == "parameters" or path in PUBLIC | BY_KEY:
                continue
            assert operation["security"][0]["bearer"], path
            assert {"401", "403", "500", "503"} <= set(operation["responses"]), path


def test_every_operation_by_key_asks_for_no_token_and_hides_what_it_has_no_key_of(nobody: Client) -> None:
    paths = document(nobody)["paths"]

    for path in BY_KEY:
        for operation in (paths[path]["get"], paths[path]["post"]):
            assert operation["security"] == []
            assert {"403", "404", "500", "503"} <= set(operation["responses"])
            assert "401" not in operation["responses"]


def test_the_sync_operation_documents_its_answers(nobody: Client) -> None:
    paths = document(nobody)["paths"]
    sync = paths["/workspaces/{workspaceId}/sync"]["post"]

    refusals = {"400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503"}
    assert set(sync["responses"]) == {"202", *refusals}
    common = {"X-Request-Id", "RateLimit", "RateLimit-Policy"}
    assert set(sync["responses"]["202"]["headers"]) == {"Location", "Retry-After", *common}
    assert set(sync["responses"]["401"]["headers"]) == {"WWW-Authenticate", *common}
    assert set(sync["responses"]["409"]["content"]) == {"application/problem+json"}


def test_every_answer_has_its_headers_and_an_example_that_its_schema_allows(nobody: Client) -> None:
    whole = document(nobody)

    for where, operation in operations(whole):
        for status, response in operation["responses"].items():
            assert "X-Request-Id" in response["headers"], (where, status)
            for media_type, content in response.get("content", {}).items():
                require_examples(content, media_type, whole)


def test_every_body_has_an_example_that_its_schema_allows(nobody: Client) -> None:
    whole = document(nobody)

    for _, operation in operations(whole):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            require_examples(content, media_type, whole)


def operations(whole: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield (method, path), operation


def require_examples(content: Any, media_type: str, whole: Any) -> None:
    if "schema" not in content:
        return
    examples = [resolved(named, whole)["value"] for named in content.get("examples", {}).values()]
    examples += [content["example"]] if "example" in content else []
    assert examples, content
    # The schema of a stream is that of each event, and its example the text of one.
    if media_type.endswith("json"):
        schema = {**content["schema"], "components": whole["components"]}
        for example in examples:
            validator_for(schema, validate_formats=True).validate(example)


def resolved(found: Any, whole: Any) -> Any:
    if "$ref" not in found:
        return found
    _, _, kind, name = found["$ref"].split("/")
    return whole["components"][kind][name]


def test_a_job_s_schema_names_every_member_that_a_job_has(client: Client, jobs_url: str) -> None:
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["job"]

    assert set(document(client)["components"]["schemas"]["Job"]["properties"]) == set(job)


def test_the_document_s_server_is_where_it_was_asked_for(nobody: Client) -> None:
    assert document(nobody)["servers"] == [{"url": "/"}]
    assert document(nobody, "/api")["servers"] == [{"url": "/api"}]
