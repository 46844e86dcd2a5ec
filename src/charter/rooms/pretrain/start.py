"""What a run starts from: its corpora, the tokenizer that they were cut with, and a model, new or continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.model.checkpoint import load_policy, new_model
from charter.ground.model.generation import generation_at
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.roles import Given
from charter.ground.settings.seed import derive_seed
from charter.ground.text.corpus_index import Split
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.pretrain.settings import Settings, too_wide
from charter.rooms.pretrain.size import Derived, derive


@dataclass(frozen=True, slots=True)
class Start:
    """All that the loop is given."""

    model: Transformer
    tokenizer: Tokenizer
    plan: Derived
    train: list[TokenShards]
    heldout: list[TokenShards]

    @property
    def epoch_tokens(self) -> int:
        """What one pass over the corpora learns: their tokens, and the end of each document."""
        return sum(shards.tokens + shards.documents for shards in self.train)

    @property
    def boundary(self) -> int:
        """The token that stands before and behind every document."""
        return boundary_of(self.tokenizer)


def boundary_of(tokenizer: Tokenizer) -> int:
    """The token that stands before and behind every document: the start token, else the end token."""
    return tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id


def start(settings: Settings, inputs: Inputs, out: Workspace) -> Start:
    """Opens everything. Raises CharterError for corpora of several tokenizers, for a policy of another one than
    theirs, and for a context beyond the policy's."""
    corpora = inputs.many("corpus")
    train, heldout = _opened(corpora, "train"), _opened(corpora, "heldout")
    for shards, corpus in zip(train, corpora, strict=True):
        if shards.index.tokenizer != train[0].index.tokenizer:
            raise CharterError(
                f"the corpora {corpora[0].name} and {corpus.name} were cut by two tokenizers; name the sources of "
                "both in one corpus, or give both steps the same `tokenizer`"
            )
    given = inputs.optional("policy")
    if given is None:
        tokenizer = Tokenizer.from_folder(corpora[0].folder)
        plan = derive(settings, train[0].index.vocab_size)
        model = new_model(plan.shape, derive_seed(out.seed, "weights"), out.device)
        said = settings.decoding_temperature
        model.generation = generation_at(1.0 if said is None else said)
        return Start(model, tokenizer, plan, train, heldout)
    model, tokenizer = load_policy(checkpoint_folder(given), out.device)
    if tokenizer.digest != train[0].index.tokenizer:
        raise CharterError(
            f"{given.name} has another tokenizer than the corpus {corpora[0].name}; make the corpus with the policy's: "
            f"`from: {{tokenizer: {given.name}}}` in its step"
        )
    plan = derive(settings, tokenizer.vocab_size, model.shape)
    if wrong := too_wide(settings, Given(given.name, model.shape.context)):
        raise CharterError(wrong)
    if settings.decoding_temperature is not None:
        ids = {key: value for key, value in model.generation.items() if key.endswith("_token_id")}
        model.generation = ids | generation_at(settings.decoding_temperature)
    return Start(model, tokenizer, plan, train, heldout)


def _opened(corpora: Sequence[Input], split: Split) -> list[TokenShards]:
    """The split of each corpus. Raises CharterError where none of them has a document in it."""
    found = [TokenShards.open(given.folder, split) for given in corpora]
    if not any(shards.documents for shards in found):
        names = ", ".join(given.name for given in corpora)
        what = {"train": "nothing to learn from", "heldout": "nothing held out to measure by"}[split]
        raise CharterError(f"{names}: {what}; look at the corpus's report, or raise its heldout_share")
    return found
