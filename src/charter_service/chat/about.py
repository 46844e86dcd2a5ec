"""What is known of the models: their facts, what they can't do, and what they are held to. Anybody may read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.chat.client import Model
from charter_service.chat.service import Service
from charter_service.chat.site import plain
from charter_service.web.refusal import NotFound
from charter_service.web.site import wants_json


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def limits(request: Request) -> Response:
    """What models can't do, and what the chat keeps."""
    return plain(_service(request), "limits", "What it can't do")


async def models_page(request: Request) -> Response:
    """The models, each with what the server says of it."""
    service = _service(request)
    facts = [facts_of(model, service) for model in service.models]
    if wants_json(request):
        return JSONResponse({"models": facts})
    return plain(service, "models", "Models", models=facts)


def facts_of(model: Model, service: Service) -> dict[str, Any]:
    """What people want to know of a model; empty where the server doesn't say."""
    entry = model.facts
    reply = min(model.longest_reply or service.config.longest, service.config.longest)
    card = str(entry.get("card") or "")
    constitutions = service.rules.constitutions if service.rules else {}
    digests = entry.get("constitutions")
    named = [str(digest) for digest in digests] if isinstance(digests, list) else []
    facts: dict[str, Any] = {
        "id": model.id,
        "title": model.name,
        "window": model.context,
        "longest_reply": reply,
        "card": card if card.startswith(("http://", "https://")) else "",
        "constitutions": [
            {"digest": digest, "name": constitutions[digest].get("name", "")}
            for digest in named
            if digest in constitutions
        ],
    }
    return facts | {
        name: str(entry.get(name) or "") for name in ("state", "knowledge_cutoff", "deprecated", "retires", "successor")
    }


async def policy_page(request: Request) -> Response:
    """The policy of acceptable use in force."""
    service = _service(request)
    policy = service.rules.policy if service.rules else None
    if wants_json(request):
        return JSONResponse({"said": service.rules is not None, "policy": policy})
    return plain(service, "policy", "Acceptable use", policy=_listed(policy, "categories", "high_risk"))


async def constitution_page(request: Request) -> Response:
    """A constitution of a model's lineage. Raises NotFound if no model has it."""
    service = _service(request)
    constitutions = service.rules.constitutions if service.rules else {}
    constitution = constitutions.get(str(request.path_params["digest"])[:64])
    if constitution is None:
        raise NotFound("no model here says that it was trained under this constitution")
    if wants_json(request):
        return JSONResponse(constitution)
    text = _listed(constitution, "critiques", "comparisons")
    return plain(service, "constitution", "Constitution", constitution=text)


_TEXTS = ("name", "version", "appeal", "digest")
_PARTS = ("title", "covers", "critique", "revision", "principle")


def _listed(text: Mapping[str, Any] | None, *names: str) -> dict[str, Any] | None:
    """A text with lists of entries under some names, whatever the server sent there."""
    if text is None:
        return None
    lists = dict[str, list[dict[str, Any]]]()
    for name in names:
        entries = text.get(name)
        lists[name] = (
            [_entry(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        )
    return {name: str(text.get(name) or "") for name in _TEXTS} | lists


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    allowed = entry.get("allowed")
    return {name: str(entry.get(name) or "") for name in _PARTS} | {
        "allowed": allowed if isinstance(allowed, list) else []
    }
