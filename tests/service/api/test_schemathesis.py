"""Requests that schemathesis makes from the OpenAPI document: none makes the server fail.

`SCHEMATHESIS_EXAMPLES=200 pytest tests/service/api/test_schemathesis.py` asks for more of each operation than the few here.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from lobby import Hall, open_hall, until
from schemathesis import GenerationMode

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "3"))


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as hall:
        yield hall


@pytest.mark.filterwarnings("ignore")  # what the tool says of its own parts
def test_no_operation_of_the_document_fails(hall: Hall) -> None:
    most = {"requests_per_minute": 10**6, "input_tokens_per_minute": 10**9, "output_tokens_per_minute": 10**9}
    known = {"x-api-key": hall.key(scopes=("messages", "batches", "admin"), limits=most)}
    document = schemathesis.openapi.from_url(f"{hall.url}/openapi.json")
    statuses: Counter[int] = Counter()
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= 15
    for operation, mode in itertools.product(operations, GenerationMode):
        ask_of(operation, mode, known, statuses)
    assert statuses[200]
    assert statuses[400]
    until(lambda: all(served.backend.figures()["busy"] == 0 for served in hall.service.registry.served))


def ask_of(operation: Any, mode: GenerationMode, known: dict[str, str], statuses: Counter[int]) -> None:
    """Requests of one operation, right or wrong ones."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(headers=known, timeout=120)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (operation.label, case.as_curl_command(), answer.text[:300])

    with suppress(Unsatisfiable):  # nothing can be wrong about an operation without parameters
        ask()
