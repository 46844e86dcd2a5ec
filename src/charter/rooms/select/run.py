"""Best-of-k sampling: the reply to each prompt that graders rank first is learnt.

RAFT (Dong 2023, 2304.06767) samples k replies to a prompt and finetunes on the best by the reward; Llama 2 (Touvron
2023, 2307.09288, section 3.2.3) calls it rejection sampling, and Bai 2022a and b use it to rank samples for people.
Existing replies, such as revisions, are graded and filtered in the same way. One greedy reply to each harmless prompt,
without graders, is the model's own answer, which finetuning uses as replay.
"""

from __future__ import annotations

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.rooms.select.choice import choose
from charter.rooms.select.grading import grades
from charter.rooms.select.product import write
from charter.rooms.select.replies import add_candidates, add_samples, add_starts, read_pools
from charter.rooms.select.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompt and kept reply), samples/replies.jsonl (every reply), samples/selected.jsonl
    (every prompt), counts.json."""
    pools = read_pools(settings, inputs)
    add_samples(settings, pools, inputs, out)
    add_starts(settings, pools, inputs, out)
    elsewhere = add_candidates(settings, pools, inputs)
    graded = grades(settings, pools, inputs, out)
    choices = [choose(settings, pool, grade) for pool, grade in zip(pools, graded, strict=True)]
    write(settings, list(zip(pools, graded, choices, strict=True)), elsewhere, out)
