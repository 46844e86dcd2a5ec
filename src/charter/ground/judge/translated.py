"""The counts of a translated sentence, which add up to the corpus scores of `measure.translation`."""

from __future__ import annotations

from pathlib import Path

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from charter.ground.measure.translation import chrf_counts

PIECES = "flores200"


def sentence_counts(bleu: BLEU | None, reply: str, reference: str) -> dict[str, list[int]]:
    """What one sentence adds to the sums of `measure.translation.bleu`, where there is a tokenizer, and `.chrf`; the
    lines of a reply are one."""
    hypothesis = " ".join(reply.split())
    letters = {"chrf": chrf_counts(hypothesis, reference)}
    if bleu is None:
        return letters
    score = bleu.corpus_score([hypothesis], [[reference]])
    return {"bleu": [score.sys_len, score.ref_len, *score.counts, *score.totals]} | letters


def at_hand(tokenizer: str) -> BLEU | None:
    """BLEU by a tokenizer; None where its model is not on this disk, so that nothing is fetched."""
    model = Path(SACREBLEU_DIR) / "models" / Path(SPM_MODELS[PIECES]["url"]).name
    return None if tokenizer == PIECES and not model.is_file() else BLEU(tokenize=tokenizer)
