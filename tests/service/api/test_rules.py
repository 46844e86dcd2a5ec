"""GET /v1/rules: the policy in force, and the constitutions of the models' lineages, each by its digest."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx
from lobby import MODEL, configuration, open_hall, watching

from charter.ground.artifact.manifest import Manifest, digest_file
from charter_service.api.registry import constitutions_of

TEXT = """name: ours
version: 4
critiques:
  - {key: kind, tags: [harmless], critique: "Is it unkind?", revision: "Make it kind."}
comparisons:
  - {key: kinder, tags: [harmless], principle: "Which is kinder?"}
"""


def step(run: Path, name: str, external: list[dict[str, Any]], parents: list[dict[str, Any]]) -> Path:
    facts = {"kind": "checkpoint", "variant": "policy", "id": name * 8, "status": "done", "step": name}
    facts |= {"room": "finetune", "recipe": "x", "external": external, "parents": parents}
    (run / name).mkdir()
    (run / name / "manifest.json").write_text(Manifest.model_validate(facts).model_dump_json())
    return run / name


def test_constitutions_are_those_of_the_lineage_as_they_were(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine.yaml"
    run.mkdir()
    mine.write_text(TEXT)
    digest = digest_file(mine)
    source = {"role": "constitution", "ref": "mine.yaml", "digest": digest, "path": "../mine.yaml"}
    other = {"role": "constitution", "ref": "gone.yaml", "digest": "f" * 64, "path": "../gone.yaml"}
    start = {"role": "start", "ref": "random:tiny", "digest": "e" * 64}
    step(run, "first", [source, other, start], [])
    parent = {"role": "policy", "step": "first", "id": "first" * 8, "path": "first"}
    last = step(run, "last", [source], [parent])
    ours, gone = constitutions_of(last)
    assert (ours["name"], ours["version"], ours["digest"]) == ("ours", 4, digest)
    assert ours["critiques"] == [{"critique": "Is it unkind?", "revision": "Make it kind."}]
    assert ours["comparisons"] == [{"principle": "Which is kinder?"}]
    assert gone["name"] == "gone.yaml" and gone["critiques"] == []
    mine.write_text(TEXT.replace("unkind", "kind"))  # no longer the text of this lineage
    assert constitutions_of(last)[0]["critiques"] == []
    assert constitutions_of(tmp_path) == ()


def test_anybody_reads_the_rules_and_the_registry_names_them(tmp_path: Path) -> None:
    models = [{"id": MODEL, "source": "policy", "card": "https://example.org/card", "cutoff": "2023-01-31"}]
    config = configuration(policy={"state": "on"}, models=models)
    with open_hall(tmp_path, config, watching("poison")) as hall:
        (first,) = hall.service.registry.served
        text = {"digest": "a", "name": "ours", "version": 1, "critiques": [], "comparisons": []}
        hall.service.registry.served = (replace(first, constitutions=(text,)),)
        said = httpx.get(f"{hall.url}/v1/rules", timeout=30).json()
        facts = hall.service.registry.served[0].facts(date(2026, 1, 1))
    assert said["constitutions"] == [text] and facts["constitutions"] == ["a"]
    assert facts["card"] == "https://example.org/card" and facts["knowledge_cutoff"] == "2023-01-31"
    categories = said["policy"]["categories"]
    assert categories and all(one.keys() == {"title", "covers", "allowed"} for one in categories)


def test_a_server_without_a_policy_says_so(tmp_path: Path) -> None:
    config = configuration(models=[{"id": MODEL, "source": "policy"}])
    with open_hall(tmp_path, config) as hall:
        said = httpx.get(f"{hall.url}/v1/rules", timeout=30).json()
    assert said == {"type": "rules", "policy": None, "constitutions": []}
