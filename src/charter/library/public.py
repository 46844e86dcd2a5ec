"""The names of `import charter`, which loads this file at the first use of one of them."""

from charter.ground.artifact.errors import CharterError
from charter.library.artifacts import Artifact, Card, Checkpoint, Report
from charter.library.comparing import Comparison, compare
from charter.library.evaluating import evaluate
from charter.library.models import Model, load
from charter.library.opening import open
from charter.library.recipes import Plan, plan, run
from charter.library.rows import Rows
from charter.library.runs import Run

__all__ = [
    "Artifact",
    "Card",
    "CharterError",
    "Checkpoint",
    "Comparison",
    "Model",
    "Plan",
    "Report",
    "Rows",
    "Run",
    "compare",
    "evaluate",
    "load",
    "open",
    "plan",
    "run",
]
