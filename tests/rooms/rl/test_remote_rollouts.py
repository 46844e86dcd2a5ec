"""rl with a server that writes the replies: `charter serve` on this machine, by the same client that drives vLLM."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from pydantic import ValidationError

sys.path.append(str(Path(__file__).parents[2] / "service" / "api"))

from lobby import configuration, until

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.remote import RemoteAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy, named_tensors
from charter.ground.settings.execution import Execution
from charter.ground.settings.frozen import Lora
from charter.ground.settings.room import Sizes
from charter.rooms.rl import run as room
from charter.rooms.rl.remote import Gap, gap_of, importance
from charter.rooms.rl.rollout import Reply
from charter.rooms.rl.settings import Keep, Rollout, Server, Settings, estimate
from charter_service.api.app import make_app
from charter_service.api.local import LocalBackend
from charter_service.api.opening import open_service
from charter_service.web.listening import listen
from quick_server import QuickServer
from toys import dialogue, user

STRICT = {"tolerance": 1e-4}


class Loopback:
    """A server of the toy policy at one address, which can be ended in the middle of an answer and started again; it
    then knows nothing of weights that it was given."""

    def __init__(self, folder: Path, policy: Path) -> None:
        self.folder, self.policy, self.port = folder, policy, 0
        self.starts = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def backend(self) -> LocalBackend:
        backend = self.service.registry.served[0].backend
        assert isinstance(backend, LocalBackend)
        return backend

    def start(self) -> None:
        model = {"id": "policy", "source": "policy", "weights_from": str(self.folder)}
        config = configuration(models=[model], authenticate=False)
        self.bound = listen("127.0.0.1", self.port)
        self.port, self.starts = self.bound.getsockname()[1], self.starts + 1
        sources = {"policy": toys.policy(self.policy)}
        self.service = open_service(config, self.folder, sources, Execution())
        settings = uvicorn.Config(
            make_app(self.service), access_log=False, log_level="critical", timeout_graceful_shutdown=0
        )
        self.server = QuickServer(settings)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.bound])))
        self.thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()
        self.bound.close()
        self.service.close()


@pytest.fixture
def loopback(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("no_proxy", "*")
    server = Loopback(tmp_path, checkpoints / "policy")
    yield server
    server.stop()


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    dialogues = [dialogue(f"p{n}", f"Ask number {n}?", "Unused.") for n in range(5)]
    prompts = toys.rows_file(tmp_path / "prompts.jsonl", dialogues)
    source = toys.given("prompts", prompts)
    return Inputs([toys.policy(checkpoints / "policy"), toys.preference(checkpoints / "reward"), source])


def settings_of(url: str | None, lora: Lora | None = None, **sampler: Any) -> Settings:
    chosen = None if url is None else Server(url=url, **({"away": 30.0} | STRICT | sampler))
    rollout = Rollout(prompts=4, replies=2, max_tokens=8, sampler=chosen)
    lr = 1e-2 if lora else 2e-3
    return Settings(steps=3, lr=lr, rollout=rollout, microbatch_tokens=256, lora=lora, save_every=1)


class Told:
    """Progress that keeps what it is told, and stops at the n-th advance."""

    def __init__(self, after: int = 0) -> None:
        self.notes: list[str] = []
        self.bars = toys.StoppingProgress(after)

    def bar(self, description: str, total: int, done: int = 0) -> toys.StoppingProgress:
        return self.bars

    def note(self, text: str) -> None:
        self.notes.append(text)


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return out.path


def same(one: Path, other: Path) -> None:
    """Equal to the bit, but for how far the server's numbers lay from training's: what it reads together rounds them."""
    first, second = toys.files_of(one), toys.files_of(other)
    assert first.pop("log.jsonl") and second.pop("log.jsonl") and first == second
    for before, after in zip(read_log(one), read_log(other), strict=True):
        for name in ("sampling_gap", "sampling_gap_max"):
            assert before.pop(name) == pytest.approx(after.pop(name), abs=1e-5)
        assert before == after


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_a_server_learns_what_an_engine_here_does(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, lora: Lora | None
) -> None:
    here = run_room(settings_of(None, lora), inputs, tmp_path / "here")
    there = run_room(settings_of(loopback.url, lora), inputs, tmp_path / "there")
    own, remote = read_log(here), read_log(there)
    assert len(own) == len(remote) == 4 and abs(own[-1]["kl"]) > 0.05, "the policy moves"
    for before, after in zip(own, remote, strict=True):
        assert 0 <= after["sampling_gap"] <= after["sampling_gap_max"] < 1e-4 and after["importance"] == 1
        for name in ("reward", "tokens", "kl", "loss", "entropy", "explained_variance"):
            assert after.get(name) == pytest.approx(before.get(name), abs=1e-4), (name, after["step"])
    mine, theirs = load_policy(here)[0], load_policy(there)[0]
    assert torch.allclose(mine.embed, theirs.embed, atol=1e-4)
    names = sorted(p.name for p in (tmp_path / "there/state/weights").iterdir())
    assert [name[:6] for name in names] == ["000002", "000003"], "the last two versions are kept"
    assert loopback.backend.version == names[-1]
    kept = [p.name for p in (tmp_path / "there/state").glob("rollout-*")]
    assert kept == ["rollout-000003-00000.json"], "replies of rounds behind the resume state are dropped"


def test_without_a_critic_and_with_held_out_prompts_a_server_does_alike(
    loopback: Loopback, inputs: Inputs, checkpoints: Path, tmp_path: Path
) -> None:
    dialogues = [dialogue(f"h{n}", f"Ask held-out number {n}?", "Unused.") for n in range(3)]
    heldout = toys.given("heldout_prompts", toys.rows_file(tmp_path / "heldout.jsonl", dialogues))
    chosen = Inputs([*inputs, toys.preference(checkpoints / "grader", "heldout_reward"), heldout])
    changes = {"baseline": "others", "keep": Keep(round="best", every=1)}
    own, remote = (
        read_log(run_room(settings_of(url).model_copy(update=changes), chosen, tmp_path / name))
        for name, url in (("here", None), ("there", loopback.url))
    )
    for before, after in zip(own, remote, strict=True):
        for name in ("reward", "kl", "loss", "entropy", "check_reward", "kept_round"):
            assert after.get(name) == pytest.approx(before.get(name), abs=1e-4), (name, after["step"])
    kept = sorted(p.name for p in (tmp_path / "there/state").glob("rollout-*"))
    assert kept == ["rollout-000003-00000.json", "rollout-000003-heldout-00000.json"]


def test_a_server_that_keeps_stale_weights_is_caught(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "renew", lambda engine, weights: None)  # it says that it has them, and has not
    with pytest.raises(CharterError, match=r"disagree by .* nats a token .* other weights than it got"):
        run_room(settings_of(loopback.url), inputs, tmp_path / "out")
    assert [row["step"] for row in read_log(tmp_path / "out/files")] == [0], "the start's are right"


def test_beyond_the_tolerance_tokens_are_weighted_where_that_is_asked(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "renew", lambda engine, weights: None)
    log = read_log(run_room(settings_of(loopback.url, beyond="correct"), inputs, tmp_path / "out"))
    assert log[0]["importance"] == 1 and log[0]["sampling_gap"] < 1e-4
    assert all(row["sampling_gap"] > 1e-4 and 0 < row["importance"] != 1 for row in log[1:])


def counted(monkeypatch: pytest.MonkeyPatch, at: int, do: Callable[[], None]) -> None:
    """Does something once, in the engine's thread, in the middle of a reply: at the n-th step that all engines behind a
    server make."""
    real, steps = Engine.write, []

    def step(engine: Engine) -> Any:
        if threading.current_thread().name == "charter-engine":
            steps.append(1)
            if len(steps) == at:
                do()
        return real(engine)

    monkeypatch.setattr(Engine, "write", step)


def test_a_server_that_is_ended_in_the_middle_and_started_again_changes_nothing(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(loopback.url)
    whole = run_room(settings, inputs, tmp_path / "whole")

    def restart() -> None:
        loopback.stop()
        loopback.start()

    helper, serving = threading.Thread(target=restart), loopback.thread

    def end() -> None:
        """The reply under way waits until nobody would be told of it."""
        helper.start()
        serving.join(10)

    counted(monkeypatch, 12, end)
    told = Told()
    same(run_room(settings, inputs, tmp_path / "again", told), whole)
    helper.join()
    assert loopback.starts == 2
    words = " ".join(told.notes)
    assert "trying again for up to 30 seconds" in words or "it gets them again" in words


def test_weights_that_somebody_else_gave_are_noticed_and_asked_anew(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(loopback.url)
    whole = run_room(settings, inputs, tmp_path / "whole")
    other = toys.model(3)

    def intrude() -> None:
        backend = loopback.backend
        backend._assistant.engine.renew(named_tensors(other))
        backend.version = "another-run"

    counted(monkeypatch, 12, intrude)
    told = Told()
    same(run_room(settings, inputs, tmp_path / "again", told), whole)
    assert any("it gets them again, and the requests are repeated" in note for note in told.notes)


def test_a_run_that_was_stopped_learns_from_the_very_replies_it_had(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(loopback.url)
    whole = run_room(settings, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):  # right after the second round's replies were saved
        run_room(settings, inputs, tmp_path / "broken", Told(after=3))
    saved = tmp_path / "broken/state/rollout-000001-00000.json"
    rows = json.loads(saved.read_text())["rows"]
    real = LocalBackend.stream
    prompts: list[Any] = []

    def stream(self: LocalBackend, prompt: Any, *rest: Any) -> Any:
        prompts.append(prompt)
        return real(self, prompt, *rest)

    monkeypatch.setattr(LocalBackend, "stream", stream)
    same(run_room(settings, inputs, tmp_path / "broken"), whole)
    assert len(rows) == 4 and len(prompts) == 8, "of four rounds two were asked for again"


def test_other_rooms_may_ask_the_server_for_what_it_was_given(
    loopback: Loopback, inputs: Inputs, tmp_path: Path
) -> None:
    product = run_room(settings_of(loopback.url), inputs, tmp_path / "out")
    questions, greedy = [[user("What do you say now?")]], Sampling(temperature=0, max_tokens=12)
    there = RemoteAssistant(f"openai:{loopback.url}#policy").reply(questions, greedy)
    assert there[0][0].text == LocalAssistant.open(product).reply(questions, greedy)[0][0].text
    (newest,) = (tmp_path / "out/state/weights").glob("000003-*")
    assert LocalAssistant.open(newest).reply(questions, greedy)[0][0].text == there[0][0].text


def test_a_server_that_never_comes_back_ends_the_run_in_one_line(
    loopback: Loopback, inputs: Inputs, tmp_path: Path
) -> None:
    settings = settings_of(f"http://127.0.0.1:{_free()}", away=0.3)
    with pytest.raises(CharterError, match=r"^http://\S+ can't be used .*; is the server running\?$"):
        run_room(settings, inputs, tmp_path / "out")


def _free() -> int:
    with listen("127.0.0.1", 0) as bound:
        port: int = bound.getsockname()[1]
        return port


def test_weights_that_the_server_may_not_read_are_refused_by_their_place(
    loopback: Loopback, inputs: Inputs, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("elsewhere")
    settings = settings_of(loopback.url, folder=str(outside))
    with pytest.raises(CharterError, match=r"answered 403: .*new weights must be below .*and be started with"):
        run_room(settings, inputs, tmp_path / "out")


def test_the_server_may_name_the_folder_otherwise(loopback: Loopback, inputs: Inputs, tmp_path: Path) -> None:
    seen = tmp_path / "mounted"
    seen.symlink_to(tmp_path / "shared")
    (tmp_path / "shared").mkdir()
    settings = settings_of(loopback.url, folder=str(tmp_path / "shared"), there=str(seen))
    run_room(settings.model_copy(update={"steps": 1}), inputs, tmp_path / "out")
    newest = tmp_path / "shared" / loopback.backend.version
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in newest.iterdir()), "others may read them"


def test_weights_that_cannot_be_written_are_told_in_one_line(
    loopback: Loopback, inputs: Inputs, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = settings_of(loopback.url, folder=str(tmp_path / "file/weights"))
    with pytest.raises(CharterError, match=r"^the policy's weights can't be written to .*make room there, or"):
        run_room(settings, inputs, tmp_path / "out")


def reply(trained: list[float], sampled: list[float]) -> Reply:
    ids = list(range(len(trained)))
    return Reply(ids, "", "length", trained, [0.0] * len(ids), sampled=sampled)


def test_the_gap_and_the_weights_of_importance_by_hand() -> None:
    replies = [reply([-1.0, -2.0], [-1.5, -2.0]), reply([-3.0], [-2.0])]
    gap = gap_of(replies)
    assert gap == Gap(pytest.approx(0.5), pytest.approx(1.0))
    sampler = Server(url="http://127.0.0.1:1", beyond="correct", truncate=1.5)
    weights = importance(replies, sampler)
    assert weights is not None  # exp(0.5) is cut at 1.5, equal ones weigh 1, exp(-1) stays
    assert weights.tolist() == pytest.approx([1.5, 1.0, 0.36787945])
    assert importance(replies, sampler.model_copy(update={"tolerance": 0.5})) is None


def test_importance_makes_means_over_the_servers_tokens_means_over_the_policys() -> None:
    """Over all tokens, each as often as the server writes it: sum mu min(pi / mu, C) f = sum pi f where no C cuts."""
    generator = torch.Generator().manual_seed(4)
    pi, mu = (torch.randn(50, generator=generator).log_softmax(0) for _ in range(2))
    f = torch.randn(50, generator=generator)
    sampler = Server(url="http://127.0.0.1:1", beyond="correct", truncate=1e6)
    weights = importance([reply(pi.tolist(), mu.tolist())], sampler)
    assert weights is not None
    assert float((mu.exp() * weights * f).sum()) == pytest.approx(float((pi.exp() * f).sum()), abs=1e-5)
    assert abs(float((mu.exp() * f).sum()) - float((pi.exp() * f).sum())) > 0.01


def test_senseless_samplers_are_refused() -> None:
    with pytest.raises(ValidationError, match="takes adapters needs lora"):
        Settings(rollout=Rollout(sampler=Server(url="http://127.0.0.1:1", weights="lora")))
    for url in ("127.0.0.1:8000", "ftp://host", "http://", "http://u:secret@host"):
        with pytest.raises(ValidationError, match="is no address of a server"):
            Server(url=url)


def test_a_plan_counts_no_time_for_replies_that_are_written_elsewhere() -> None:
    sizes = Sizes(parameters={"policy": 10**8})
    here, there = (estimate(settings_of(url), sizes) for url in (None, "http://127.0.0.1:1"))
    assert there.minutes < here.minutes and there.disk_gib > here.disk_gib
