"""The room: what comes out, that cutting and stopping change nothing, spikes planted in the text, what is refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pretrain_world as world
import pytest
import torch

import toys
from charter.ground.artifact.curves import read_log, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.generation import generation_at, read_generation
from charter.ground.model.layout import documents
from charter.ground.settings.seed import derive_seed
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import train_tokenizer
from charter.rooms.pretrain.guard import Place, Watch
from charter.rooms.pretrain.learner import Learner
from charter.rooms.pretrain.order import Cursor, Pieces
from charter.rooms.pretrain.run import run
from charter.rooms.pretrain.settings import Guard, Samples, Settings
from charter.rooms.pretrain.size import Learning, Sizing
from charter.rooms.pretrain.speed import SPEED
from charter.rooms.pretrain.start import boundary_of, open_start
from charter.rooms.pretrain.writing import format_count
from reported import scores

TRAIN, HELDOUT = world.texts(120), world.texts(12, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.corpus_folder(tmp_path_factory.mktemp("toy") / "corpus", TRAIN, HELDOUT)


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of twelve steps."""
    out = toys.workspace(tmp_path_factory.mktemp("finished"))
    run(world.settings(), world.inputs(folder), out)
    return out


def run_room(settings: Settings, inputs: Inputs, place: Path, progress: Any = None) -> Path:
    out = toys.workspace(place, progress=progress)
    run(settings, inputs, out)
    return out.path


def files(path: Path) -> dict[str, str]:
    """What a run made, but for how fast it was."""
    return {name: digest for name, digest in toys.files_of(path).items() if name != SPEED}


def test_the_product_is_a_checkpoint_that_stock_transformers_loads(finished: Workspace) -> None:
    transformers = pytest.importorskip("transformers")
    model, tokenizer = load_policy(finished.path)
    assert model.shape.qk_norm and tokenizer.digest == toys.tokenizer().digest
    stock = transformers.AutoModelForCausalLM.from_pretrained(finished.path, dtype=torch.float32)
    ids = torch.tensor(tokenizer.encode_document("the cat sat"))
    with torch.no_grad():
        ours = model.logits(model.hidden(ids, documents([len(ids)])))
        assert torch.allclose(ours, stock(ids[None]).logits[0], atol=1e-4)


def test_it_learns_and_says_so(finished: Workspace) -> None:
    rows = read_log(finished.path)
    assert [row["step"] for row in rows] == list(range(12))
    assert rows[0]["loss"] == pytest.approx(math.log(toys.VOCABULARY), abs=0.2)
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    measured = {row["step"]: row["bits_per_byte"] for row in rows if "bits_per_byte" in row}
    assert list(measured) == [3, 7, 11] and measured[11] < measured[7] < measured[3]
    counts = json.loads((finished.path / "counts.json").read_text())
    last = rows[-1]["tokens"]
    assert last < counts["tokens_learnt"] <= last + 256 + 32 and counts["spikes"] == counts["rollbacks"] == 0
    texts = read_objects(finished.path / "samples" / "written-00000008.jsonl")
    assert [row["prompt"] for row in texts] == ["the cat"] and texts[0]["text"]
    assert (finished.path / "curve.svg").read_text().count("<path") > 4
    speeds = read_objects(finished.path / SPEED)
    assert [row["step"] for row in speeds] == list(range(12))
    assert all(row["tokens_per_second"] > 0 and 0 < row["mfu"] < 1 and row["peak_gib"] > 0.05 for row in speeds)


def test_bits_per_byte_is_that_of_whole_texts_read_one_by_one(finished: Workspace, folder: Path) -> None:
    """Against a loop over documents and pieces that knows nothing of rows."""
    model, tokenizer = load_policy(finished.path)
    shards, context = TokenShards.open(folder, "heldout"), 32
    rows = read_objects(finished.path / "samples" / "text.jsonl")
    assert 2 <= len(rows) < len(HELDOUT), "at most final_tokens"
    for row in rows:
        document = int(row["id"].split("-")[1])
        ids = [boundary_of(tokenizer), *shards.read(document).tolist()]
        nats = 0.0
        for at in range(0, len(ids), context):
            piece, after = torch.tensor(ids[at : at + context]), ids[at + 1 : at + context + 1]
            with torch.no_grad():
                logs = model.logits(model.hidden(piece, documents([len(piece)]))).log_softmax(-1)
            nats -= float(logs[range(len(after)), after].double().sum())
        assert row["nats"] == pytest.approx(nats, rel=1e-5)
        assert row["bytes"] == len(HELDOUT[document].encode()) and row["tokens"] == len(ids) - 1
    total = sum(row["nats"] for row in rows) / math.log(2) / sum(row["bytes"] for row in rows)
    assert finished.metrics[0].name == "bits_per_byte", "what stands for the step where no interval can be made"
    values = {metric.name: metric for metric in finished.metrics}
    assert values["bits_per_byte"].value == pytest.approx(total) and values["bits_per_byte"].low is not None


def test_every_metric_is_explained_and_has_a_source(finished: Workspace) -> None:
    readme = (Path(run.__code__.co_filename).parent / "README.md").read_text()
    counts = json.loads((finished.path / "counts.json").read_text())
    sources = counts | {score.name: score.value for score in scores(finished.path)}
    sources["loss"] = read_log(finished.path)[-1]["loss"]
    names = {metric.name for metric in finished.metrics}
    assert names >= {"bits_per_byte", "bits_per_byte language fr", "bits_per_byte source notes", "loss"}
    for metric in finished.metrics:
        assert metric.value == pytest.approx(sources[metric.name])
        shown = " ".join([*metric.name.split()[:2], "X"]) if " " in metric.name else metric.name
        assert f"`{shown}`" in readme, metric.name
    for key in set().union(*read_log(finished.path)):
        assert f"`{key}`" in readme or key == "step", key


def test_a_step_is_the_same_however_it_is_cut(folder: Path, tmp_path: Path) -> None:
    plain = world.settings(4)
    whole, parts = (
        run_room(
            plain.model_copy(update={"learning": plain.learning.model_copy(update=change)}), world.inputs(folder), at
        )
        for change, at in (
            ({"microbatch_tokens": 512}, tmp_path / "whole"),
            ({"microbatch_tokens": 40}, tmp_path / "parts"),
        )
    )
    for one, other in zip(read_log(whole), read_log(parts), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_the_first_gradient_is_that_of_documents_read_alone(folder: Path, tmp_path: Path) -> None:
    """The loss of step 0 by hand: each piece of the first batch in a forward pass of its own."""
    settings = world.settings(1)
    out = toys.workspace(tmp_path / "out")
    with pytest.raises(toys.Interrupted):  # its state of step 0 holds the first weights
        run(settings, world.inputs(folder), toys.workspace(tmp_path / "cut", progress=toys.StoppingProgress(1)))
    run(settings, world.inputs(folder), out)
    row = read_log(out.path)[0]
    assert row["tokens"] == 0 and row["lr"] == pytest.approx(0.02 * 0.5), "the only step of a fall to 0"
    model, tokenizer = _first_model(settings, folder, tmp_path / "first")
    pieces = Pieces([TokenShards.open(folder, "train")], 32, boundary_of(tokenizer))
    batch, _ = pieces.take(Cursor(), 256, _order_seed())
    nats = 0.0
    for piece in batch:
        ids = torch.from_numpy(pieces.ids(piece))
        with torch.no_grad():
            logs = model.logits(model.hidden(ids[:-1], documents([piece.length]))).log_softmax(-1)
        nats -= float(logs[range(piece.length), ids[1:]].sum())
    assert row["loss"] == pytest.approx(nats / sum(p.length for p in batch), abs=1e-5)


def _order_seed() -> int:
    return derive_seed(5, "order")


def _first_model(settings: Settings, folder: Path, place: Path) -> tuple[Any, Any]:
    start = open_start(settings, world.inputs(folder), toys.workspace(place))
    return start.model, start.tokenizer


@pytest.mark.parametrize("stop", [1, 3, 5, 8, 12])
def test_stopped_anywhere_and_resumed_is_bit_equal(
    finished: Workspace, folder: Path, tmp_path: Path, stop: int
) -> None:
    with pytest.raises(toys.Interrupted):
        run_room(world.settings(), world.inputs(folder), tmp_path / "cut", toys.StoppingProgress(stop))
    again = run_room(world.settings(), world.inputs(folder), tmp_path / "cut")
    assert files(again) == files(finished.path)
    assert [row["step"] for row in read_objects(again / SPEED)] == list(range(12))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_many_epochs_are_learnt_by_heart(tmp_path: Path, optimizer: Any) -> None:
    """Learning works: two sentences become nearly certain, which no wrong target, mask or order would allow."""
    few = world.corpus_folder(tmp_path / "few", world.texts(2, 3), HELDOUT)
    learning = Learning(steps=60, batch_tokens=160, optimizer=optimizer, lr=0.01, warmup=0.1)
    if optimizer == "adamw":
        learning = learning.model_copy(update={"matrix_lr": 0.01})
    settings = world.settings(learning=learning, samples=Samples(prompts=()))
    path = run_room(settings, world.inputs(few), tmp_path / "out")
    assert read_log(path)[-1]["loss"] < 0.5 and read_log(path)[-1]["epoch"] > 5


def _noisy(tmp_path: Path, documents: int, patience: int) -> tuple[Settings, Inputs]:
    """A corpus of one sentence, learnt by heart, with some documents of noise among it."""
    draw = random.Random(4)
    noise = ["".join(draw.choices("zqxjkvw#@%&", k=60)) for _ in range(documents)]
    texts = ["the old grey cat sat on a warm stone"] * 200 + noise
    draw.shuffle(texts)
    settings = world.settings(
        learning=Learning(steps=40, batch_tokens=32, lr=0.02, matrix_lr=0.1, warmup=0.0, decay=0.0),
        samples=Samples(prompts=()),
        guard=Guard(history=4, patience=patience, loss_factor=5.0, norm_factor=1000.0),
    )
    return settings, world.inputs(world.corpus_folder(tmp_path / "noisy", texts, HELDOUT))


def test_a_planted_bad_batch_is_not_taken_and_named(tmp_path: Path) -> None:
    settings, inputs = _noisy(tmp_path, 20, 50)
    path = run_room(settings, inputs, tmp_path / "guarded")
    rows = read_log(path)
    spikes = [row for row in rows if "spike" in row]
    counts = json.loads((path / "counts.json").read_text())
    assert 1 <= len(spikes) == counts["spikes"] <= 15
    assert all("times the usual" in row["spike"] and row["loss"] > 1 for row in spikes)
    assert rows[-1]["loss"] < 0.5, "what was learnt is untouched"
    open_guard = settings.model_copy(update={"guard": Guard(loss_factor=1e9, norm_factor=1e9)})
    assert all("spike" not in row for row in read_log(run_room(open_guard, inputs, tmp_path / "open")))


def test_spikes_in_a_row_lead_back_to_the_last_state_and_a_resume_decides_the_same(tmp_path: Path) -> None:
    settings, inputs = _noisy(tmp_path, 32, 2)
    whole = run_room(settings, inputs, tmp_path / "whole")
    counts = json.loads((whole / "counts.json").read_text())
    assert counts["rollbacks"] >= 1 and counts["steps"] == 40
    spikes = [row["step"] for row in read_log(whole) if "spike" in row]
    for stop in (min(spikes) + 1, max(spikes) + 1):
        cut = tmp_path / f"cut{stop}"
        with pytest.raises(toys.Interrupted):
            run_room(settings, inputs, cut, toys.StoppingProgress(stop))
        assert files(run_room(settings, inputs, cut)) == files(whole)
    stopping = settings.model_copy(update={"guard": settings.guard.model_copy(update={"rollbacks": 0})})
    with pytest.raises(CharterError, match=r"2 steps in a row up to step \d+ were spikes .* lower learning"):
        run_room(stopping, inputs, tmp_path / "stops")


def test_a_rollback_brings_back_weights_and_moments(tmp_path: Path, folder: Path) -> None:
    settings = world.settings().model_copy(update={"guard": Guard(patience=2)})
    out = toys.workspace(tmp_path / "out")
    learner = Learner(open_start(settings, world.inputs(folder), out), settings, out)
    model = learner.start.model
    kept = [p.detach().clone() for p in model.parameters()]
    learner.saver.save(0, Place(watch=Watch((1.0,), (2.0,))).extra())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()
    back = learner.back(Place(9, Cursor(0, 40), 99, 1e9, Watch((5.0,), (5.0,), 2, 3, 1)), "loss is nan")
    assert back == Place(9, Cursor(0, 40), 99, 1e9, Watch((1.0,), (2.0,), 0, 3, 2)), "it goes on behind the spikes"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept, strict=True))
    assert not any(learner.optimizer.state.values()), "momentum of the steps that are undone is gone"


def test_a_text_to_go_on_with_may_be_empty_and_one_that_leaves_no_room_is_refused(folder: Path, tmp_path: Path) -> None:
    few = Samples(prompts=("", "one two"), tokens=3)
    path = run_room(world.settings(2).model_copy(update={"samples": few}), world.inputs(folder), tmp_path / "few")
    assert [row["prompt"] for row in read_objects(path / "samples" / "written-00000002.jsonl")] == ["", "one two"]
    long = world.settings(2).model_copy(update={"samples": Samples(prompts=("one two " * 200,))})
    with pytest.raises(CharterError, match=r"samples.prompts\[0\] has \d+ tokens, and the model reads \d+ at"):
        run_room(long, world.inputs(folder), tmp_path / "long")
    assert not (tmp_path / "long" / "files" / "log.jsonl").exists(), "before anything is learnt"


def test_a_policy_goes_on_and_one_of_another_tokenizer_is_refused(
    finished: Workspace, folder: Path, tmp_path: Path
) -> None:
    inputs = Inputs([world.corpus(folder), toys.policy(finished.path)])
    settings = world.settings(2).model_copy(update={"sizing": Sizing()})
    rows = read_log(run_room(settings, inputs, tmp_path / "on"))
    assert rows[0]["loss"] < read_log(finished.path)[0]["loss"] - 0.8
    words = train_tokenizer(TRAIN, 300)
    other = world.corpus_folder(tmp_path / "other", TRAIN, HELDOUT, words)
    with pytest.raises(CharterError, match=r"another tokenizer than the corpus .* `from: \{tokenizer: "):
        run_room(settings, Inputs([world.corpus(other), toys.policy(finished.path)]), tmp_path / "wrong")
    with pytest.raises(CharterError, match="cut by two tokenizers"):
        run_room(settings, Inputs([world.corpus(folder), world.corpus(other)]), tmp_path / "two")
    wide = settings.model_copy(update={"sizing": Sizing(context=4096)})
    with pytest.raises(CharterError, match="enlarge it by steps with `window`"):
        run_room(wide, inputs, tmp_path / "wide")


def test_a_new_model_says_that_it_is_sampled_at_one_or_as_set(
    finished: Workspace, folder: Path, tmp_path: Path
) -> None:
    assert generation_at(1.0).items() <= read_generation(finished.path).items()
    cooler = world.settings(2, decoding_temperature=0.7)
    first = run_room(cooler, world.inputs(folder), tmp_path / "first")
    assert generation_at(0.7).items() <= read_generation(first).items()
    onwards = Inputs([world.corpus(folder), toys.policy(first)])
    kept = run_room(world.settings(2, sizing=Sizing()), onwards, tmp_path / "kept")
    assert read_generation(kept) == read_generation(first)
    greedy = run_room(world.settings(2, sizing=Sizing(), decoding_temperature=0.0), onwards, tmp_path / "greedy")
    assert read_generation(greedy)["do_sample"] is False and "temperature" not in read_generation(greedy)


def test_several_corpora_are_one_text(folder: Path, tmp_path: Path) -> None:
    second = world.corpus_folder(tmp_path / "second", world.texts(30, 8), world.texts(5, 2))
    inputs = Inputs([world.corpus(folder), world.corpus(second)])
    path = run_room(world.settings(), inputs, tmp_path / "out")
    parts = {row["id"].split("-")[0] for row in read_objects(path / "samples" / "text.jsonl")}
    assert parts == {"0", "1"}


def test_a_corpus_without_text_of_a_kind_is_refused(tmp_path: Path) -> None:
    for train, heldout, words in (([], HELDOUT, "nothing to learn from"), (TRAIN, [], "nothing held out")):
        place = tmp_path / words.split()[1]
        inputs = world.inputs(world.corpus_folder(place / "corpus", train, heldout))
        with pytest.raises(CharterError, match=words):
            run_room(world.settings(), inputs, place / "out")


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    broken = world.corpus_folder(tmp_path / "broken", TRAIN, HELDOUT)
    shard = broken / "train" / "00001.tokens"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(CharterError, match=r"00001\.tokens"):
        run_room(world.settings(), world.inputs(broken), tmp_path / "out")


def test_progress_shows_speed_share_of_the_peak_and_memory(folder: Path, tmp_path: Path) -> None:
    shown: list[dict[str, Any]] = []

    class Noting(toys.StoppingProgress):
        def advance(self, n: int = 1, **values: object) -> None:
            shown.append(values)

        def note(self, text: str) -> None:
            shown.append({"note": text})

    run_room(world.settings(4), world.inputs(folder), tmp_path / "out", Noting(10**9))
    notes = [row["note"] for row in shown if "note" in row]
    bars = [row for row in shown if "note" not in row]
    assert len(bars) == 4 and all({"loss", "rate", "mfu", "memory"} <= row.keys() for row in bars)
    assert notes[0] == "31.5k weights, 4 steps of 256 tokens: 0.1 passes over the corpus"
    assert notes[1].startswith("step 4: the cat")
    assert notes[2].startswith("measured on ") and " of 12 held-out documents, " in notes[2]


def test_weights_are_rounded_to_what_says_something() -> None:
    assert [format_count(n) for n in (7, 10_240, 134_515_008, 3_000_000_000)] == ["7", "10.2k", "134.5M", "3.0B"]
