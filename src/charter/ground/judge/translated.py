"""The counts of a translated sentence. Their sums give the corpus scores of `measure.translation`."""

from __future__ import annotations

from pathlib import Path

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from charter.ground.measure.translation import chrf_counts

PIECES = "flores200"


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
