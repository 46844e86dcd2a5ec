"""The names of `import charter`, which loads this file at the first use of one of them."""

from charter.ground.artifact.errors import CharterError as CharterError
from charter.library.artifacts import Artifact as Artifact
from charter.library.artifacts import Card as Card
from charter.library.artifacts import Checkpoint as Checkpoint
from charter.library.artifacts import Report as Report
from charter.library.comparing import Comparison as Comparison
from charter.library.comparing import compare as compare
from charter.library.evaluating import evaluate as evaluate
from charter.library.models import Model as Model
from charter.library.models import load as load
from charter.library.opening import open as open
from charter.library.recipes import Plan as Plan
from charter.library.recipes import plan as plan
from charter.library.recipes import run as run
from charter.library.rows import Rows as Rows
from charter.library.runs import Run as Run
