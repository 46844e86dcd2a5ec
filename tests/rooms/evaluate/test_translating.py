"""Translation: columns of three data sets, the prompt, tokenizers, and scores equal to sacreBLEU's."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import desk
import pytest
import sacrebleu
import sentencepiece
from sacrebleu.tokenizers import tokenizer_spm

import toys
from charter.ground.measure.translation import BUCKETS, NAMES, RESOURCES, language, resources, unspaced
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.tasks import translation
from charter.rooms.evaluate.tasks.translation import sentence_counts

METRICS = {metric.name: metric for metric in translation.TASK.numbers}
OURS = read_jsonl(shipped("translation.heldout"))


def say(prompt: Any, k: int) -> str:
    """The German or French sentence with every fourth word left out, in two lines; an echo for Spanish."""
    text = prompt[0]["content"]
    row = next(r for r in OURS if r["eng"] == text.rpartition("\n\n")[2])
    key = next((code for code, name in (("fra", "French"), ("deu", "German")) if name in text), "eng")
    words = [word for n, word in enumerate(row[key].split()) if n % 4 != 3]
    return " ".join(words[:3]) + "\n" + " ".join(words[3:])


def test_scores_of_a_run_equal_sacrebleu(tmp_path: Path) -> None:
    model = toys.Scripted(say=say)
    context = desk.context("translation", tmp_path, model, {"test": OURS})
    rows = desk.run_task(context)
    assert len(rows) == 60 and {r["group"] for r in rows} == {"fra", "deu", "spa"}
    each = {}
    for group in ("fra", "deu", "spa"):
        mine = [r for r in rows if r["group"] == group]
        replies, references = [r["reply"].replace("\n", " ") for r in mine], [r["reference"] for r in mine]
        each[group] = sacrebleu.corpus_bleu(replies, [references], tokenize="13a").score
        assert METRICS["translation_bleu"].table(mine).value == pytest.approx(each[group], abs=1e-9)
        expected = sacrebleu.corpus_chrf(replies, [references]).score
        assert METRICS["translation_chrf"].table(mine).value == pytest.approx(expected, abs=1e-9)
    table = METRICS["translation_bleu"].table(rows)
    assert table.value == pytest.approx(sum(each.values()) / 3, abs=1e-9)
    assert (table.n, len(table.clusters)) == (60, 20), "a sentence is one cluster in all languages"
    above = sum(score > 30 for score in each.values()) / 3
    assert 0 < above < 1 and METRICS["translation_understandable"].table(rows).value == pytest.approx(above)
    assert model.samplings[0].temperature == 1.0
    prompt = model.asked[0][0]["content"]
    assert prompt.startswith("Translate this sentence from English into German.") and prompt.endswith(OURS[0]["eng"])


def test_the_identity_says_how_bleu_was_counted(tmp_path: Path) -> None:
    rows = [{"eng": "A boat.", "fra": "Un bateau.", "jpn": "船。", "zho-CN": "一条船。"}]
    context = desk.context("translation", tmp_path, toys.Scripted(say=lambda p, k: "船。"), {"test": rows})
    results = desk.run_task(context)
    assert context.facts["tokenizers"] == {"fra": "13a", "jpn": "char", "zho-CN": "char"}
    assert context.facts["bleu"]["char"].startswith("nrefs:1|case:mixed|eff:no|tok:char|smooth:exp|version:")
    assert [r["bleu"][:2] for r in results] == [[1, 3], [2, 2], [2, 4]]


def test_of_flores_devtest_is_scored(tmp_path: Path) -> None:
    files = {
        "dev": [{"id": 1, "eng": "A.", "fra": "B."}],
        "devtest": [{"id": 2, "eng": "A boat.", "fra": "Un bateau."}],
    }
    context = desk.context("translation", tmp_path, toys.Scripted(), files)
    assert [question.id for question in translation.questions(context)] == ["2/fra"]


def test_flores200_is_taken_where_its_model_is_there(tmp_path: Path) -> None:
    """A model of our own in the folder of the fetched one."""
    folder = Path(tokenizer_spm.SACREBLEU_DIR) / "models"
    folder.mkdir(parents=True)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(r[k] for r in OURS for k in ("eng", "fra", "deu", "spa")), "utf-8")
    stem = str(folder / "flores200sacrebleuspm")
    sentencepiece.SentencePieceTrainer.train(input=str(text), model_prefix=stem, vocab_size=200, minloglevel=2)
    (folder / "flores200sacrebleuspm.model").rename(folder / "flores200sacrebleuspm")
    context = desk.context("translation", tmp_path, toys.Scripted(say=say), {"test": OURS[:3]})
    rows = desk.run_task(context)
    assert set(context.facts["tokenizers"].values()) == {"flores200"}
    assert "tok:flores200" in context.facts["bleu"]["flores200"]
    mine = [r for r in rows if r["group"] == "fra"]
    expected = sacrebleu.corpus_bleu(
        [r["reply"].replace("\n", " ") for r in mine], [[r["reference"] for r in mine]], tokenize="flores200"
    )
    assert METRICS["translation_bleu"].table(mine).value == pytest.approx(expected.score, abs=1e-9)


def test_a_damaged_model_is_no_model(tmp_path: Path) -> None:
    folder = Path(tokenizer_spm.SACREBLEU_DIR) / "models"
    folder.mkdir(parents=True)
    (folder / "flores200sacrebleuspm").write_bytes(b"cut off")
    there, why = translation.flores200()
    assert not there and why and "\n" not in why


def test_limits_count_sentences_and_languages_share_them(tmp_path: Path) -> None:
    context = desk.context("translation", tmp_path, toys.Scripted(say=say), {"test": OURS}, limit=4)
    rows = desk.run_task(context)
    assert len(rows) == 12 and len({r["id"] for r in rows}) == 4


def test_columns_of_three_data_sets() -> None:
    flores = {"id": 7, "URL": "u", "domain": "d", "topic": "t", "has_image": 0, "has_hyperlink": 0}
    flores |= {"sentence_eng_Latn": "A boat.", "sentence_fra_Latn": "Un bateau.", "sentence_zho_Hans": "一条船。"}
    rows = {
        "flores200": (flores, [("7/fra_Latn", "7", "fra_Latn"), ("7/zho_Hans", "7", "zho_Hans")]),
        "ntrex": ({"row": 3, "doc_id": "d", "eng": "A boat.", "fra": "Un bateau."}, [("3/fra", "3", "fra")]),
        "flores_v1": ({"pair": "ne-en", "row": 3, "en": "A boat.", "ne": "x"}, [("ne-en-3/ne", "ne-en-3", "ne")]),
    }
    for row, expected in rows.values():
        questions = translation.parse(row, "name")
        assert [(q.id, q.cluster, q.group) for q in questions] == expected and {q.text for q in questions} == {
            "A boat."
        }


def test_a_row_needs_english() -> None:
    with pytest.raises(ValueError, match="English"):
        translation.parse({"fra": "Un bateau.", "deu": "Ein Boot."}, "x")


def test_buckets_are_means_over_their_languages() -> None:
    """By hand: all five words matched in French and Yoruba, none in German and Swahili; Klingon is in no bucket."""
    full = {"bleu": [5, 5, 5, 4, 3, 2, 5, 4, 3, 2], "chrf": [6, 6, 6] * 6}
    none = {"bleu": [5, 5, 0, 0, 0, 0, 5, 4, 3, 2], "chrf": [6, 6, 0] * 6}
    rows = [{"id": "s", "group": g} | full for g in ("fra_Latn", "yor_Latn", "tlh_Latn")]
    rows += [{"id": "s", "group": g} | none for g in ("deu_Latn", "swh_Latn")]
    values = {
        name: METRICS[f"translation_{name}"].table(rows).value
        for name in ("bleu_high", "chrf_high", "bleu_low", "chrf_low")
    }
    assert values == pytest.approx(dict.fromkeys(values, 50.0))
    assert math.isnan(METRICS["translation_bleu_middle"].table(rows).value)
    assert METRICS["translation_bleu"].table(rows).value == pytest.approx(60.0)
    assert set(RESOURCES.values()) == set(BUCKETS)


def test_two_hundred_sentences_a_language_are_asked_unless_said_otherwise(tmp_path: Path) -> None:
    rows = [{"row": n, "eng": f"Boat {n}.", "fra": f"Bateau {n}.", "deu": f"Boot {n}."} for n in range(250)]
    sizes = {}
    for limit in (None, 0, 30):
        change = {} if limit is None else {"change": {"translation": {"limit": limit}}}
        context = desk.context("translation", tmp_path / str(limit), toys.Scripted(), {"test": rows}, **change)
        sizes[limit] = len(translation.questions(context))
        assert context.drawn == {"asked": sizes[limit], "of": 500}
    assert sizes == {None: 400, 0: 500, 30: 60}


def test_an_empty_reply_counts_as_no_translation(tmp_path: Path) -> None:
    rows = [{"eng": "A boat.", "fra": "Un bateau."}, {"eng": "A hat.", "fra": "Un chapeau."}]
    replies = iter([" \n", "Un chapeau."])
    context = desk.context("translation", tmp_path, toys.Scripted(say=lambda p, k: next(replies)), {"test": rows})
    results = desk.run_task(context)
    assert [r["outcome"] for r in results] == ["unparsed", "answered"]
    assert METRICS["translation_unanswered"].table(results).value == 0.5
    expected = sacrebleu.corpus_bleu(["", "Un chapeau."], [["Un bateau.", "Un chapeau."]]).score
    assert METRICS["translation_bleu"].table(results).value == pytest.approx(expected, abs=1e-9)


def test_languages_have_names() -> None:
    assert language("fra_Latn") == "French" and language("zho_Hans") == "Chinese (Simplified)"
    assert unspaced("zho-CN") and unspaced("khm_Khmr") and not unspaced("kor")
    assert all(name[0].isupper() for name in NAMES.values())
    card = (
        "fra por swe cym dan cat ind deu heb vie zsm ita ukr rus ell tur tha arb tgl slv nld spa zho_Hans lit hin gle"
    )
    card += " jpn hye arz kor eus kaz kan tam mal lao ban zul amh xho khm yor shn"
    assert all(resources(code) for code in card.split()), "each language of the card is in a bucket"
    assert len(card.split()) == 43 and len({language(code) for code in card.split()}) == 43


def test_all_public_rows_can_be_asked() -> None:
    folders = {name: data_folder() / name for name in ("ntrex", "flores_v1", "flores200")}
    if not all(folder.is_dir() for folder in folders.values()):
        pytest.skip("no data sets: set CHARTER_DATA to the folder that holds ntrex, flores_v1 and flores200")
    sizes = {}
    for name, folder in folders.items():
        questions = translation.read_split(folder, translation.TEST, translation.parse)
        sizes[name] = (len(questions), len({q.group for q in questions}), len({q.id for q in questions}))
    assert sizes == {"ntrex": (20000, 20, 20000), "flores_v1": (4000, 4, 4000), "flores200": (12144, 12, 12144)}


def test_a_public_corpus_scores_as_sacrebleu_scores_it() -> None:
    """Real sentences of many scripts, against themselves with words exchanged."""
    folder = data_folder() / "ntrex"
    if not folder.is_dir():
        pytest.skip("no data sets: set CHARTER_DATA to the folder that holds ntrex")
    questions = translation.read_split(folder, translation.TEST, translation.parse)
    rng = random.Random(0)
    for group in ("deu", "zho-CN", "jpn", "arb", "hin", "tam"):
        references = [q.accepted[0] for q in questions if q.group == group][:60]
        hypotheses = [
            " ".join(rng.sample(r.split(), len(r.split()))) if n % 2 else r[:-9] for n, r in enumerate(references)
        ]
        tokenizer = "char" if unspaced(group) else "13a"
        bleu = translation.BLEU(tokenize=tokenizer)
        rows = [
            {"id": n, "group": group, **sentence_counts(bleu, h, r)}
            for n, (h, r) in enumerate(zip(hypotheses, references, strict=True))
        ]
        expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score
        assert METRICS["translation_bleu"].table(rows).value == pytest.approx(expected, abs=1e-9), group
        expected = sacrebleu.corpus_chrf(hypotheses, [references]).score
        assert METRICS["translation_chrf"].table(rows).value == pytest.approx(expected, abs=1e-9), group
