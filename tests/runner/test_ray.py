"""Workers of a local Ray make the artifacts of one process: the same ids and files, even if one is killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution
from charter.runner.company import Nobody
from charter.runner.fanout import fan_out, places, spread
from charter.runner.identity import package_folder

# a cluster takes a minute or two to come up
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCENES = Path(__file__).parent / "ray_scenes.py"
INSTALLED = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not INSTALLED, reason="ray is not installed: pip install 'charter[ray]'")


def environment() -> dict[str, str]:
    """One thread, and the sources that this process runs."""
    paths = f"{package_folder().parent}:{SCENES.parents[1]}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}


def scenes(folder: Path, checkpoints: Path, *names: str) -> dict[str, Any]:
    """The outcomes of scenes, which run in a process with its own Ray."""
    if not INSTALLED:
        pytest.skip("ray is not installed: pip install 'charter[ray]'")
    process = subprocess.run(
        [sys.executable, str(SCENES), str(folder), str(checkpoints), *names],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{package_folder().parent}:{SCENES.parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    outcomes: dict[str, Any] = json.loads(process.stdout)
    return outcomes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> dict[str, Any]:
    return scenes(tmp_path_factory.mktemp("ray"), checkpoints, "killed")


@pytest.mark.slow
def test_ids_files_and_metrics_are_those_of_one_process_though_a_worker_was_killed(outcomes: dict[str, Any]) -> None:
    alone, killed = outcomes["alone"], outcomes["killed"]
    assert set(alone["made"]) == {"labels", "report"} and alone["error"] is None
    assert killed["made"] == alone["made"] and killed["error"] is None
    assert alone["counted"][0] == 0 and sum(killed["counted"]) == sum(alone["counted"])
    losses = [note for note in killed["notes"] if "was lost" in note]
    assert len(losses) == 1 and losses[0].startswith("labels: a worker was lost (process ")
    assert "another replaces it" in losses[0]
    assert max(killed["workers"]) == 2 and alone["workers"][0] is None
    assert killed["left"] == killed["processes"] == []


@pytest.mark.slow
def test_the_threads_of_the_workers_are_recorded(outcomes: dict[str, Any]) -> None:
    assert [facts[2] for facts in outcomes["killed"]["made"].values()] == [1, 1]  # the leader has 2


@pytest.mark.slow
def test_finished_steps_are_reused_without_workers(outcomes: dict[str, Any]) -> None:
    assert outcomes["reused"]["notes"] == ["labels: reused", "report: reused"]
    assert outcomes["reused"]["workers"] == []


def test_a_local_ray_listens_on_the_loopback_interface_alone_and_ends_with_the_run(outcomes: dict[str, Any]) -> None:
    assert outcomes["listens"] == ["127.0.0.1"]
    assert outcomes["children"] == []


@pytest.mark.slow
def test_what_workers_refuse_and_their_end_are_one_line_and_chunks_are_kept(tmp_path: Path, checkpoints: Path) -> None:
    outcomes = scenes(tmp_path, checkpoints, "refused", "lost")
    refused, resumed, lost = outcomes["refused"], outcomes["resumed"], outcomes["lost"]
    assert refused["error"].startswith("step labels: ") and "\n" not in refused["error"]
    assert "does not see the run directory" in refused["error"]
    assert refused["processes"] == [] and refused["left"] == ["files", "manifest.json", "state"]
    assert resumed["made"]["labels"] == outcomes["alone"]["made"]["labels"]
    assert resumed["counted"][0] > 0 and sum(resumed["counted"]) == 10 + 4 + 10
    assert "2 workers were lost, the last: process " in lost["error"] and "\n" not in lost["error"]
    assert lost["made"] == {} and lost["processes"] == []


@pytest.mark.slow
@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_nothing_runs_on_when_the_process_that_leads_ends(
    sign: signal.Signals, code: int, tmp_path: Path, checkpoints: Path
) -> None:
    toys.rows_file(tmp_path / "prompts.jsonl", [toys.dialogue(f"p{n}", f"Help, {n}.") for n in range(90)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
        name: ended
        steps:
          - name: labels
            room: feedback
            from: {{policy: "{checkpoints / "policy"}", labeller: "{checkpoints / "other"}", prompts: ./prompts.jsonl}}
            settings: {{shots: 0, chunk: 1, max_tokens: 60, known_limit: 4}}
        """
    )
    command = [sys.executable, "-m", "charter", "run", str(recipe), "--out", str(tmp_path / "run")]
    process = psutil.Popen(
        [*command, "--ray", "local", "--workers", "2"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((tmp_path / "run").glob(".partial/labels/state/*.json")):
        time.sleep(0.05)
    started = process.children(recursive=True)
    assert any("raylet" in child.name() for child in started)
    process.send_signal(sign)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code, error[-2000:]
    assert "run the same command again" in error or sign == signal.SIGKILL
    _, alive = psutil.wait_procs(started, timeout=240)  # Ray's agents look for their parent now and then
    assert alive == []


@needs_ray
def test_claims_are_given_once_until_a_worker_is_lost() -> None:
    from charter.runner.ray_worker import Claims

    claims = Claims()
    claims.arrive("a", "machine", "name", 7)
    assert claims.claim("a", "drafts", 0) and claims.claim("a", "drafts", 0)
    assert not claims.claim("b", "drafts", 0) and claims.claim("b", "drafts", 1)
    assert claims.claim("b", "labels", 0)
    claims.free("a")
    assert claims.claim("b", "drafts", 0) and not claims.claim("a", "drafts", 1)
    assert claims.places() == {"a": ("machine", "name", 7)}


@needs_ray
def test_what_a_cluster_cannot_hold_is_refused() -> None:
    from charter.runner.ray_cluster import Cluster

    with pytest.raises(CharterError, match="--workers 9: Ray has 8 cores"):
        Cluster([(4, 0), (4, 0)], 9, Execution())
    with pytest.raises(CharterError, match="Ray has 0 GPUs"):
        Cluster([(4, 0)], 1, Execution("cuda", "bfloat16"))
    assert Cluster([(8, 2), (4, 1)], None, Execution("cuda", "bfloat16")).workers == 3


@needs_ray
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("here", "write local, auto, HOST:PORT or ray://HOST:PORT"),
        ("127.0.0.1:9", "nothing answers there"),
        ("ray://127.0.0.1:9", "nothing answers there"),
    ],
)
def test_an_address_without_a_ray_is_one_line(address: str, words: str) -> None:
    with pytest.raises(CharterError, match=words) as refused, fan_out(address, None, Execution(), Nobody()):
        pass
    assert "\n" not in str(refused.value) and str(refused.value).startswith(f"--ray {address}: ")


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(CharterError, match=r"--ray local needs ray, .* pip install .*\[ray\]'"),
        fan_out("local", None, Execution(), Nobody()),
    ):
        pass


def test_workers_belong_to_ray_and_torchrun_to_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(CharterError, match="--workers counts the workers of --ray"),
        fan_out(None, 2, Execution(), Nobody()),
    ):
        pass
    others = Nobody()
    with fan_out(None, None, Execution(), others) as members:
        assert members is others
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(CharterError, match="--ray and torchrun can't work on a run at once"),
        fan_out("local", None, Execution(), others),
    ):
        pass


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [
        ([2], None, (2, 1)),
        ([2], 1, (1, 2)),
        ([8, 8], 3, (3, 4)),
        ([8, 8], 4, (4, 4)),
        ([1, 6], 2, (2, 3)),
        ([2], 3, (3, 1)),
    ],
)
def test_cores_are_spread_over_workers(cores: list[int], workers: int | None, expected: tuple[int, int]) -> None:
    count, each = spread(cores, workers)
    assert (count, each) == expected
    assert places(cores, each) >= count or each == 1
    assert places(cores, each + 1) < count
