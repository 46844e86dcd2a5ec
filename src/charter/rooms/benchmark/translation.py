"""Translation from English: T=1, no examples, corpus BLEU and chrF by language (card section 4.1; FLORES-200).

BLEU is counted over the pieces of sacreBLEU's flores200 tokenizer, whose model the library fetches at first use; where
it can't be had, over words (13a), and over characters for languages that put no blanks between them. Which it was
stands in the score's identity, in sacreBLEU's own words.
"""

from __future__ import annotations

import socket
from typing import Any

from sacrebleu.metrics.bleu import BLEU

from charter.ground.judge.marks import translated
from charter.ground.judge.translated import PIECES, sentence_counts
from charter.ground.text.languages import ENGLISH, language, unspaced
from charter.rooms.benchmark.answers import answer
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.mmlu_plain import by_subject
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Asked, Question
from charter.rooms.benchmark.reading import TEST, Row, parsed

PROTOCOL = Protocol(max_tokens=256)
REQUEST = "Translate this sentence from English into {}. Reply with the translation alone."
# columns that hold no sentence
OTHERS = {
    "id",
    "row",
    "doc_id",
    "split",
    "pair",
    "url",
    "URL",
    "domain",
    "topic",
    "has_image",
    "has_hyperlink",
}
PATIENCE = 20.0  # seconds without an answer after which a tokenizer's model can't be had


def questions(context: Context) -> list[Question]:
    """The drawn sentences into every language of the data; `limit` counts sentences a language, the same for all."""
    groups = by_subject(parsed(context.source, TEST, parse))
    pieces, why = flores200()
    if not pieces:
        context.out.note(
            f"translation: BLEU counts words or characters; sacreBLEU's flores200 can't be had ({why})"
        )
    tokenizers = {g: PIECES if pieces else "char" if unspaced(g) else "13a" for g in sorted(groups)}
    context.facts["tokenizers"] = tokenizers
    context.facts["bleu"] = {name: signature(name) for name in sorted(set(tokenizers.values()))}
    context.facts["chrf"] = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no"
    return [question for group in tokenizers for question in context.draw(groups[group])]


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a sampled translation, with the counts that corpus scores are made of."""
    put = [Asked(q, f"{REQUEST.format(language(q.group))}\n\n{q.text}") for q in asked]
    found = answer(context, put, grade)
    references = {question.id: question.accepted[0] for question in asked}
    scorers = {group: BLEU(tokenize=name) for group, name in context.facts["tokenizers"].items()}
    for row in found:
        row["reference"] = references[row["item"]]
        row |= sentence_counts(scorers[row["group"]], row["reply"], row["reference"])
    return found


def grade(asked: Asked, reply: str) -> dict[str, Any]:
    """Whether there is a translation at all."""
    return translated({"reply": reply})


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
    """What sacreBLEU says of a score by this tokenizer."""
    bleu = BLEU(tokenize=tokenizer)
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature().format())


def flores200() -> tuple[bool, str]:
    """Whether sacreBLEU's flores200 tokenizer can be had, and why not. The library fetches its model at first use."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        BLEU(tokenize=PIECES)
    except (Exception, SystemExit) as error:  # whatever fetching and reading a file may raise
        return False, " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        socket.setdefaulttimeout(before)
    return True, ""
