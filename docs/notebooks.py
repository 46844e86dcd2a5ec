"""Runs the notebooks of docs/notebooks as scripts, and writes their true outputs into them.

    python docs/notebooks.py            all of them, each in a new folder
    python docs/notebooks.py NAME ...   those alone, such as first_reply

A code cell is plain Python; its last expression is what it shows. Standard error, such as progress, is left out. So is
HTML of over 4,000 characters; its text stays. Cells with the tag `varies` show times, or numbers that another CPU
rounds otherwise; tests compare all others.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "notebooks"
LONGEST_HTML = 4000
VARIES = "varies"
# What stands before the cells in a script: each cell's text and last value are written as a line of JSON.
_OPENING = """
import contextlib, io, json, sys

class Cell:
    def __init__(self, lines):
        self.lines, self.value = lines, None

    def __enter__(self):
        self.text = io.StringIO()
        self.redirected = contextlib.redirect_stdout(self.text)
        self.redirected.__enter__()
        return self

    def __exit__(self, *error):
        self.redirected.__exit__(*error)
        html = self.value._repr_html_() if hasattr(self.value, "_repr_html_") else None
        value = None if self.value is None else repr(self.value)
        self.lines.write(json.dumps({"text": self.text.getvalue(), "value": value, "html": html}) + "\\n")

lines = open(sys.argv[1], "w", encoding="utf-8")
"""

Notebook = dict[str, Any]


def read(path: Path) -> Notebook:
    """A notebook as JSON has it."""
    notebook: Notebook = json.loads(path.read_text("utf-8"))
    return notebook


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """Its code cells in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def varies(cell: dict[str, Any]) -> bool:
    """Whether another run may show something else."""
    return VARIES in cell["metadata"].get("tags", ())


def script_of(notebook: Notebook) -> str:
    """A script that runs all code cells and writes what each shows to the file that its argument names."""
    parts = [_OPENING]
    for cell in code_cells(notebook):
        body = ast.parse("".join(cell["source"])).body
        if body and isinstance(body[-1], ast.Expr):
            shown = ast.Attribute(ast.Name("cell", ast.Load()), "value", ast.Store())
            body[-1] = ast.Assign([shown], body[-1].value, lineno=0)
        code = ast.unparse(ast.Module(body, [])) or "pass"
        parts.append("with Cell(lines) as cell:\n" + "\n".join(f"    {line}" for line in code.splitlines()))
    return "\n".join(parts) + "\nlines.close()\n"


def outputs_of(notebook: Notebook, folder: Path) -> list[list[dict[str, Any]]]:
    """What each code cell shows if the notebook runs in a folder, in a process of its own. Raises RuntimeError with the
    end of the traceback if a cell fails."""
    script, lines = folder / ".notebook.py", folder / ".notebook.jsonl"
    script.write_text(script_of(notebook), "utf-8")
    command = [sys.executable, script.name, lines.name]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(process.stderr[-2000:])
    shown = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    return [_outputs(number, cell) for number, cell in enumerate(shown, 1)]


def _outputs(number: int, shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell in the notebook's format (nbformat 4.5)."""
    outputs: list[dict[str, Any]] = []
    if shown["text"]:
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(shown["text"])})
    if shown["value"] is not None:
        data = {"text/plain": _lines(shown["value"])}
        if shown["html"] is not None and len(shown["html"]) <= LONGEST_HTML:
            data["text/html"] = _lines(shown["html"])
        outputs.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(names: Sequence[str]) -> None:
    """Runs notebooks and writes their outputs."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder:
            outputs = outputs_of(notebook, Path(folder))
        for number, (cell, shown) in enumerate(zip(code_cells(notebook), outputs, strict=True), 1):
            cell["outputs"], cell["execution_count"] = shown, number
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
        print(f"{path.name}: {len(outputs)} cells")


if __name__ == "__main__":
    main(sys.argv[1:])
