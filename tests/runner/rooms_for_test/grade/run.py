"""Writes a report."""

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from rooms_for_test.grade.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    out.write_json("report.json", {"stage": settings.stage, "policy": inputs.one("policy").name})
    out.write_jsonl("harmful.jsonl", [{"reply": "Sure."}], restricted=True)
    out.metric("harm_rate", float("nan"))
