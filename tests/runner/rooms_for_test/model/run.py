"""Writes files that depend on the input and the seed."""

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import digest_file
from charter.ground.artifact.workspace import Workspace
from rooms_for_test.model.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    source = inputs.one("dialogues").folder
    out.write_json("weights/w.json", {"of": digest_file(source / "dialogues.jsonl"), "seed": out.seed})
    out.write_json("config.json", {"architectures": ["LlamaForCausalLM"], "steps": settings.steps})
    out.metric("loss", 1.25)
