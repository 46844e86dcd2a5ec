"""The card: the artifacts of a run on one page, each number traceable to the replies behind it.

There is no training loop: artifacts are read, numbers computed again from kept rows, and the page rendered.
"""

from __future__ import annotations

import json

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.recount import COUNTS
from charter.ground.artifact.workspace import Workspace
from charter.rooms.card.gather import gather
from charter.rooms.card.render import make
from charter.rooms.card.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: card.html, card.md, card.json, plots/*.svg, counts.json, .eval_results/*.yaml for a named data set."""
    parts = gather(inputs)
    steps = ("read", "render", "write")
    with out.progress("card", len(steps)) as bar:
        bar.advance()
        files = make(settings, parts)
        bar.advance()
        for name, content in files.items():
            out.write_text(name, content)
        bar.advance()
    for name, value in json.loads(files[COUNTS]).items():
        out.metric(name, value)
