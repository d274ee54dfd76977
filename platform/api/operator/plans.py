"""Plans: presets of limits that workspaces are on."""

from __future__ import annotations

from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.editing import tag_of_plan
from jobplatform.api.mounted import mounted
from jobplatform.api.operator.setting import Setting
from jobplatform.api.problems import PROBLEM_JSON, ProblemError
from jobplatform.api.resource import EDITABLE, EDITED, PUT, Resource
from jobplatform.api.schemas.operator import LimitsSchema, PlanInUseSchema, PlanSchema, PlansSchema
from jobplatform.models import Plan
from jobplatform.queue import Limits, PlanDeletion, delete_plan, find_plan, list_plans, set_plan
from jobplatform.wording import agreeing, plural

plans = Resource("plans", __name__, description="Plans, for operators")

PLAN = "/operator/plans/<name>"
BODY = (400, 413, 415)

_PLANS = PlansSchema()
_PLAN = Setting[Plan]("plan", Plan, PlanSchema(), find_plan, tag_of_plan)

A_PLAN = {"weight": 10, "maxRunning": 50, "maxPending": 10_000}
PLAN_EXAMPLE = {"name": "gold", **A_PLAN, "shed": None, "rateUnits": None, "ratePeriodMs": None}

#: A plan that is replaced forgets what the new one does not say.
_NOTHING_SAID = dict.fromkeys(Limits.__dataclass_fields__)


@plans.endpoint("GET", "/operator/plans", Scope.OPERATOR)
@plans.answers(200, PlansSchema, example={"items": [PLAN_EXAMPLE]})
def list_all_plans() -> Response:
    """List plans, by name"""
    with mounted().reading() as session:
        return respond(_PLANS, {"items": list_plans(session)})


@plans.endpoint("GET", PLAN, Scope.OPERATOR, refuses=(404,))
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
def show_plan(name: str) -> Response:
    """Show a plan"""
    return _PLAN.show(name)


@plans.endpoint("PUT", PLAN, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@plans.body(LimitsSchema, example=A_PLAN)
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
@plans.headers(*PUT)
def put_plan(body: dict[str, Any], name: str) -> Response:
    """Make a plan, or replace it

    It counts at once for every workspace on it. What is not named is not limited by it.
    """
    values = {**_NOTHING_SAID, **body}
    return _PLAN.set("plan.set", lambda session: set_plan(session, name, values), body, name)


@plans.endpoint("PATCH", PLAN, Scope.OPERATOR, refuses=(*BODY, 404, 412))
@plans.body(LimitsSchema, example={"maxRunning": 60})
@plans.answers(200, PlanSchema, example=PLAN_EXAMPLE, headers=EDITABLE)
@plans.headers(*EDITED)
def change_plan(body: dict[str, Any], name: str) -> Response:
    """Change a plan

    What is not named stays; null clears.
    """
    return _PLAN.set("plan.set", lambda session: set_plan(session, name, body), body, name, must_exist=True)


@plans.endpoint("DELETE", PLAN, Scope.OPERATOR, refuses=(404, 412))
@plans.may_answer(409, schema=PlanInUseSchema, content_type=PROBLEM_JSON, description="Workspaces are on it")
@plans.answers(204)
@plans.headers(*EDITED)
def delete_a_plan(name: str) -> Response:
    """Delete a plan that no workspace is on"""
    return _PLAN.clear("plan.delete", _delete_unused, name)


def _delete_unused(session: Session, name: str) -> bool:
    answer = delete_plan(session, name)
    if answer.existed and not answer.deleted:
        raise _plan_in_use(name, answer)
    return answer.existed


def _plan_in_use(name: str, answer: PlanDeletion) -> ProblemError:
    return ProblemError(
        409,
        f"{plural(answer.uses, 'workspace is', 'workspaces are')} on the plan {name}; "
        f"put {agreeing(answer.uses, 'it', 'them')} on another first.",
        kind="plan-in-use",
        title="Plan in use",
        extra={"uses": answer.uses, "workspaceIds": [str(workspace_id) for workspace_id in answer.used_by]},
    )
