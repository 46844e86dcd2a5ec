"""Data sets on the hub: subpaths are pinned, a laid-out cache is read offline, and each failure is one line."""

import errno
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.settings import hub
from charter.ground.settings.hub import fetch, fetch_input, pin
from charter.ground.settings.room import Role
from charter.ground.settings.sources import resolve
from charter.ground.text.records import read_comparisons

COMMIT = "0123456789" * 4
HH = {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go away"}
PINNED = f"hf:own/set@{COMMIT}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot folder of a data set, in the layout of the hub's client, with the client offline."""
    place = tmp_path / "datasets--own--set"
    snapshot = place / "snapshots" / COMMIT
    for folder in (place / "refs", place / "blobs", snapshot / "harmless-base", snapshot / "notes"):
        folder.mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "blobs" / "b1").write_bytes(gzip.compress((json.dumps(HH) + "\n").encode()))
    (snapshot / "harmless-base" / "test.jsonl.gz").symlink_to("../../../blobs/b1")
    (snapshot / "notes" / "README.md").write_text("notes")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def hub_input(ref: str, role: str = "comparisons") -> Input:
    return Input(role, ref, "hub", None, None, ref, "digest")


def test_a_downloaded_data_set_is_read_offline(cache: Path) -> None:
    source = resolve("hf:own/set#harmless-base/test.jsonl.gz", hub_kind="dataset")
    assert source.ref == f"{PINNED}#harmless-base/test.jsonl.gz" and source.path is None
    entry = fetch_input(hub_input(source.ref), Role("comparisons"))
    assert entry.path == cache / "harmless-base" / "test.jsonl.gz"
    assert (entry.kind, entry.ref, entry.id) == ("comparisons", source.ref, "digest")
    (row,) = read_comparisons(entry.folder)
    assert (row.id, row.chosen, row.axis) == ("test-00001", "hello", "harmless")
    folder = fetch_input(hub_input(f"{PINNED}#harmless-base"), Role("comparisons"))
    assert (folder.path, folder.kind) == (cache / "harmless-base", "data")
    assert read_comparisons(folder.folder) == [row]
    (cache / "top.csv").write_text("prompt\nq\n")
    assert fetch(PINNED) == cache


def test_the_digest_differs_by_subpath_and_not_by_spelling(cache: Path) -> None:
    refs = ("hf:own/set", "hf:own/set#harmless-base", "hf:own/set#harmless-base/test.jsonl.gz", "hf:own/set#x")
    assert len({resolve(ref).digest for ref in refs}) == len(refs)
    assert resolve("hf:own/set@main#harmless-base/").digest == resolve(f"{PINNED}#harmless-base").digest


def test_other_inputs_pass_as_they_are(tmp_path: Path) -> None:
    model = hub_input(f"hf:own/model@{COMMIT}", "policy")
    assert fetch_input(model, Role("checkpoint", "policy")) is model
    local = Input("comparisons", "x", "comparisons", None, tmp_path, "x", "digest")
    assert fetch_input(local, Role("comparisons")) is local


@pytest.mark.parametrize(
    ("ref", "kind", "problem"),
    [
        ("hf:own/set#", None, "write hf:owner/name"),
        ("hf:own/set#../x.jsonl", None, "a path inside the data set"),
        ("hf:own/set#/x.jsonl", None, "a path inside the data set"),
        ("hf:own/set#x.jsonl", "model", "name a model without it"),
        ("hf:own/other#x.jsonl", None, "is not downloaded and the hub cannot be reached"),
        ("hf:own/set", "model", "is not downloaded and the hub cannot be reached"),
    ],
)
def test_names_that_cannot_be_pinned(cache: Path, ref: str, kind: Any, problem: str) -> None:
    with pytest.raises(CharterError, match=problem) as caught:
        pin(ref, kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "role", "problem"),
    [
        (f"{PINNED}#harmless-base/none.jsonl", "comparisons", "no rows at harmless-base/none.jsonl .offline"),
        (f"{PINNED}#notes", "comparisons", "no rows at notes"),
        (PINNED, "comparisons", "no rows at the top of the data set"),
        (f"hf:own/set@{'f' * 40}#x.jsonl", "comparisons", "not downloaded and the hub cannot be reached"),
        (f"{PINNED}#harmless-base/test.jsonl.gz", "triples", "takes triples, and .* is comparisons"),
    ],
)
def test_what_cannot_be_fetched_offline(cache: Path, ref: str, role: str, problem: str) -> None:
    with pytest.raises(CharterError, match=problem) as caught:
        fetch_input(hub_input(ref, role), Role(role))
    assert "\n" not in str(caught.value)


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind(f"{status}\nfor url", response=response)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (answer(GatedRepoError, 403), "hf auth login"),
        (answer(RepositoryNotFoundError, 401), "hf auth login"),
        (answer(RepositoryNotFoundError, 404), "check the name and the revision"),
        (answer(HfHubHTTPError, 500), "cannot be reached .HfHubHTTPError"),
        (LocalEntryNotFoundError("no\nconnection"), "go online or name a local file"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "go online or name a local file"),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str) -> None:
    calls: list[Any] = []

    def refuse(repo: str, **asking: Any) -> str:
        calls.append((repo, asking))
        raise error

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CharterError, match=problem) as caught:
        fetch(f"{PINNED}#a[1].jsonl")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(PINNED)
    with pytest.raises(CharterError):
        fetch(f"{PINNED}#a")
    (repo, one), (_, folder) = calls
    assert (repo, one["repo_type"], one["revision"], one["allow_patterns"]) == (
        "own/set",
        "dataset",
        COMMIT,
        ["a[[]1].jsonl"],
    )
    assert "a/*.jsonl.gz" in folder["allow_patterns"] and folder["ignore_patterns"] == ["a/*/*"]


def test_a_refusal_behind_a_missing_file_is_told_and_a_full_disk_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(repo: str, **_: Any) -> str:
        raise LocalEntryNotFoundError("not cached") from answer(HfHubHTTPError, 403)

    def full(repo: str, **_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CharterError, match="hf auth login"):
        fetch(PINNED)
    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(PINNED)


@pytest.mark.parametrize(
    ("model", "dataset", "problem"),
    [
        (answer(RepositoryNotFoundError, 404), answer(RepositoryNotFoundError, 404), "was not found on the hub"),
        (answer(RepositoryNotFoundError, 404), answer(GatedRepoError, 403), "was refused by the hub .403.: check"),
        (ConnectionError(), ConnectionError(), "the hub cannot be reached .ConnectionError.: go online"),
        (answer(RepositoryNotFoundError, 404), ConnectionError(), "the hub cannot be reached"),
    ],
)
def test_a_wrong_name_a_closed_one_and_no_network_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Exception, dataset: Exception, problem: str
) -> None:
    def refuse(error: Exception) -> Any:
        def ask(*_: object, **__: object) -> None:
            raise error

        return staticmethod(ask)

    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    hub_client = type("Client", (), {"model_info": refuse(model), "dataset_info": refuse(dataset)})
    monkeypatch.setattr(hub.huggingface_hub, "HfApi", hub_client)
    with pytest.raises(CharterError, match=problem):
        pin("hf:own/name")


def test_a_private_name_is_told_when_it_is_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Closed:
        def dataset_info(self, *_: object, **__: object) -> None:
            raise answer(RepositoryNotFoundError, 401)

        model_info = dataset_info

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.huggingface_hub, "HfApi", Closed)
    with pytest.raises(CharterError, match="hf auth login"):
        pin("hf:own/private#a.jsonl")
