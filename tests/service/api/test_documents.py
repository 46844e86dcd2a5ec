"""The OpenAPI document says what handlers read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
from lobby import Said, open_hall

from charter_service.api.app import ROUTES


def test_the_document_is_whole(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said()) as hall:
        found = httpx.get(f"{hall.url}/openapi.json").json()
    shown = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert {(route.method, re.sub(r":path}", "}", route.path)) for route in ROUTES} <= shown
    named = {ref.rpartition("/")[2] for ref in re.findall(r'"\$ref": "#/components/schemas/[^"]*', json.dumps(found))}
    assert named
    assert named <= found["components"]["schemas"].keys()
    batch = found["paths"]["/v1/messages/batches/{batch}"]["get"]
    assert "batch" in {part["name"] for part in batch["parameters"]}
    body = found["paths"]["/v1/messages"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/MessagesBody"}
    assert set(found["components"]["schemas"]["MessagesBody"]["required"]) == {"model", "messages", "max_tokens"}
