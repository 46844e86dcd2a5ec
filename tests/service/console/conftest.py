"""The console's tests start the server of the API's tests, `lobby`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "api"))
