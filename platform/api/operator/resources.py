"""External resources: how often jobs use each, and how many at a time."""

from __future__ import annotations

from typing import Any

from flask import Response

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.editing import tag_of_rate, tag_of_resource_limit
from jobplatform.api.mounted import mounted
from jobplatform.api.operator.setting import Setting
from jobplatform.api.problems import not_found
from jobplatform.api.resource import EDITABLE, EDITED, PUT, Resource
from jobplatform.api.schemas.operator import (
    NewRateLimitSchema,
    RateLimitChangeSchema,
    RateLimitSchema,
    RateLimitsSchema,
    ResourceLevelSchema,
    ResourceLevelsSchema,
    ResourceLimitChangeSchema,
    ResourceLimitSchema,
    ResourceLimitsSchema,
)
from jobplatform.models import RateLimit, ResourceLimits
from jobplatform.queue import (
    Adaptive,
    clear_rate_limit,
    clear_resource_limit,
    find_rate_limit,
    find_resource_limit,
    list_rate_limits,
    list_resource_levels,
    list_resource_limits,
    set_rate_limit,
    set_resource_limit,
)

rates = Resource("rates", __name__, description="Rates of external resources, for operators")
resources = Resource("resources", __name__, description="How many jobs use a resource at a time, for operators")

RATE = "/operator/rate-limits/<path:resource>"
RESOURCE_LIMIT = "/operator/resource-limits/<path:resource>"
RESOURCE_LEVEL = "/operator/resource-levels/<path:resource>"
BODY = (400, 413, 415)

_RATES, _RESOURCES = RateLimitsSchema(), ResourceLimitsSchema()
_LEVELS, _LEVEL = ResourceLevelsSchema(), ResourceLevelSchema()

A_RATE = {"units": 100, "periodMs": 10_000, "burst": 20}
RATE_EXAMPLE = {"resource": "hubspot:*", **A_RATE}
RESOURCE_EXAMPLE = {
    "resource": "account:*",
    "maxRunning": 1,
    "minRunning": None,
    "codeMaxRunning": 1,
    "codeMinRunning": None,
    "declaredBy": "billing:tasks",
}
LEVEL_EXAMPLE = {
    "resource": "hubspot:4711",
    "level": 7,
    "minRunning": 1,
    "maxRunning": 50,
    "running": 7,
    "loweredAt": "2026-11-30T08:15:00Z",
    "loweredFor": "too often",
}


# Rates

_RATE = Setting[RateLimit]("resource", RateLimit, RateLimitSchema(), find_rate_limit, tag_of_rate)


@rates.endpoint("GET", "/operator/rate-limits", Scope.OPERATOR)
@rates.answers(200, RateLimitsSchema, example={"items": [RATE_EXAMPLE]})
def list_all_rate_limits() -> Response:
    """List rates, by resource"""
    with mounted().reading() as session:
        return respond(_RATES, {"items": list_rate_limits(session)})


@rates.endpoint("GET", RATE, Scope.OPERATOR, refuses=(404,))
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
def show_rate_limit(resource: str) -> Response:
    """Show the rate of a resource, or of each of a kind (`hubspot:*`)"""
    return _RATE.show(resource)


@rates.endpoint("PUT", RATE, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@rates.body(NewRateLimitSchema, example=A_RATE)
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
@rates.headers(*PUT)
def put_rate_limit(body: dict[str, Any], resource: str) -> Response:
    """Limit how many units of a resource jobs use in a period

    `hubspot:4711` is one resource, `hubspot:*` each of its kind by itself. What has been used already stays used.
    """
    return _RATE.set("rate.set", lambda session: set_rate_limit(session, resource, body), body, resource)


@rates.endpoint("PATCH", RATE, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@rates.body(RateLimitChangeSchema, example={"units": 50})
@rates.answers(200, RateLimitSchema, example=RATE_EXAMPLE, headers=EDITABLE)
@rates.headers(*EDITED)
def change_rate_limit(body: dict[str, Any], resource: str) -> Response:
    """Change the rate of a resource

    What is not named stays.
    """
    return _RATE.set(
        "rate.set", lambda session: set_rate_limit(session, resource, body), body, resource, must_exist=True
    )


@rates.endpoint("DELETE", RATE, Scope.OPERATOR, refuses=(404, 412))
@rates.answers(204)
@rates.headers(*EDITED)
def delete_rate_limit(resource: str) -> Response:
    """Let jobs use a resource as often as they like"""
    return _RATE.clear("rate.clear", clear_rate_limit, resource)


# Limits of resources

_RESOURCE = Setting[ResourceLimits](
    "resource", ResourceLimits, ResourceLimitSchema(), find_resource_limit, tag_of_resource_limit
)


@resources.endpoint("GET", "/operator/resource-limits", Scope.OPERATOR)
@resources.answers(200, ResourceLimitsSchema, example={"items": [RESOURCE_EXAMPLE]})
def list_all_resource_limits() -> Response:
    """List how many jobs use a resource at a time, by resource"""
    with mounted().reading() as session:
        return respond(_RESOURCES, {"items": list_resource_limits(session)})


@resources.endpoint("GET", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(404,))
@resources.answers(200, ResourceLimitSchema, example=RESOURCE_EXAMPLE, headers=EDITABLE)
def show_resource_limit(resource: str) -> Response:
    """Show the limit of a resource, or of each of a kind (`account:*`)"""
    return _RESOURCE.show(resource)


@resources.endpoint("PUT", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@resources.body(ResourceLimitChangeSchema, example={"maxRunning": 1})
@resources.answers(200, ResourceLimitSchema, example=RESOURCE_EXAMPLE, headers=EDITABLE)
@resources.headers(*PUT)
def put_resource_limit(body: dict[str, Any], resource: str) -> Response:
    """Limit how many jobs use a resource at a time, of all tasks and workspaces

    `account:4711` is one resource, `account:*` each of its kind by itself; the very resource counts before its kind.
    Null says that it has no limit, whatever its kind or the code of a task has. With `minRunning` it is adaptive: each
    resource finds out for itself how many it takes. Stops nothing that runs.
    """
    told = {name: value for name, value in body.items() if name != "min_running" or value is not None}
    least, most = body["min_running"], body["max_running"]
    limit = most if least is None else Adaptive(least, most)
    return _RESOURCE.set("resource.limit", lambda session: set_resource_limit(session, resource, limit), told, resource)


@resources.endpoint("DELETE", RESOURCE_LIMIT, Scope.OPERATOR, refuses=(404, 412))
@resources.answers(204)
@resources.headers(*EDITED)
def delete_resource_limit(resource: str) -> Response:
    """Clear the limit of a resource

    What the code of a task declares, or its kind has, counts again.
    """
    return _RESOURCE.clear("resource.clear_limit", clear_resource_limit, resource)


@resources.endpoint("GET", "/operator/resource-levels", Scope.OPERATOR)
@resources.answers(200, ResourceLevelsSchema, example={"items": [LEVEL_EXAMPLE]})
def list_all_resource_levels() -> Response:
    """List how many jobs may use each resource with an adaptive limit now

    Those that have been used; at most a hundred, first those that were lowered last.
    """
    with mounted().reading() as session:
        return respond(_LEVELS, {"items": list_resource_levels(session)})


@resources.endpoint("GET", RESOURCE_LEVEL, Scope.OPERATOR, refuses=(404,))
@resources.answers(200, ResourceLevelSchema, example=LEVEL_EXAMPLE)
def show_resource_level(resource: str) -> Response:
    """Show how many jobs may use a resource with an adaptive limit now"""
    with mounted().reading() as session:
        found = list_resource_levels(session, resource)
    if not found:
        raise not_found()
    return respond(_LEVEL, found[0])
