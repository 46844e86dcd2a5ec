"""Best-of-k sampling: of the replies to each prompt the one that graders put first is learnt.

RAFT (Dong 2023, 2304.06767) samples k replies to a prompt and finetunes on the best by the reward; Llama 2 (Touvron
2023, 2307.09288, section 3.2.3) calls it rejection sampling, and Bai 2022a and b rank samples so for people to compare.
Replies that exist already, such as revisions, are graded and filtered in the same way. One greedy reply to each
harmless prompt, without graders, is the model's own answer, which a finetuning takes as replay.
"""

from __future__ import annotations

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.rooms.select.choice import choose
from charter.rooms.select.grading import grades
from charter.rooms.select.product import write
from charter.rooms.select.replies import add_candidates, add_samples, add_starts, read_asked
from charter.rooms.select.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompt and kept reply), samples/replies.jsonl (every reply), samples/selected.jsonl
    (every prompt), counts.json."""
    asked = read_asked(settings, inputs)
    add_samples(settings, asked, inputs, out)
    add_starts(settings, asked, inputs, out)
    elsewhere = add_candidates(settings, asked, inputs)
    graded = grades(settings, asked, inputs, out)
    choices = [choose(settings, one, grade) for one, grade in zip(asked, graded, strict=True)]
    write(settings, list(zip(asked, graded, choices, strict=True)), elsewhere, out)
