"""The pages for users of the API: the models and how to call them, their limits, the reference of all routes, and a
page to report a reply."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from charter.ground.moderation.limits import SHORT
from charter_service.accounts.keys import ANONYMOUS, Caller
from charter_service.api.admin_entrance import LONGEST_SECRET, check_pace
from charter_service.api.documents import Group, bounds, meaning, model_for_examples, reference, type_of
from charter_service.api.errors import ApiError, api_error
from charter_service.api.feedback import SCOPE, FeedbackBody, keep, request_facts
from charter_service.api.operation import limits_of, problem_of, statement
from charter_service.api.rendering import PAGES, page
from charter_service.api.service import Service
from charter_service.api.snippets import snippets
from charter_service.api.wire.reading import address_of_server, checked, service_of
from charter_service.api.wire.route import Routes
from charter_service.web.forms import Form, check_site, read_form
from charter_service.web.refusal import Refusal

ROUTES = Routes("Pages")
REPORT = "/report"
KEPT = ("request", "thumb", "category", "words")  # fields of the report that the page shows again
PAGES.environment.filters |= {"type_of": type_of, "meaning": meaning, "bounds": bounds}


@ROUTES.add("GET", "/", "What is served")
async def index(request: Request) -> Response:
    """The models, how to call them, their limits and their state."""
    service, today = service_of(request), datetime.datetime.now(datetime.UTC).date()
    served = service.registry.served
    problem = await asyncio.to_thread(problem_of, service)
    return page(
        request,
        "index",
        "Models",
        models=[{**model.facts(today), "busy": _busy(model.backend.figures())} for model in served],
        snippets=snippets(address_of_server(request), served[0].id, service.config.authenticate) if served else [],
        statement=statement(service),
        policy=service.screen.policy if service.screen else None,
        keyed=service.config.authenticate,
        contact=service.config.contact,
        problem=problem,
    )


def _busy(figures: dict[str, float]) -> dict[str, int] | None:
    """The load of an engine, if it reports it."""
    if "slots" not in figures:
        return None
    return {name: int(figures[name]) for name in ("busy", "slots", "waiting")}


@ROUTES.add("GET", "/docs", "Reference")
async def docs(request: Request) -> Response:
    """The list of all routes, from the OpenAPI document, and the limits in a line."""
    limits = limits_of(service_of(request))
    return page(request, "docs", "Reference", groups=groups_of(request), short=SHORT, limits=limits)


@ROUTES.add("GET", "/docs/{group}", "A group of routes")
async def docs_of_group(request: Request) -> Response:
    """The routes of one group, with all that they take and give."""
    groups = groups_of(request)
    for group in groups:
        if group.place == request.path_params["group"]:
            return page(request, "docs_group", group.title, group=group, groups=groups)
    raise ApiError(404, "there is no such part of the reference; /docs lists all parts")


def groups_of(request: Request) -> list[Group]:
    """The reference, with examples for this server."""
    service, document = service_of(request), request.app.state.document()
    model, address = model_for_examples(service), address_of_server(request)
    return reference(document, address, model, service.config.authenticate)


@ROUTES.add("GET", "/static/{file}", "Style, script and icon")
async def static(request: Request) -> Response:
    """Style, script and icon."""
    return PAGES.file(request.path_params["file"], "there is no such file")


@ROUTES.add("GET", "/favicon.ico", "Icon")
async def favicon(request: Request) -> Response:
    """The icon that browsers request by themselves."""
    return PAGES.file("icon.svg")


@ROUTES.add("GET", REPORT, "Report a reply")
async def report_page(request: Request) -> Response:
    """The page where a person with a key reports a reply, or looks up the decisions about it."""
    request_id = request.query_params.get("request", "")[:64]
    return _report(request, {"request": request_id if request_id.isprintable() else ""})


@ROUTES.add("POST", REPORT, "Report a reply")
async def report(request: Request) -> Response:
    """Stores a report, queues an appeal, or shows decisions. Raises ApiError if an address tries too often."""
    check_site(request)
    check_pace(request)
    form, service = await read_form(request), service_of(request)
    values = {name: form.text(name) for name in KEPT}
    try:
        done = await asyncio.to_thread(_carry_out, service, form)
    except Refusal as refusal:
        return _report(request, values, refusal=api_error(refusal))
    return _report(request, values if "facts" in done else {}, **done)


def _carry_out(service: Service, form: Form) -> dict[str, Any]:
    """Carries out a form. Raises Refusal."""
    caller, act, id = (_caller(service, form.text("key").strip()), form.text("do"), form.text("request").strip())
    standing = service.conduct.standing(caller.organisation).message
    if act == "appeal":
        words = form.text("appeal")
        return {
            "standing": standing,
            "message": f"Your appeal {service.conduct.appeal(caller.organisation, words)} waits for a person.",
        }
    if not id:
        raise ApiError(400, "give the id of the request, from its answer's header request-id")
    if act == "look":
        return {"standing": standing, "facts": request_facts(service, caller, id)}
    opinion = {"request_id": id, "thumb": form.text("thumb") or "down", "category": form.text("category")}
    answer = keep(service, caller, checked({**opinion, "words": form.text("words")}, FeedbackBody))
    outlook = " A person will look at it." if answer["reported"] else ""
    return {"standing": standing, "message": f"Thank you. Your feedback on {id} is stored.{outlook}"}


def _caller(service: Service, secret: str) -> Caller:
    """The caller of a key. Raises ApiError."""
    if not service.config.authenticate:
        return ANONYMOUS
    if not secret:
        raise ApiError(401, "give your API key")
    caller = service.keyring.find_caller(secret[:LONGEST_SECRET])
    if not caller.may(SCOPE):
        raise ApiError(403, f"this key lacks the scope {SCOPE}")
    return caller


def _report(
    request: Request,
    values: dict[str, str],
    refusal: ApiError | None = None,
    message: str = "",
    facts: dict[str, Any] | None = None,
    standing: str = "",
) -> Response:
    service = service_of(request)
    entries = {name: values.get(name, "") for name in KEPT}
    return page(
        request,
        "report",
        "Report a reply",
        refusal.status if refusal else 200,
        values=entries,
        problem=str(refusal or ""),
        message=message,
        facts=facts,
        standing=standing,
        categories=service.screen.policy.categories if service.screen else (),
        contact=service.config.contact,
        keyed=service.config.authenticate,
    )


@ROUTES.add("GET", "/robots.txt", "For search engines")
async def robots(request: Request) -> Response:
    """Keeps search engines out."""
    return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")
