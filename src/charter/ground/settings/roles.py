"""Roles: the named inputs of a room, and which kinds of artifacts and sources may fill each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

DATA_KINDS = frozenset(
    {
        "dialogues",
        "comparisons",
        "text",
        "triples",
        "judgments",
        "templates",
        "corpus",
        "questions",
        "sources",
    }
)
# prompts: up to the last user turn. lessons: with a turn of the assistant's to learn from. transcripts: of critiques.
# choices: worked examples of a choice. rated: with a rating.
Rows = Literal["prompts", "lessons", "transcripts", "choices", "rated"]


@dataclass(frozen=True)
class Role:
    """One named input of a room.

    `kind` is an artifact kind; or "assistant" (a policy checkpoint or a remote engine); or a kind of file:
    "text" (JSONL of id and text), "triples" (JSONL with harmful and good replies), "judgments" (JSONL with
    people's verdicts), "templates" (JSONL with questions about two persons), "questions" (a file or folder of any
    rows: the evaluation that reads them knows their columns), "sources" (a manifest of text sources, or a file or
    folder of raw text), "constitution" (YAML).
    `variant` narrows checkpoints to "policy", "preference" or "rating". `default` is the reference if a recipe
    omits the role. `also`: another kind of artifact that may fill it, for its by-products. `rows`: what a role of
    dialogues reads its rows as, if not as any dialogue.
    """

    kind: str
    variant: str | None = None
    many: bool = False
    required: bool = True
    default: str | None = None
    also: str | None = None
    rows: Rows | None = None

    @property
    def holds_data(self) -> bool:
        """Whether the role takes rows or texts, not a model, a report or a constitution."""
        return self.kind in DATA_KINDS

    def wants(self) -> str:
        """The role in words, for messages."""
        if self.kind == "assistant":
            return "a policy checkpoint or a remote engine"
        if self.kind == "corpus":
            return "a corpus, which a step of the room `corpus` makes from texts"
        return f"{self.kind} ({self.variant})" if self.variant else self.kind

    def accepts(self, kind: str, variant: str | None, artifact: bool = False) -> bool:
        """Whether an `artifact`, or else a source, of that kind may fill this role.

        A variant of None is unknown until the source is opened, and is accepted. So are "hub" for models and data,
        and "data" (a file with unrecognised rows) for data. Prompts are dialogues.
        """
        if artifact and self.also is not None and kind == self.also:
            return True
        if kind == "hub":
            return self.holds_data or self.kind in ("checkpoint", "assistant")
        if self.kind == "questions":
            return kind in DATA_KINDS - {"sources"} | {"data", "prompts"}
        if self.kind == "sources":
            return kind in ("sources", "texts", "text", "data")
        if kind == "data":
            return self.kind not in ("checkpoint", "assistant", "constitution", "report", "card", "corpus")
        if self.kind == "assistant":
            return kind == "assistant" or (
                kind == "checkpoint" and variant in (None, self.variant or "policy")
            )
        if (self.kind, kind) in (("text", "corpus"), ("dialogues", "prompts")):
            return True
        return kind == self.kind and (self.variant is None or variant in (None, self.variant))


@dataclass(frozen=True)
class Given:
    """What a plan knows of one input: its name and, if known, the context of a model in tokens."""

    name: str
    context: int | None = None


# the inputs of each filled role, in the recipe's order
Filled = Mapping[str, Sequence[Given]]
