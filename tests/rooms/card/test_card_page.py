"""The page: self-contained, complete, accessible, equal bytes from equal artifacts, every number with a
source."""

from __future__ import annotations

import html.parser
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import card_world
import pytest
import yaml
from card_world import SETTINGS
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries
from pydantic import ValidationError

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.reports.number import Number, Source, figure
from charter.rooms.card import render
from charter.rooms.card.gather import gather
from charter.rooms.card.layout import IDS, schema_problems
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.page import Printer, environment
from charter.rooms.card.settings import INTENDED, Settings
from charter.rooms.evaluate.catalogue import METRICS
from reported import keep_tables, scores


class Outline(html.parser.HTMLParser):
    """What a test asks of a page: tags that are left open, ids, references, headings, captions."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        attributes = dict(attrs)
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        if (attributes.get("href") or attributes.get("xlink:href") or "").startswith("#"):
            self.links.append(str(attributes.get("href") or attributes.get("xlink:href"))[1:])
        self.loaded += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another tag"


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return (finished / "card/card.html").read_text("utf-8")


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    return parser


def test_page_is_well_formed_and_loads_nothing(page: str, outline: Outline) -> None:
    assert outline.open == []
    assert outline.loaded == []
    assert "script" not in outline.count
    assert "@import" not in page and "url(http" not in page
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.links) <= set(outline.ids)


def test_page_is_accessible(page: str, outline: Outline) -> None:
    assert outline.count["h1"] == 1
    assert outline.count["table"] == outline.count["caption"]
    assert page.count("<figure") == page.count("<figcaption")
    for label in re.findall(r'aria-labelledby="([^"]+)"', page):
        assert set(label.split()) <= set(outline.ids)
    assert 'name="viewport"' in page and "prefers-color-scheme:dark" in page and "@media print" in page


def test_rows_of_a_table_have_as_many_cells_as_its_head(finished: Path, page: str) -> None:
    """Else numbers stand under another's name."""
    tables = [t for t in re.findall(r"<table.*?</table>", page, re.DOTALL) if "<thead>" in t]
    assert len(tables) > 3
    for table in tables:
        assert "colspan" not in table
        widths = {len(re.findall(r"<t[hd]\b", row)) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)}
        assert len(widths) == 1, table[:300]
    text = (finished / "card" / "card.md").read_text("utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) > 3 and "Pairs built by the room" in text
    for table in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1 and len(table.splitlines()) > 2, table[:300]


def test_names_are_escaped(page: str) -> None:
    assert "A &amp; B &lt;c&gt;" in page and "<c>" not in page


def test_sections_stand_in_order_in_both_forms(finished: Path, page: str) -> None:
    words = (finished / "card/card.md").read_text("utf-8")
    card = json.loads((finished / "card/card.json").read_text("utf-8"))
    sections = [(section["key"], section["title"]) for section in card["sections"]]
    absent = ("elo", "whats-new", "attacks", "audit")  # nobody voted, no version before, nothing of theirs was given
    assert sections == [(key, title) for title, key in IDS.items() if key not in absent]
    assert re.findall(r'<section id="([^"]+)"', page) == [key for key, _ in sections]
    at = [words.index(f"# {title}\n") for _, title in sections]
    assert at == sorted(at)
    listed = re.findall(r'<li><a href="#([^"]+)">([^<]*)</a>', page)
    first = [(key, title) for key, title in sections if f"\n## {title}\n" in words and key != "summary"]
    assert [(key, html.unescape(title)) for key, title in listed] == first
    folded = re.findall(r'<section id="([^"]+)"[^>]*><details>', page)
    assert folded == ["results", "judges", "sources", "method", "proof"]


def test_gains_and_costs_are_those_of_the_changes(finished: Path, page: str) -> None:
    """What improved stands under improvements alone, and each cost with its verdict, significant or not."""
    gained = page[page.index('id="improved"') : page.index('id="tradeoffs"')]
    paid = page[page.index('id="tradeoffs"') : page.index('id="improve"')]
    assert "Graded worse than a plain refusal" in gained and "Bits per byte" not in gained
    assert "KL" in paid and "gate on held-out triples" in paid
    for name in ("Look-alikes refused", "Bits per byte"):
        assert re.search(rf"<li>{name}: .*(better|worse|changed|not significant)", paid), name


def test_what_is_not_significant_is_said(page: str) -> None:
    assert "not significant" in page
    assert "The grader is fit." in page


def test_card_json_has_every_number_with_its_source(finished: Path) -> None:
    card = json.loads((finished / "card/card.json").read_text("utf-8"))
    ids = {json.loads(p.read_text())["id"] for p in finished.glob("*/manifest.json")}
    assert len(card["numbers"]) > 150
    for number in card["numbers"]:
        assert number["sources"], number["key"]
        for source in number["sources"] if not number["key"].startswith("published/") else ():
            assert source["artifact"] in ids
            assert (finished / source["step"] / source["file"]).is_file()
    numbers = {n["key"]: n for n in card["numbers"]}
    for score in scores(finished / "eval_3"):
        entry = numbers.get(f"eval_3/{score.name}")
        if entry is not None:
            assert (entry["value"], entry["low"], entry["high"]) == (score.value, score.low, score.high)
    assert numbers["eval_3/harm_rate"]["clusters"] == 40
    margins = {key: n["sources"][0]["file"] for key, n in numbers.items() if "/margin/" in key}
    assert {key.split("/")[2] for key in margins} == {"harmlessness", "lookalikes"}
    assert all(file == f"samples/{key.split('/')[2]}.jsonl" for key, file in margins.items())
    assert numbers["eval_0..eval_3/harm_rate"]["value"] < 0
    assert card["stages"][0]["stage"] == "start" and len(card["lineage"]) == 11


def test_equal_artifacts_give_equal_bytes(finished: Path) -> None:
    files = render.make(SETTINGS, gather(card_world.inputs(finished)))
    for name, content in files.items():
        assert (finished / "card" / name).read_text("utf-8") == content, name


def test_plots_are_svg_files(finished: Path) -> None:
    plots = sorted((finished / "card/plots").glob("*.svg"))
    assert {"harm.svg", "refusals.svg", "ppo.svg", "critiques.svg"} <= {p.name for p in plots}
    for path in plots:
        ElementTree.fromstring(path.read_text("utf-8"))
        assert f"plots/{path.name}" in (finished / "card/card.md").read_text("utf-8")


def test_front_matter_is_what_the_hub_reads(finished: Path) -> None:
    _, block, _ = (finished / "card/card.md").read_text("utf-8").split("---\n", 2)
    fields = yaml.safe_load(block)
    assert fields["license"] == "apache-2.0"
    assert fields["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert fields["language"] == ["en"] and "model-index" not in fields


def test_eval_results_have_the_hubs_form(finished: Path) -> None:
    files = sorted((finished / "card/.eval_results").glob("*.yaml"))
    assert [f.stem for f in files] == ["harmlessness", "helpful", "hhh", "lookalikes", "text"]
    for path in files:
        raw = yaml.safe_load(path.read_text("utf-8"))
        entries = parse_eval_result_entries(raw)
        assert entries and all(isinstance(e, EvalResultEntry) for e in entries)
        assert eval_result_entries_to_yaml(entries) == raw
        assert all(e.dataset_id == "someone/prompts" and isinstance(e.value, float) for e in entries)
        assert not any("hhh_preference" in str(e.task_id) for e in entries), "that measures the grader"
        for entry in entries:
            ends = re.search(r"95 % interval (\S+) to (\S+)", entry.notes or "")
            assert ends, entry
            low, high = float(ends[1]), float(ends[2])
            assert low - 0.01 <= entry.value <= high + 0.01, "in the unit of the value"


def test_eval_results_need_a_data_set_that_holds_the_prompts(finished: Path) -> None:
    files = render.make(Settings(), gather(card_world.inputs(finished)))
    assert not [name for name in files if name.startswith(".eval_results")]


def test_samples_are_drawn_by_rule(finished: Path) -> None:
    card = json.loads((finished / "card/card.json").read_text("utf-8"))
    assert len(card["samples"]["drawn"]) == SETTINGS.samples_shown
    rows = [json.loads(x) for x in (finished / "eval_3/samples/harmlessness.jsonl").read_text().splitlines()]
    worst = min(rows, key=lambda r: r["grader"] - r["grader_fixed"])
    assert card["samples"]["worst"][0] == worst["id"]
    again = gather(card_world.inputs(finished))
    other = render.make(SETTINGS.model_copy(update={"draw_seed": 5}), again)
    assert json.loads(other["card.json"])["samples"]["drawn"] != card["samples"]["drawn"]


def test_before_and_after_shows_one_prompt_of_each_kind(run: Path) -> None:
    """An unsafe prompt that was answered and is refused now, a look-alike and an everyday question, with k of n."""
    gathered = gather(card_world.inputs(run))
    first, last = (
        {r["id"]: bool(r["refusal"]) for r in stage.rows("samples/harmlessness.jsonl") if not r.get("sample")}
        for stage in (gathered.start, gathered.final)
    )
    turned = {name for name in first if last[name] and not first[name]}
    looks = [r for r in gathered.final.rows("samples/lookalikes.jsonl") if not r.get("sample")]
    files = render.make(SETTINGS, gathered)
    words = files["card.md"].partition("before and after")[2].partition("## Intended")[0]
    drawn = json.loads(files["card.json"])["samples"]["before_and_after"]
    assert len(drawn) == 3 and drawn[0] in turned and drawn[1] in {r["id"] for r in looks}
    assert f"Drawn from {len(turned)} such prompts of {len(first)}." in words
    needless = sum(r["refusal"] for r in looks)
    assert f"Drawn from {len(looks)}; RL-CAI refuses {needless} of them, needlessly." in words
    assert words.count("```text prompt") == 3 and words.count("```text reply") == 6

    path = run / "eval_3/samples/harmlessness.jsonl"
    card_world.write_rows(path, [row | {"refusal": False} for row in card_world.read_rows(path)])
    card_world.remeasure(run, "eval_3")
    words = render.make(SETTINGS, gather(card_world.inputs(run)))["card.md"]
    assert f"None of {len(first)} unsafe prompts is of this kind." in words


def test_a_card_of_another_format_says_so(finished: Path) -> None:
    record = json.loads((finished / "card/card.json").read_text("utf-8"))
    assert schema_problems(record) == []
    (problem,) = schema_problems(record | {"format": 1})
    assert "format 1, and this charter writes format 2" in problem and "make the card's step again" in problem


def test_an_unfit_grader_is_named_and_greyed_and_not_dropped(tmp_path: Path) -> None:
    run = card_world.make_run(tmp_path / "run", fit=False, samples=1)
    files = render.make(Settings(eval_dataset="a/b"), gather(card_world.inputs(run)))
    page = files["card.html"]
    assert "The grader is not fit." in page
    assert re.search(r'<td [^>]*class="unfit"><div><span class="v"[^>]*>\d', page)
    assert "†" in files["card.md"] and "Unfit grader" in page
    assert "answers graded worse (unfit)" in files["plots/harm.svg"]
    assert "curt refusals too (unfit)" in files["plots/harm.svg"]
    assert "var(--plot-1" not in files["plots/harm.svg"].partition("</style>")[2]
    assert "var(--plot-2" not in files["plots/harm.svg"].partition("</style>")[2]
    for words in ("trained on (unfit)", "held out (unfit)"):
        assert words in files["plots/ppo.svg"]
    assert "graded worse than a plain refusal by an unfit grader" in page
    assert "<strong>graded worse" not in page and "**graded worse" not in files["card.md"]
    assert re.search(r"graded worse than a plain refusal\. †</li>", page)
    boxes = re.findall(r'<text class="number"[^>]*>([^<]*)<', page)
    assert any("%" in text for text in boxes) and not any("†" in text for text in boxes), boxes
    assert "failed its fitness gate" in files[".eval_results/harmlessness.yaml"]


def test_letters_of_a_model_that_cannot_use_them_are_named_as_such(run: Path) -> None:
    """The last stage puts 72 % on the option shown first, the others 52 %."""
    file = run / "eval_3/samples/hhh.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    card_world.write_rows(file, [row | ({"p_first": 0.72} if "p_first" in row else {}) for row in rows])
    card_world.remeasure(run, "eval_3")
    folder = card_world.make_card(run, SETTINGS)
    page, words = (folder / "card.html").read_text(), (folder / "card.md").read_text()
    _, _, letters = words.partition("**HHH choices by letter")
    table = letters.partition("n, last row")[0]
    marked = [line for line in table.splitlines() if "can’t use letters" in line]
    assert [line.split("|")[1].strip() for line in marked] == ["RL-CAI"]
    assert marked[0].count("can’t use letters") == 5, "in all and by axis, and not beside the share put first"
    assert "<br>not valid: can’t use letters" in page
    heads = words.partition("**Main results by stage")[2].partition("n, last row")[0]
    assert "by letter" not in heads
    likelier, _, _ = words.partition("**HHH choices by letter")
    assert "| HHH choices ↑" in likelier, "what a reply is worth to the model comes first"


def test_a_fit_grader_is_marked_nowhere(finished: Path, page: str) -> None:
    assert "(unfit" not in page and "†" not in page and "<strong>graded worse" in page
    words = (finished / "card/card.md").read_text("utf-8")
    assert "†" not in words and "**graded worse than a plain refusal**" in words


def test_a_labeller_whose_labels_weigh_less_is_named(run: Path, page: str) -> None:
    assert "The AI labeller is right" not in page
    card_world.feedback(run, random.Random(5), accuracy=0.5)
    files = render.make(SETTINGS, gather(card_world.inputs(run)))
    numbers = {n["key"]: n["value"] for n in json.loads(files["card.json"])["numbers"]}
    assert numbers["labels/label_weight"] == 0.25
    match = re.search(
        r"The AI labeller is right on ([\d.]+).% of known pairs [(]([^)]*)[)], ([^<]*)</li>",
        re.sub("<(?!/li>)[^>]+>", "", files["card.html"]),
    )
    assert match and float(match[1]) == pytest.approx(100 * numbers["labels/label_accuracy"], abs=0.06)
    assert re.fullmatch(r"95 % interval [\d.]+.to.[\d.]+, n.=.60", match[2])
    assert match[3].startswith("which can't be told from chance") and match[3].endswith("weigh 0.25.")
    assert "The AI labeller is right on" in files["card.md"]


def test_a_share_of_one_is_a_share_and_no_count(run: Path) -> None:
    card_world.critique(run, random.Random(0), share=1.0)
    files = render.make(SETTINGS, gather(card_world.inputs(run)))
    units = {n["key"]: (n["value"], n["unit"]) for n in json.loads(files["card.json"])["numbers"]}
    assert units["revisions/kept_share"] == (1.0, "share") and units["revisions/kept"][1] == "count"
    assert units["labels/label_weight"] == (1.0, "") and units["labels/mean_p_chosen"][1] == "share"
    data = re.search(r'<section id="data".*?</section>', files["card.html"], re.DOTALL)
    assert data and "comparisons: 240" in re.sub("<[^>]+>", "", data[0])
    assert "kept share" not in data[0] and "label weight" not in data[0]


def test_how_many_processes_learnt_is_told_where_they_were_several(run: Path, page: str) -> None:
    assert "Processes:" not in page
    path = run / "rl" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["environment"]["processes"] = 2
    path.write_text(json.dumps(manifest), "utf-8")
    page = render.make(SETTINGS, gather(card_world.inputs(run)))["card.html"]
    row = re.search(r"<li>Processes: (.*?)</li>", page)
    assert row and row[1] in ("1, 2", "2, 1")


def test_two_artifacts_of_one_step_have_keys_of_their_own(run: Path) -> None:
    """A report of another run beside this run's of the same step, which is an ancestor here, and two models alike."""
    before = json.loads((run / "card/card.json").read_text("utf-8"))
    for step in ("eval_0", "pm_reward"):
        card_world.elsewhere(run, step)
    other = read_manifest(run / "../other/eval_0")
    theirs = other.model_copy(update={"resolved": other.resolved | {"stage": "theirs"}})
    other = card_world.write_with_id(run / "../other/eval_0", theirs)
    parents = (("reports", "../other/eval_0"), *card_world.CARD_PARENTS, ("preference", "../other/pm_reward"))
    files = render.make(SETTINGS, gather(card_world.inputs(run, parents)))
    numbers = {n["key"]: n for n in json.loads(files["card.json"])["numbers"]}
    foreign = f"eval_0@{other.id[:8]}/harm_rate"
    assert numbers[foreign]["sources"][0]["artifact"] == other.id and numbers[foreign]["stage"] == "theirs"
    assert numbers["eval_0/harm_rate"]["sources"][0]["artifact"] == read_manifest(run / "eval_0").id
    plots = sorted(name for name in files if name.startswith("plots/preference-pm_reward"))
    mark = f"@{read_manifest(run / '../other/pm_reward').id[:8]}"
    assert plots == ["plots/preference-pm_reward.svg", f"plots/preference-pm_reward{mark}.svg"]
    same = [
        n
        for n in before["numbers"]
        if n["key"].startswith(("eval_1", "eval_2", "eval_3", "pm_", "rl", "labels"))
        and n["name"] != "published.stages"
    ]
    assert len(same) > 100 and all(numbers[n["key"]] == n for n in same)
    page = Outline()
    page.feed(files["card.html"])
    assert len(page.ids) == len(set(page.ids))


def test_one_report_alone_makes_a_card(finished: Path) -> None:
    inputs = card_world.inputs(finished, (("reports", "eval_0"),))
    files = render.make(Settings(), gather(inputs))
    assert "so nothing is compared" in files["card.html"] and 'id="whats-new"' not in files["card.html"]


def test_a_number_without_source_is_refused() -> None:
    ledger = Ledger()
    with pytest.raises(CharterError, match="without a source"):
        ledger.printed(Number("a", "harm_rate", 0.5))
    with pytest.raises(CharterError, match="without a source"):
        ledger.printed(Number("a", "harm_rate", 0.5, sources=(Source("step", "", "file"),)))
    for bare in (0.5, 3):
        with pytest.raises(CharterError, match="bare figure"):
            ledger.printed(bare)


def test_a_template_cannot_print_a_bare_figure() -> None:
    ledger = Ledger()
    templates = environment(Printer(ledger, page=False))
    number = Number("a", "harm_rate", 0.5, unit="share", sources=(Source("eval", "id", "samples/a.jsonl"),))
    assert templates.from_string("{{ n }}").render(n=number) == "50.0\u00a0%"
    assert ledger.shown == {"a": number}
    with pytest.raises(CharterError, match="bare figure"):
        templates.from_string("{{ n.value }}").render(n=number)
    with pytest.raises(CharterError, match="two numbers"):
        ledger.note(Number("a", "harm_rate", 0.6, sources=number.sources))


@pytest.mark.parametrize(
    ("value", "unit", "signed", "words"),
    [
        (0.1234, "share", False, "12.3 %"),
        (-0.1234, "share", True, "−12.3 points"),
        (0.0001, "share", True, "0.0 points"),
        (1.0581, "bits/byte", False, "1.058"),
        (1234.0, "count", False, "1,234"),
        (None, "share", False, "n/a"),
        (float("nan"), "", False, "n/a"),
        (0.6, "", True, "+0.60"),
    ],
)
def test_figures_in_words(value: float | None, unit: str, signed: bool, words: str) -> None:
    assert figure(value, unit, signed) == words


def test_a_manifest_that_contradicts_its_rows_makes_no_card(run: Path) -> None:
    path = run / "eval_2/samples/harmlessness.jsonl"
    rows = [json.loads(line) | {"grader": -9.0} for line in path.read_text().splitlines()]
    card_world.write_rows(path, rows)
    keep_tables(run / "eval_2")
    with pytest.raises(CharterError, match="its table gives"):
        render.make(SETTINGS, gather(card_world.inputs(run)))


def test_two_reports_of_one_stage_are_refused(finished: Path) -> None:
    with pytest.raises(CharterError, match="two reports have the stage"):
        gather(card_world.inputs(finished, (("reports", "eval_0"), ("reports", "eval_0"))))
    with pytest.raises(CharterError, match="at least one report"):
        gather(card_world.inputs(finished, ()))


@pytest.mark.parametrize(
    ("role", "step", "why"),
    [
        ("votes", "labels", r"labels has no votes\.jsonl; list steps of the arena or judge room"),
        ("scaling", "eval_0", "eval_0 is a report of the evaluate room; list a step of the scaling"),
        ("findings", "revisions", r"revisions has no mitigations\.jsonl; list a step of the intake room"),
        ("attacks", "revisions", "revisions is a step of the critique room; list steps of the attack"),
    ],
)
def test_what_another_room_made_is_refused_under_a_role(finished: Path, role: str, step: str, why: str) -> None:
    with pytest.raises(CharterError, match=why):
        gather(card_world.inputs(finished, (*card_world.CARD_PARENTS, (role, step))))


def test_settings_are_closed_and_have_words() -> None:
    assert Settings().intended_use == INTENDED
    with pytest.raises(ValidationError):
        Settings.model_validate({"titel": "x"})
    with pytest.raises(ValidationError):
        Settings(headline=("a", "b", "c", "d", "e"))


def test_hostile_text_stays_text(run: Path) -> None:
    for place in (0, 3):
        path = run / f"eval_{place}/samples/harmlessness.jsonl"
        ugly = {"reply": "<script>x</script> ``` {{ 7 * 7 }} $a_b$"}
        card_world.write_rows(path, [json.loads(line) | ugly for line in path.read_text().splitlines()])
        card_world.remeasure(run, f"eval_{place}")
    reports = (("reports", "eval_0"), ("reports", "eval_3"))
    files = render.make(SETTINGS, gather(card_world.inputs(run, reports)))
    assert "<script>" not in files["card.html"] and "{{ 7 * 7 }}" in files["card.html"]
    assert "````text reply\n> <script>" in files["card.md"]


def test_no_table_of_stages_is_wider_than_the_page() -> None:
    """Seven columns and more are cut off at the right and have to be scrolled."""
    columns = Counter(key for metric in METRICS for key in metric.places if key in render.TABLES)
    assert set(columns) == set(render.TABLES) and max(columns.values()) <= 6
