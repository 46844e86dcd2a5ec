"""One process serves a database, and a killed one leaves no lock behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter_service.people.export import open_people
from charter_service.web.lock import serve_alone

SERVE = """
import sys, time
from charter_service.people.export import open_people
from charter_service.web.lock import serve_alone

engine = open_people(sys.argv[1])
serve_alone(engine)
print("served", flush=True)
time.sleep(600)
"""


def test_a_second_one_is_refused_until_the_first_ends(database: str) -> None:
    first, second = open_people(database), open_people(database)
    serve_alone(first)
    with pytest.raises(CharterError, match="is already served") as refused:
        serve_alone(second)
    assert "\n" not in str(refused.value)
    first.dispose()
    serve_alone(second)
    second.dispose()


def test_a_link_to_a_database_that_is_served_is_refused(tmp_path: Path) -> None:
    first = open_people("people.sqlite", tmp_path)
    serve_alone(first)
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "people.sqlite")
    second = open_people("link.sqlite", tmp_path)
    with pytest.raises(CharterError, match="is already served"):
        serve_alone(second)
    second.dispose()
    first.dispose()


def test_a_killed_process_leaves_no_lock(database: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVE, database], stdout=subprocess.PIPE, text=True)
    engine = open_people(database)
    try:
        assert process.stdout is not None and process.stdout.readline() == "served\n"
        with pytest.raises(CharterError, match="is already served"):
            serve_alone(engine)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    serve_alone(engine)
    engine.dispose()
