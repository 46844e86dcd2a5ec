"""The view: what more a sandbox is told to show, and nothing beside it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Sandbox, run
from charter.ground.sandbox.view import View

LOOKS = """
import os, sys
sys.path[:0] = sys.argv[1:]
import shown.module
print(shown.module.WORDS, os.listdir(os.path.dirname(shown.__path__[0])))
try:
    open(os.path.join(shown.__path__[0], "new"), "w")
except OSError as error:
    print(error.strerror)
"""


def test_a_folder_is_shown_read_only_and_none_beside_it(box: Sandbox, tmp_path: Path) -> None:
    for name in ("shown", "beside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text("WORDS = 'here'")
    view = box.view.showing(tmp_path / "shown", tmp_path / "shown" / "module.py")
    command = [view.python, "-I", "-S", "-c", LOOKS, str(tmp_path)]
    ended = run(replace(box, view=view), command, {}, Limits())
    assert ended.stdout.splitlines() == ["here ['shown']", "Read-only file system"], ended.stderr


def test_a_package_beside_the_library_shows_the_folder_that_is_hidden_else() -> None:
    view = View(sys.executable, ("/a/lib",), (), ("/a/lib/python3/site-packages", "/a/lib/x/dist-packages"))
    changed = view.showing(Path("/a/lib/python3/site-packages/lxml"), Path("/b/c"))
    assert (changed.shown, changed.hidden) == (("/a/lib", "/b/c"), ("/a/lib/x/dist-packages",))
