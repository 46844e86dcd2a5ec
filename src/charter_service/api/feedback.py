"""Callers' feedback on replies and decisions: thumbs and reports, the decisions about a request, the standing of an
account, and appeals.

A caller sees the action and its heading. Only admins see the scores: with them a caller could try until a text passes.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.moderation.screen import Screen
from charter_service.accounts.cases import MOST_WORDS, Stop, appeals_of
from charter_service.accounts.decisions import Decision, decisions_of, user_mark
from charter_service.accounts.feedback import thumbs_of
from charter_service.accounts.keys import Caller
from charter_service.api.errors import ApiError, invalid
from charter_service.api.model_request import Call
from charter_service.api.service import Service
from charter_service.api.wire.answers import rfc3339
from charter_service.api.wire.content import Strict
from charter_service.api.wire.reading import service_of, user_digest
from charter_service.api.wire.route import Routes, parameter
from charter_service.web.database import reading

SCOPE = "feedback"
ROUTES = Routes("Acceptable use", SCOPE)
USER = parameter("user_id", "query", "an end user, as in metadata.user_id or user")
LARGEST = 2**20  # bytes of a body
LONGEST_USER = 1024  # characters of a caller's id for its user, as in OpenAI's shape


class FeedbackBody(Strict):
    """A thumb on a reply. A thumb down with words, a category or a content is a report: a person looks at it."""

    request_id: str = Field(min_length=1, max_length=64, description="the header request-id of the answer")
    thumb: Literal["up", "down"]
    words: str = Field("", max_length=MOST_WORDS, description="what you want to say")
    category: str = Field("", max_length=64, description="the policy's category that the reply breaks")
    content: dict[str, Any] | None = Field(None, description="what was said, where you want people to see it")


class FeedbackAnswer(BaseModel):
    """The stored feedback; the id is always the same for a key and a request, and the last thumb counts."""

    type: Literal["feedback"] = "feedback"
    id: str
    request_id: str
    thumb: Literal["up", "down"]
    reported: bool


class DecisionAnswer(BaseModel):
    """One decision; `score` and `threshold` only for keys with the scope admin."""

    side: str
    action: str
    category: str
    severity: str
    title: str
    policy: str
    decided_at: str
    score: float | None
    threshold: float | None


class RequestAnswer(BaseModel):
    """The decisions about a request, and the thumbs on it."""

    type: Literal["request"] = "request"
    id: str
    model: str
    created_at: str
    decisions: list[DecisionAnswer]
    feedback: list[dict[str, Any]]


class StandingAnswer(BaseModel):
    """The standing of an account under the acceptable-use policy, and how to appeal; with `user_id` that of this end
    user's requests, which is the worse of both."""

    type: Literal["standing"] = "standing"
    level: Literal["good", "warned", "enhanced", "throttled", "suspended"]
    of: Literal["account", "user"]
    message: str
    appeal: str


class AppealBody(Strict):
    """An appeal of the standing of the account, or of one of its end users; or of what was stopped of a request."""

    words: str = Field(min_length=1, max_length=MOST_WORDS, description="why the decision is wrong")
    user_id: str | None = Field(None, min_length=1, max_length=1024, description="for this end user alone")
    request_id: str | None = Field(
        None, min_length=1, max_length=64, description="the stopped request, in whose answer's header it stood"
    )
    content: dict[str, Any] | None = Field(None, description="what was said, where people may see it; with request_id")


class AppealAnswer(BaseModel):
    """An appeal; it is open until a person upholds or dismisses it. `request_id`: of an appealed stop."""

    type: Literal["appeal"] = "appeal"
    id: str
    state: Literal["open", "upheld", "dismissed"] = "open"
    request_id: str | None = None
    created_at: str | None = None
    decided_at: str | None = None


class AppealsAnswer(BaseModel):
    """The newest appeals of the account itself, or of one of its end users."""

    data: list[AppealAnswer]


@ROUTES.add("POST", "/v1/feedback", "Give a thumb, or report a reply", FeedbackAnswer, most=LARGEST)
async def give_feedback(request: Request, call: Call, body: FeedbackBody) -> Response:
    """Stores a thumb, and puts a report into people's queue."""
    service = service_of(request)
    return JSONResponse(await service.write(call.caller, lambda: keep(service, call.caller, body)))


def keep(service: Service, caller: Caller, body: FeedbackBody) -> dict[str, Any]:
    """Stores feedback on a request. Raises as `Conduct.give_feedback`."""
    id = service.conduct.give_feedback(caller, body.request_id, body.thumb, body.words, body.content, body.category)
    reported = body.thumb == "down" and bool(body.words.strip() or body.category or body.content)
    return FeedbackAnswer(id=id, request_id=body.request_id, thumb=body.thumb, reported=reported).model_dump()


@ROUTES.add("GET", "/v1/requests/{request}", "Decisions about a request", RequestAnswer)
async def find_request(request: Request, call: Call) -> Response:
    """The decisions about a request of the caller's organisation."""
    id = str(request.path_params["request"])
    return JSONResponse(await asyncio.to_thread(request_facts, service_of(request), call.caller, id))


def request_facts(service: Service, caller: Caller, id: str) -> dict[str, Any]:
    """The data of a request for its caller. Raises ApiError if it isn't the organisation's."""
    service.conduct.log.flush()
    with reading(service.database) as connection:
        decisions = decisions_of(connection, id, caller.organisation) if len(id) <= 64 else []
        thumbs = thumbs_of(connection, id) if decisions else []
    if not decisions:
        raise ApiError(404, f"there is no request {id[:80]}, or it isn't yours")
    own_thumbs = [thumb for thumb in thumbs if thumb["organisation"] == caller.organisation]
    return RequestAnswer(
        id=id,
        model=decisions[0].entry.model,
        created_at=rfc3339(decisions[0].entry.at) or "",
        decisions=[_answer(decision, service.screen, caller.may("admin")) for decision in decisions],
        feedback=[
            {"id": thumb["id"], "thumb": thumb["thumb"], "created_at": rfc3339(thumb["created"])}
            for thumb in own_thumbs
        ],
    ).model_dump()


def _answer(decision: Decision, screen: Screen | None, scores: bool) -> DecisionAnswer:
    entry = decision.entry
    scores = scores and entry.checked
    return DecisionAnswer(
        side=entry.side,
        action=entry.action,
        category=entry.category,
        severity=entry.severity,
        title=titles_of(screen).get(entry.category, ""),
        policy=entry.policy,
        decided_at=rfc3339(entry.at) or "",
        score=entry.score if scores else None,
        threshold=entry.threshold if scores else None,
    )


def titles_of(screen: Screen | None) -> dict[str, str]:
    """Titles by the id of a category or a high-risk rule of the policy in force."""
    if screen is None:
        return {}
    categories = {category.id: category.title for category in screen.policy.categories}
    return categories | {use.id: use.title for use in screen.policy.high_risk}


@ROUTES.add("GET", "/v1/standing", "Standing of the account", StandingAnswer, USER)
async def find_standing(request: Request, call: Call) -> Response:
    """The standing of the caller's account, or of requests of one of its end users."""
    service = service_of(request)
    user = _user_in(request)
    standing = await service.find_standing(replace(call, user=user_digest(user)))
    answer = StandingAnswer(
        level=standing.level,
        of=standing.of,
        message=standing.message,
        appeal=standing.appeal or service.conduct.appeal_hint,
    )
    return JSONResponse(answer.model_dump())


@ROUTES.add("POST", "/v1/appeals", "Appeal the account's standing, or a stop", AppealAnswer, most=LARGEST)
async def appeal(request: Request, call: Call, body: AppealBody) -> Response:
    """Puts an appeal of the caller's account, of one of its end users, or of a stopped request into people's queue."""
    if body.content is not None and body.request_id is None:
        raise invalid("content: expected request_id beside it, the request in which it was said", "content")
    service, whose = service_of(request), call.caller.organisation
    stop = Stop(body.request_id, body.content) if body.request_id is not None else None
    about = (body.words, user_digest(body.user_id), stop)
    id = await service.write(call.caller, lambda: service.conduct.appeal(whose, *about))
    return JSONResponse(AppealAnswer(id=id, request_id=body.request_id).model_dump())


@ROUTES.add("GET", "/v1/appeals", "Appeals and what became of them", AppealsAnswer, USER)
async def find_appeals(request: Request, call: Call) -> Response:
    """The newest appeals of the caller's account, or of one of its end users."""
    service, user = service_of(request), _user_in(request)
    appeals = await asyncio.to_thread(_appeals, service, call.caller.organisation, user)
    return JSONResponse(AppealsAnswer(data=appeals).model_dump())


def _appeals(service: Service, organisation: str, user: str) -> list[AppealAnswer]:
    with reading(service.database) as connection:
        appeals = appeals_of(connection, organisation, user_mark(organisation, user_digest(user or None)))
    return [
        AppealAnswer.model_validate(
            {
                "id": appeal.id,
                "state": appeal.verdict or "open",
                "request_id": appeal.request or None,
                "created_at": rfc3339(appeal.created),
                "decided_at": rfc3339(appeal.closed),
            }
        )
        for appeal in appeals
    ]


def _user_in(request: Request) -> str:
    """The end user that the query names. Raises ApiError if the name is too long."""
    if len(user := request.query_params.get("user_id", "")) > LONGEST_USER:
        raise invalid(f"user_id: expected at most {LONGEST_USER} characters", "user_id")
    return user
