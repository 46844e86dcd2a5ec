"""What a run starts from: its corpora, their tokenizer, and a model, new or continued."""

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
from charter.ground.settings.room import Given
from charter.ground.settings.seed import derive_seed
from charter.ground.text.corpus_index import Split
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.pretrain.settings import Settings, too_wide
from charter.rooms.pretrain.size import Derived, derive


@dataclass(frozen=True, slots=True)
class Start:
    """Everything that the training loop needs."""

    model: Transformer
    tokenizer: Tokenizer
    plan: Derived
    train: list[TokenShards]
    heldout: list[TokenShards]

    @property
    def epoch_tokens(self) -> int:
        """Tokens of one pass over the corpora, including the end of each document."""
        return sum(shards.tokens + shards.documents for shards in self.train)

    @property
    def boundary(self) -> int:
        """The token before and after every document."""
        return boundary_of(self.tokenizer)


def boundary_of(tokenizer: Tokenizer) -> int:
    """The token before and after every document: the start token, else the end token."""
    return tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id


def open_start(settings: Settings, inputs: Inputs, out: Workspace) -> Start:
    """Open everything. Raises CharterError for corpora with different tokenizers, for a policy with another tokenizer,
    and for a context beyond the policy's."""
    corpora = inputs.many("corpus")
    train, heldout = _open(corpora, "train"), _open(corpora, "heldout")
    for shards, corpus in zip(train, corpora, strict=True):
        if shards.index.tokenizer != train[0].index.tokenizer:
            raise CharterError(
                f"the corpora {corpora[0].name} and {corpus.name} were cut by two tokenizers; name the sources of "
                "both in one corpus, or give both steps the same `tokenizer`"
            )
    policy = inputs.optional("policy")
    if policy is None:
        tokenizer = Tokenizer.from_folder(corpora[0].folder)
        plan = derive(settings, train[0].index.vocab_size)
        model = new_model(plan.shape, derive_seed(out.seed, "weights"), out.device)
        temperature = settings.decoding_temperature
        model.generation = generation_at(1.0 if temperature is None else temperature)
        return Start(model, tokenizer, plan, train, heldout)
    model, tokenizer = load_policy(checkpoint_folder(policy), out.device)
    if tokenizer.digest != train[0].index.tokenizer:
        raise CharterError(
            f"{policy.name} has another tokenizer than the corpus {corpora[0].name}; make the corpus with the "
            f"policy's: `from: {{tokenizer: {policy.name}}}` in its step"
        )
    plan = derive(settings, tokenizer.vocab_size, model.shape)
    if wrong := too_wide(settings, Given(policy.name, model.shape.context)):
        raise CharterError(wrong)
    if settings.decoding_temperature is not None:
        ids = {key: value for key, value in model.generation.items() if key.endswith("_token_id")}
        model.generation = ids | generation_at(settings.decoding_temperature)
    return Start(model, tokenizer, plan, train, heldout)


def _open(corpora: Sequence[Input], split: Split) -> list[TokenShards]:
    """The split of each corpus. Raises CharterError if none of them has a document in it."""
    shards_by_corpus = [TokenShards.open(corpus.folder, split) for corpus in corpora]
    if not any(shards.documents for shards in shards_by_corpus):
        names = ", ".join(corpus.name for corpus in corpora)
        problem = {"train": "nothing to learn from", "heldout": "nothing held out to measure"}[split]
        raise CharterError(f"{names}: {problem}; look at the corpus's report, or raise its heldout_share")
    return shards_by_corpus
