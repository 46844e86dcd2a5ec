"""The compute behind a checkpoint: FLOPs of all learning on the way to it, as far as its lineage records them.

    C = C of the model before it + 6 P T        P weights that multiply, T tokens that its step learnt from

Pretraining records its FLOPs itself (`ground/learn/flops.py`). Sampling for RL, graders and helpers don't count. A
model from outside has an unknown C: `before` says it, if somebody knows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Manifest
from charter.ground.learn.flops import multiplying
from charter.ground.model.folder import read_config
from charter.ground.model.shape import from_config

COMPUTE, TOKENS, EACH = "compute", "tokens_read", "tokens_of_each"
POLICY, MERGE = "policy", "merge"


def compute_behind(manifest: Manifest, folder: Path, before: float = 0.0) -> float:
    """FLOPs of the learning behind a checkpoint. Raises CharterError if a step doesn't record how much it learnt."""
    own = _own(manifest, folder)
    parents = [find_parent(run_of(folder), one) for one in manifest.parents if one.role == POLICY]
    return own + (max(compute_behind(m, place, before) for m, place in parents) if parents else before)


def times(later: float, earlier: float) -> float:
    """How many times the compute of an earlier checkpoint a later one has. Raises CharterError if none is known of the
    earlier one."""
    if not earlier:
        raise CharterError("no compute is known of the model before it; give compute_before in the rules")
    return later / earlier


def _own(manifest: Manifest, folder: Path) -> float:
    """FLOPs of one step's learning."""
    counts = {metric.name: metric.value for metric in manifest.metrics}
    if (recorded := counts.get(COMPUTE)) is not None:
        return recorded
    if manifest.room == MERGE:
        return 0.0
    # a count of a step that logs tokens is that of its last round alone
    tokens = _logged(read_log(folder))
    tokens = counts.get(TOKENS) if tokens is None else tokens
    if tokens is None:
        raise CharterError(f"{manifest.step} doesn't record how many tokens it learnt from; run it again")
    return 6.0 * multiplying(from_config(read_config(folder))) * tokens


def _logged(rows: Iterable[dict[str, object]]) -> float | None:
    """The tokens of all steps of a log; None if it has none."""
    tokens = [
        sum(map(float, each)) if isinstance(each := row.get(EACH), list) else float(str(row[TOKENS]))
        for row in rows
        if row.get(TOKENS) is not None
    ]
    return sum(tokens) if tokens else None
