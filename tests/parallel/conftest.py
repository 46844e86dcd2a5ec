"""Corpora as the tests of `pretrain` make them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "rooms" / "pretrain"))
