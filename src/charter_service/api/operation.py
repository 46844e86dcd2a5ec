"""Routes for operators: health, readiness, and figures for Prometheus; and the limits statement for programs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.moderation.limits import Limit, limits_with
from charter.ground.moderation.policy import Policy
from charter_service.accounts.tables import FACTS
from charter_service.api.service import Service
from charter_service.api.wire.reading import call_of, is_local, service_of
from charter_service.api.wire.route import Routes
from charter_service.web.database import reading


def limits_of(service: Service) -> tuple[Limit, ...]:
    """The limits of a server's models, with its tools."""
    return limits_with([tool.name.replace("_", " ") for tool in service.tools.values()])


def statement(service: Service) -> dict[str, Any]:
    """The limits, and the end date of each model's training texts, if known."""
    cutoffs = [
        {"model": model.id, "knowledge_cutoff": cutoff.isoformat() if (cutoff := model.model.cutoff) else None}
        for model in service.registry.served
    ]
    return {"type": "limits", "limits": [asdict(limit) for limit in limits_of(service)], "models": cutoffs}


ROUTES = Routes("Operation")


class Health(BaseModel):
    """ok, or the missing part."""

    status: str


class LimitsAnswer(BaseModel):
    """The limits statement: limits as id, title and words, and the end date of each model's training texts."""

    type: Literal["limits"] = "limits"
    limits: list[dict[str, str]]
    models: list[dict[str, Any]]


class RulesAnswer(BaseModel):
    """The policy of acceptable use in force, null if none is; the constitutions that models were trained under, each
    with its digest, which the registry's entries name."""

    type: Literal["rules"] = "rules"
    policy: dict[str, Any] | None
    constitutions: list[dict[str, Any]]


@ROUTES.add("GET", "/health", "Whether the process lives", Health, open=True)
async def health(request: Request) -> Response:
    """Shows that the process answers."""
    return JSONResponse({"status": "ok"})


@ROUTES.add("GET", "/ready", "Whether it can work", Health, open=True)
async def ready(request: Request) -> Response:
    """Shows whether the database answers and there are models."""
    problem = await asyncio.to_thread(problem_of, service_of(request))
    return JSONResponse({"status": problem or "ok"}, 503 if problem else 200)


def problem_of(service: Service) -> str:
    """What keeps the server from working, "" if nothing does."""
    if not service.registry.served:
        return "no model"
    try:
        with reading(service.database) as connection:
            connection.execute(select(func.count()).select_from(FACTS)).scalar_one()
    except Exception:
        return "no database"
    return service.room.problem


@ROUTES.add("GET", "/metrics", "Figures for Prometheus", media="text/plain")
async def metrics(request: Request) -> Response:
    """Counters and the state of engines, in Prometheus' text form; for a key with the scope admin, or without one for a
    program on this machine without a proxy in between."""
    if not is_local(request):
        await call_of(request, "admin")
    service = service_of(request)
    for model in service.registry.served:
        service.metrics.show(model.id, model.backend.figures())
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@ROUTES.add("GET", "/v1/limits", "What models can't do", LimitsAnswer, open=True)
async def limits(request: Request) -> Response:
    """The models' limits and unsuitable uses."""
    return JSONResponse(statement(service_of(request)))


@ROUTES.add("GET", "/v1/rules", "What models are held to", RulesAnswer, open=True)
async def rules(request: Request) -> Response:
    """The policy that requests and replies are checked by, and the constitutions of the models' lineages."""
    service = service_of(request)
    constitutions = {
        constitution["digest"]: constitution
        for served in service.registry.served
        for constitution in served.constitutions
    }
    policy = policy_facts(service.screen.policy) if service.screen else None
    return JSONResponse(RulesAnswer(policy=policy, constitutions=list(constitutions.values())).model_dump())


def policy_facts(policy: Policy) -> dict[str, Any]:
    """A policy as its readers see it: without the phrases by which a text is found out."""
    return {
        "id": policy.id,
        "name": policy.name,
        "version": policy.version,
        "refusal": policy.refusal,
        "appeal": policy.appeal,
        "categories": [
            {"title": category.title, "covers": category.covers, "allowed": list(category.allowed)}
            for category in policy.categories
        ],
        "high_risk": [
            {"title": use.title, "covers": use.covers, "disclosure": use.disclosure} for use in policy.high_risk
        ],
    }
