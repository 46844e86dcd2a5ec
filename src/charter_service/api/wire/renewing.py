"""New weights for a model, by the routes of vLLM's development mode: `reload_weights` of /collective_rpc,
/reset_prefix_cache, and setting and getting the version of the weights. One client works with both.

A key needs the scope `weights`; the configuration must name the folder that may contain weights. The routes name no
model: at most one of a server's models takes weights.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.api.errors import ApiError
from charter_service.api.local import LocalBackend
from charter_service.api.wire.content import Strict
from charter_service.api.wire.reading import body_of, call_of, caller_of, service_of
from charter_service.api.wire.route import Routes

SCOPE = "weights"
ROUTES = Routes("New weights")


class Place(Strict):
    """Where the weights are."""

    weights_path: str = Field(min_length=1, max_length=4096)


class RpcBody(Strict):
    """The only call of vLLM's workers that is supported here."""

    method: Literal["reload_weights"] = Field(description="what to do")
    kwargs: Place = Field(description="where the weights are: a folder below the one that the server names")


class VersionBody(Strict):
    """The new version of the weights."""

    new_version: str = Field(min_length=1, max_length=200, description="what the weights are called from now on")


class ResultsAnswer(BaseModel):
    """The workers' answer, which is empty."""

    results: list[None]


class DoneAnswer(BaseModel):
    """Whether it was done."""

    success: bool


class VersionAnswer(BaseModel):
    """What the weights are called."""

    weight_version: str


@ROUTES.add("POST", "/collective_rpc", "Give a model new weights", ResultsAnswer, body=RpcBody)
async def reload_weights(request: Request) -> Response:
    """Loads other weights of the same shape into the model."""
    backend = await _backend(request)
    body = await body_of(request, RpcBody)
    await backend.renew(body.kwargs.weights_path)
    return JSONResponse({"results": [None]})


@ROUTES.add("POST", "/reset_prefix_cache", "Forget what was read", DoneAnswer)
async def reset_prefix_cache(request: Request) -> Response:
    """Nothing to do: caches of older weights were dropped with them."""
    await _backend(request)
    return JSONResponse({"success": True})


@ROUTES.add("POST", "/update_weight_version", "Name the weights", DoneAnswer, body=VersionBody)
async def name_weights(request: Request) -> Response:
    """Sets the version of the weights."""
    backend = await _backend(request)
    backend.version = (await body_of(request, VersionBody)).new_version
    return JSONResponse({"success": True, "new_version": backend.version})


@ROUTES.add("GET", "/weight_info", "What the weights are called", VersionAnswer)
async def weight_info(request: Request) -> Response:
    """What the weights are called."""
    return JSONResponse({"weight_version": (await _backend(request)).version})


async def _backend(request: Request) -> LocalBackend:
    """The model that takes weights. Without keys, programs on this machine may send some."""
    service = service_of(request)
    if service.config.authenticate:
        await call_of(request, SCOPE)
    else:
        await caller_of(request)
    for served in service.registry.served:
        if isinstance(served.backend, LocalBackend) and served.backend.weights_from is not None:
            return served.backend
    raise ApiError(403, "no model here takes new weights; allow them with charter serve --weights-from FOLDER")
