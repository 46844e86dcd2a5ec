"""A server that serves released models alone: which it refuses at its start, and what it says and does over HTTP."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lobby import MODEL, OTHER, Hall, configuration, open_hall
from pydantic import ValidationError

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest, Source
from charter.ground.artifact.release import RELEASE, Release, Released, digest_checkpoint, write_time
from charter.ground.artifact.store import record_files, write_manifest
from charter.ground.model.checkpoint import load_policy
from charter_service.api import opening
from charter_service.api.registry import Registry
from charter_service.commands.serve import _changed

DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def release(checkpoint: Path, folder: Path, made: float = -1, expires: float = 30) -> str:
    """Writes a release of a checkpoint, made and expiring so many days from now; gives its id."""
    record = Release(
        checkpoint=Released(id="0" * 64, digest=digest_checkpoint(checkpoint), step=checkpoint.name),
        lineage=[],
        requirements=[],
        evidence=[],
        rules={"max": {"harm_rate": 0.05}},
        signoffs=[],
        findings=[],
        made=write_time(now() + made * DAY),
        expires=write_time(now() + expires * DAY),
    )
    folder.mkdir(parents=True)
    (folder / RELEASE).write_text(record.model_dump_json())
    manifest = Manifest(
        kind="release",
        id="",
        status="done",
        step=folder.name,
        room="release",
        recipe="",
        resolved=record.model_dump(mode="json"),
        files=record_files(folder),
        source=Source(digest="code"),
    )
    manifest = manifest.model_copy(update={"id": manifest.derived_id})
    write_manifest(folder, manifest)
    return manifest.id


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.policy_folder(tmp_path_factory.mktemp("toy") / "rl")


@pytest.fixture
def run(toy: Path, tmp_path: Path) -> Path:
    """A run directory with a checkpoint and no release."""
    shutil.copytree(toy, tmp_path / "run" / "rl")
    return tmp_path / "run"


def asked(run: Path, released_only: bool = True, **model: Any) -> Any:
    """A server of the run's checkpoint, which the configuration's only model is."""
    models = [{"id": MODEL, "source": "rl", **model}]
    config = configuration(models=models, released_only=released_only)
    return open_hall(run.parent, config, checkpoints={"rl": run / "rl"})


def refused(run: Path, released_only: bool = True, **model: Any) -> str:
    with pytest.raises(CharterError) as error, asked(run, released_only, **model):
        pass
    words = str(error.value)
    assert words.startswith(f"{MODEL} is not served, for it has no valid release: ") and "\n" not in words
    return words


def client(hall: Hall) -> httpx2.Client:
    headers = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
    return httpx2.Client(base_url=hall.url, headers=headers, timeout=60)


def say(web: httpx2.Client, model: str = MODEL) -> httpx2.Response:
    body = {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}]}
    return web.post("/v1/messages", json=body)


def test_a_released_model_is_served_and_lists_show_its_release(run: Path) -> None:
    release(run / "rl", run / "release-old", made=-20, expires=3)
    identity = release(run / "rl", run / "release-new")
    with asked(run) as hall, client(hall) as web:
        for entry in (web.get("/v1/models").json()["data"][0], web.get(f"/v1/models/{MODEL}").json()):
            shown = entry["charter"]["release"]
            assert shown["id"] == identity, "the one that holds the longest"
            assert shown["made"] < write_time(now()) < shown["expires"]
        assert say(web).status_code == 200


def test_when_its_release_expires_a_running_server_refuses_the_model(run: Path) -> None:
    release(run / "rl", run / "release")
    with asked(run) as hall, client(hall) as web:
        assert say(web).status_code == 200
        (served,) = hall.service.registry.served
        assert served.release is not None
        late = served.release.release.model_copy(update={"expires": write_time(now())})
        hall.service.registry = Registry([replace(served, release=replace(served.release, release=late))])
        answer = say(web)
        assert answer.status_code == 404 and "release of toy-2 expired at" in answer.json()["error"]["message"]
        chat = web.post(
            "/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        )
        assert chat.status_code == 404
        assert web.get("/v1/models").json()["data"][0]["charter"]["release"]["expires"] == late.expires


def test_a_clock_that_was_set_back_prolongs_nothing(run: Path) -> None:
    release(run / "rl", run / "release")
    with asked(run) as hall, client(hall) as web:
        (served,) = hall.service.registry.served
        assert served.release is not None
        made = write_time(now() + datetime.timedelta(days=1))
        ahead = served.release.release.model_copy(update={"made": made})
        hall.service.registry = Registry([replace(served, release=replace(served.release, release=ahead))])
        assert say(web).status_code == 404 and "still to come" in say(web).json()["error"]["message"]


def test_without_the_setting_nothing_is_asked(run: Path) -> None:
    with asked(run, released_only=False) as hall, client(hall) as web:
        assert web.get("/v1/models").json()["data"][0]["charter"]["release"] is None
        assert say(web).status_code == 200


@pytest.mark.parametrize(
    ("made", "expires", "reason"),
    [(-20, -1, "expired at"), (1, 20, "still to come: check the clocks"), (-1, -1, "expires before it was made")],
)
def test_a_release_out_of_its_time_is_refused(run: Path, made: float, expires: float, reason: str) -> None:
    release(run / "rl", run / "release", made, expires)
    assert reason in refused(run)


def test_a_checkpoint_without_a_release_or_with_that_of_another_is_refused(run: Path) -> None:
    assert "there is none beside it" in refused(run)
    other = toys.policy_folder(run / "sl", 7)
    release(other, run / "release")
    assert "is of another checkpoint" in refused(run)


def test_changed_weights_lose_their_release_and_a_new_name_keeps_it(run: Path) -> None:
    release(run / "rl", run / "release")
    (run / "rl").rename(run / "other")
    with open_hall(
        run.parent,
        configuration(models=[{"id": OTHER, "source": "rl"}], released_only=True),
        checkpoints={"rl": run / "other"},
    ) as hall:
        assert [one.id for one in hall.service.registry.served] == [OTHER]
    (run / "other").rename(run / "rl")
    weights = next((run / "rl").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "is of another checkpoint" in refused(run)


def test_links_do_not_help(run: Path, tmp_path: Path) -> None:
    release(run / "rl", run / "release")
    weights = next((run / "rl").glob("*.safetensors"))
    kept = tmp_path / weights.name
    weights.rename(kept)
    weights.symlink_to(kept)
    assert "is a link, and what it leads to may change" in refused(run)
    # a link in the place of a released checkpoint leads to what it is: another one, without a release
    shutil.rmtree(run / "rl")
    (run / "rl").symlink_to(toys.policy_folder(tmp_path / "unreleased" / "rl", 7))
    assert "there is none beside it" in refused(run)
    assert "is of another checkpoint" in refused(run, release=str(run / "release"))


def test_an_edited_release_is_refused(run: Path) -> None:
    release(run / "rl", run / "release", expires=-0.5)
    file = run / "release" / RELEASE
    file.write_text(file.read_text().replace(write_time(now())[:4], "2999"))
    assert "was changed: release.json" in refused(run)


def test_an_id_kept_by_the_operator_refuses_a_forged_release(run: Path) -> None:
    identity = release(run / "rl", run / "release")
    with asked(run, released_only=False, release_id=identity[:12]) as hall, client(hall) as web:
        assert web.get(f"/v1/models/{MODEL}").json()["charter"]["release"]["id"] == identity
    shutil.rmtree(run / "release")
    release(run / "rl", run / "release", expires=3000)
    assert f"expected {identity[:12]}" in refused(run, released_only=False, release_id=identity[:12])


def test_a_release_may_lie_elsewhere(run: Path, tmp_path: Path) -> None:
    release(run / "rl", tmp_path / "kept" / "release")
    with asked(run, release="kept/release") as hall:
        assert hall.service.registry.served[0].release is not None
    assert "is not an artifact" in refused(run, release="kept/nothing")
    assert "was changed" in _damaged(tmp_path / "kept" / "release", run)


def _damaged(folder: Path, run: Path) -> str:
    (folder / RELEASE).unlink()
    return refused(run, release=str(folder))


@pytest.mark.parametrize("more", [{"backend": "http://127.0.0.1:1"}, {"weights_from": "there"}])
def test_what_no_release_can_hold_for_is_refused_in_the_configuration(more: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="so no release can hold for its weights"):
        configuration(models=[{"id": MODEL, "source": "rl", **more}], released_only=True)


def scores(web: httpx2.Client) -> list[float | None]:
    """The log-probabilities of a text by the model, which its weights decide."""
    body = {"model": MODEL, "prompt": "Hello bees", "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
    answer = web.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: list[float | None] = answer.json()["choices"][0]["logprobs"]["token_logprobs"]
    return found


@pytest.mark.parametrize("in_place", [True, False])
def test_files_swapped_while_it_serves_change_no_reply_and_are_refused_at_the_next_start(
    run: Path, tmp_path: Path, in_place: bool
) -> None:
    identity = release(run / "rl", run / "release")
    other = toys.policy_folder(tmp_path / "other" / "rl", 7)
    (tmp_path / "plain").mkdir()
    with (
        open_hall(
            tmp_path / "plain", configuration(models=[{"id": MODEL, "source": "rl"}]), checkpoints={"rl": other}
        ) as hall,
        client(hall) as web,
    ):
        swapped = scores(web)
    with asked(run) as hall, client(hall) as web:
        before = scores(web)
        assert before != swapped, "the two models say different things"
        for file in sorted(other.iterdir()):
            target = run / "rl" / file.name
            if in_place:
                with target.open("r+b") as kept:
                    kept.write(file.read_bytes())
                    kept.truncate()
            else:
                shutil.copy(file, tmp_path / file.name)
                (tmp_path / file.name).replace(target)
        shutil.rmtree(run / "release")
        assert scores(web) == before, "the released bytes are in memory"
        assert web.get(f"/v1/models/{MODEL}").json()["charter"]["release"]["id"] == identity
    assert "there is none beside it" in refused(run)
    release(run / "rl", run / "release")
    assert f"expected {identity[:12]}" in refused(run, release_id=identity[:12])


def test_files_swapped_while_it_is_opened_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(run / "rl", run / "release")

    def swap_and_load(folder: Path, device: str) -> Any:
        weights = next(folder.glob("*.safetensors"))
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        return load_policy(folder, device)

    monkeypatch.setattr(opening, "load_policy", swap_and_load)
    with pytest.raises(CharterError, match="was changed while it was opened; start again"), asked(run):
        pass


def test_the_command_takes_the_id_of_the_only_model() -> None:
    plain = configuration(models=[{"id": MODEL, "source": "rl"}])
    one = _changed(plain, False, "", False, "0123456789ab", False)
    assert one.models[0].release_id == "0123456789ab" and one.models[0].asks_release(one.released_only)
    assert not _changed(plain, False, "", False, "", False).models[0].asks_release(False)
    with pytest.raises(CharterError, match="release_id"):
        _changed(plain, False, "", True, "short", False)
    two = configuration(models=[{"id": name, "source": "rl"} for name in (MODEL, OTHER)])
    with pytest.raises(CharterError, match="--release-id is of one model"):
        _changed(two, False, "", True, "0123456789ab", False)
