"""Both ways of containment, each skipped with its reason if this machine can't have it."""

from __future__ import annotations

import pytest

from charter.ground.sandbox import preflight
from charter.ground.sandbox.container import Way
from charter.ground.sandbox.group import place
from charter.ground.sandbox.process import Sandbox
from charter.ground.sandbox.view import python_view


@pytest.fixture(scope="session", params=list(Way))
def box(request: pytest.FixtureRequest) -> Sandbox:
    """A sandbox of each way."""
    if problem := preflight.trouble(request.param):
        pytest.skip(f"no sandbox by {request.param} here: {problem}")
    return Sandbox(request.param, python_view(), place())


@pytest.fixture(scope="session")
def any_box() -> Sandbox:
    """The sandbox that this machine would use."""
    for way in Way:
        if not preflight.trouble(way):
            return Sandbox(way, python_view(), place())
    pytest.skip("no sandbox here: " + "; ".join(f"{way}: {preflight.trouble(way)}" for way in Way))
