"""Translation from English, as the card's: T=1, no examples, corpus BLEU and chrF by language and by how much public
text the languages have (card section 4.1; FLORES-200).

BLEU counts pieces of sacreBLEU's flores200 tokenizer, whose model the library fetches at first use. If that fails, it
counts words (13a), or characters for languages without blanks between words. The score's identity says which, in
sacreBLEU's own words. A row keeps its sentence's counts, whose sums give the corpus scores of `measure.translation`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from charter.ground.measure import translation
from charter.ground.measure.translation import ENGLISH, chrf_counts, language, unspaced
from charter.ground.settings.room import Role
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.marks import unless_too_long
from charter.rooms.evaluate.metrics import higher
from charter.rooms.evaluate.reading import TEST, Row, read_split
from charter.rooms.evaluate.task import Context, Marks, Protocol, Query, Question, Rows, Rule, Task, unanswered_rate
from charter.rooms.evaluate.tasks.mmlu_plain import by_subject

PIECES = "flores200"
REQUEST = "Translate this sentence from English into {}. Reply with the translation alone."
# columns without a sentence
OTHERS = {"id", "row", "doc_id", "split", "pair", "url", "URL", "domain", "topic", "has_image", "has_hyperlink"}
# Seconds without an answer after which the tokenizer's model counts as not available.
PATIENCE = 20.0


def sentence_counts(bleu: BLEU | None, reply: str, reference: str) -> dict[str, list[int]]:
    """The counts that one sentence adds to `measure.translation.chrf` and, with a tokenizer, `.bleu`. Line breaks of
    the reply become blanks."""
    hypothesis = " ".join(reply.split())
    letters = {"chrf": chrf_counts(hypothesis, reference)}
    if bleu is None:
        return letters
    score = bleu.corpus_score([hypothesis], [[reference]])
    return {"bleu": [score.sys_len, score.ref_len, *score.counts, *score.totals]} | letters


def at_hand(tokenizer: str) -> BLEU | None:
    """BLEU with a tokenizer; None if its model is not on this disk: nothing is downloaded."""
    model = Path(SACREBLEU_DIR) / "models" / Path(SPM_MODELS[PIECES]["url"]).name
    return None if tokenizer == PIECES and not model.is_file() else BLEU(tokenize=tokenizer)


def questions(context: Context) -> list[Question]:
    """The drawn sentences into every language of the data; `limit` counts sentences a language, the same for all."""
    groups = by_subject(read_split(context.source, TEST, parse))
    pieces, why = flores200()
    if not pieces:
        context.out.note(f"translation: BLEU counts words or characters; sacreBLEU's flores200 isn't available ({why})")
    tokenizers = {g: PIECES if pieces else "char" if unspaced(g) else "13a" for g in sorted(groups)}
    context.facts["tokenizers"] = tokenizers
    context.facts["bleu"] = {name: signature(name) for name in sorted(set(tokenizers.values()))}
    context.facts["chrf"] = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no"
    drawn = [question for group in tokenizers for question in context.draw(groups[group])]
    context.drawn.update({"asked": len(drawn), "of": sum(map(len, groups.values()))})
    return drawn


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a sampled translation, with its counts for the corpus scores."""
    queries = [Query(q, f"{REQUEST.format(language(q.group))}\n\n{q.text}") for q in questions]
    answers = asking.answer(context, queries, grade)
    references = {question.id: question.accepted[0] for question in questions}
    scorers = {group: BLEU(tokenize=name) for group, name in context.facts["tokenizers"].items()}
    for row in answers:
        row["reference"] = references[row["item"]]
        row |= sentence_counts(scorers[row["group"]], row["reply"], row["reference"])
    return answers


def mark_translation(row: Marks) -> dict[str, Any]:
    """Whether there is a translation at all; only the corpus scores say how good it is."""
    return {"outcome": "answered" if row["reply"].strip() else "unparsed"}


def marks_by(identity: Mapping[str, Any]) -> Rule:
    """Counts of chrF, and of BLEU by the identity's tokenizers if these are on this machine."""
    scorers = {group: at_hand(str(name)) for group, name in (identity.get("tokenizers") or {}).items()}
    answered = unless_too_long(mark_translation)
    return lambda row: {**answered(row), **sentence_counts(scorers.get(row["group"]), row["reply"], row["reference"])}


def grade(query: Query, reply: str) -> dict[str, Any]:
    """Whether there is a translation at all."""
    return mark_translation({"reply": reply})


def parse(row: Row, name: str) -> list[Question]:
    """A row of one sentence in English and other languages: columns eng, fra ... (NTREX), en, ne ... (FLORES) or
    sentence_eng_Latn, sentence_fra_Latn ... (FLORES-200)."""
    texts = {c.removeprefix("sentence_"): str(t).strip() for c, t in row.items() if c not in OTHERS}
    english = [text for code, text in texts.items() if code in ENGLISH and text]
    others = {code: text for code, text in texts.items() if code not in ENGLISH and text and language(code)}
    if not english or not others:
        raise ValueError("a row needs a sentence in English and in another language")
    sentence = "-".join(str(row[key]) for key in ("pair", "row", "id") if key in row) or name
    return [
        Question(f"{sentence}/{code}", english[0], accepted=(text,), cluster=sentence, group=code)
        for code, text in others.items()
    ]


def signature(tokenizer: str) -> str:
    """sacreBLEU's signature of a score with this tokenizer."""
    bleu = BLEU(tokenize=tokenizer)
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature().format())


def flores200() -> tuple[bool, str]:
    """Whether sacreBLEU's flores200 tokenizer is available, and why not. The library fetches its model at first use."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        BLEU(tokenize=PIECES)
    # whatever fetching and reading a file may raise
    except (Exception, SystemExit) as error:
        return False, " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        socket.setdefaulttimeout(before)
    return True, ""


TASK = Task(
    name="translation",
    title="Translation",
    group="Languages",
    questions=questions,
    rows=rows,
    metrics=(
        higher(
            "translation_bleu",
            translation.over_languages("bleu", translation.bleu),
            "corpus BLEU from English, mean over languages",
            "Translation, BLEU",
            unit="BLEU",
        ),
        higher(
            "translation_chrf",
            translation.over_languages("chrf", translation.chrf),
            "corpus chrF from English, mean over languages",
            "Translation, chrF",
            unit="chrF",
        ),
        *(
            higher(
                f"translation_{kind}_{bucket}",
                translation.over_languages(kind, of, bucket=bucket),
                f"corpus {unit} from English, mean over languages with {words} public text",
                f"Translation, {unit}, {words} public text",
                unit=unit,
            )
            for kind, of, unit in (("bleu", translation.bleu, "BLEU"), ("chrf", translation.chrf, "chrF"))
            for bucket, words in zip(translation.BUCKETS, ("much", "some", "little"), strict=True)
        ),
        *(
            higher(
                f"translation_{word}",
                translation.over_languages("bleu", translation.bleu, least),
                f"languages with BLEU over {least:.0f}, which is {word}",
                f"Languages over BLEU {least:.0f}",
            )
            for word, least in (("understandable", translation.UNDERSTANDABLE), ("good", translation.GOOD))
        ),
        unanswered_rate("translation"),
    ),
    role=Role(kind="questions", default="shipped:translation.heldout"),
    standard="data:flores200",
    # sentences of each language
    protocol=Protocol(max_tokens=256, limit=200),
    marks_by=marks_by,
    # three languages
    cost=(300, 200),
    searched=True,
)
