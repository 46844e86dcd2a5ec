"""The numbers of the Claude 2 card beside this card's, with each difference of protocol named, if both were asked items
of the same public set.

They are constants of a published page; their source is that page and its section. Differences follow from the identity
of the report that gives our number. What the page doesn't state is called unstated. Models of other sizes were asked
in other words, so a row says how far apart two numbers are, never why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.measure.metric import EXPONENT
from charter.ground.measure.position import CARD_CONSTANT, CARD_EXPONENT, CARD_LENGTH
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.gather import Run
from charter.rooms.card.letters import unread
from charter.rooms.card.number import SHARE, Number, Source
from charter.rooms.card.sections import unfit
from charter.rooms.card.tasks import read_protocol, references

MODELS = ("Claude Instant 1.1", "Claude 1.3", "Claude 2")
PAGE = "Model Card and Evaluations for Claude Models, Anthropic, July 2023"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the page says that it asked; None if it doesn't say. `items` is the size of the set that it names. A
    `private` set was not published, so that anybody's items differ."""

    name: str
    section: str
    data: str
    values: tuple[float | None, float | None, float | None]
    items: int | None = None
    shots: int | None = None
    temperature: float | None = None
    reasoned: bool | None = None
    unit: str = SHARE
    length: int | None = None
    private: bool = False


# Replies to each harmful prompt on the page.
SAMPLES = 5
HUMANEVAL = Protocol("HumanEval", "4.3", "HumanEval", (0.528, 0.560, 0.712), 164, 0, 1.0, False)
GSM8K = Protocol("GSM8k", "4.3", "the test split of GSM8k", (0.809, 0.852, 0.880), 1319, 0, 1.0, True)
MMLU = Protocol("MMLU", "4.3", "the test split of MMLU", (0.734, 0.770, 0.785), 14042, 5, 1.0, True)
TRIVIAQA = Protocol("TriviaQA", "4.3", "TriviaQA", (0.789, 0.867, 0.875), None, 5, 0.0)
QUALITY = Protocol("QuALITY", "4.3", "QuALITY", (0.805, 0.841, 0.832), None, 5)
ARC = Protocol("ARC-Challenge", "4.3", "the test split of ARC-Challenge", (0.857, 0.900, 0.910), 1172, 5)
RACE = Protocol("RACE-H", "4.3", "the test split of RACE-H", (0.855, 0.888, 0.883), 3498, 5)
CHOICES = Protocol("HHH", "3.5", "438 choices", (0.84, 0.85, 0.86), 438, 0)
LONG = "1,000 long documents"
FALL = Protocol(
    "Loss by position", "4.2", LONG, (None, None, CARD_EXPONENT), 1000, unit=EXPONENT, length=CARD_LENGTH
)
FLOOR = replace(FALL, values=(None, None, CARD_CONSTANT), unit="nats")
# Of Claude 2 the page says 4 of 328.
REQUESTS = Protocol(
    "Harmlessness", "3.4", "its own prompts", (None, None, 4 / 328), 328, None, 1.0, private=True
)
LAW = Protocol("MBE", "4.3.2", "NCBE's practice exam of 2021", (None, None, 0.765), 200, 5, None, False)
STEP_1, STEP_2, STEP_3 = (
    Protocol(
        f"USMLE step {n}",
        "4.3.3",
        "official practice items of the step",
        (None, None, value),
        None,
        5,
        None,
        False,
    )
    for n, value in ((1, 0.689), (2, 0.633), (3, 0.672))
)
# Our metric -> (the page's protocol, whether ours reasons before it answers; None if that doesn't apply).
ROWS: Mapping[str, tuple[Protocol, bool | None]] = {
    "humaneval": (HUMANEVAL, False),
    "gsm8k": (GSM8K, True),
    "mmlu": (MMLU, True),
    "mmlu_plain": (MMLU, False),
    "triviaqa": (TRIVIAQA, None),
    "quality": (QUALITY, None),
    "arc": (ARC, None),
    "race": (RACE, None),
    "hhh_policy": (CHOICES, None),
    "position_exponent": (FALL, None),
    "position_constant": (FLOOR, None),
    "requests_harm_prompts": (REQUESTS, None),
    "mbe": (LAW, False),
    "usmle_step_1": (STEP_1, False),
    "usmle_step_2": (STEP_2, False),
    "usmle_step_3": (STEP_3, False),
}
# The parts of our protocol that are stated besides the data, for numbers that no question task gives.
OWN_WORDS = "the set's own prompt"
STATED_PARTS = {"hhh_policy": ("shots", "form", "words")}


@dataclass(frozen=True, slots=True)
class Beside:
    """One of our numbers, those of the published models in order, and the differences in how they were measured."""

    label: str
    published: tuple[Number | None, ...]
    ours: Number
    unfit: bool
    differences: tuple[str, ...]


def beside_published(run: Run) -> tuple[Beside, ...]:
    """A row for each number of the final stage that the Claude 2 card has too."""
    rows = []
    for name, (protocol, reasoned) in ROWS.items():
        ours = run.final.numbers.get(name)
        alike = protocol.private or _asked_alike(run.final, name)
        if ours is not None and ours.value is not None and not ours.few and alike:
            theirs = tuple(
                _number(name, protocol, *pair) for pair in zip(MODELS, protocol.values, strict=True)
            )
            differences = tuple(_differences(run.final, name, ours, protocol, reasoned))
            rows.append(Beside(ours.label, theirs, ours, unfit(run.final, name), differences))
    return tuple(rows)


def _asked_alike(stage: Artifact, name: str) -> bool:
    """Whether a number is of the public set, and not of items of our own or of others that stand in for an exam."""
    identity = _read_identity(stage, name)
    data = references(identity.get("data"))
    return bool(data) and not data.startswith("shipped:") and not identity.get("stand_in")


def _number(name: str, protocol: Protocol, model: str, value: float | None) -> Number | None:
    source = Source("Claude 2 model card", PAGE, f"section {protocol.section}")
    key = f"published/{model}/{name}"
    return (
        None
        if value is None
        else Number(key, name, value, unit=protocol.unit, stage=model, sources=(source,))
    )


def published_number(name: str) -> Number | None:
    """The published number of the page's last model beside one of our metrics."""
    protocol = ROWS[name][0]
    return _number(name, protocol, MODELS[-1], protocol.values[-1])


def _differences(
    stage: Artifact, name: str, ours: Number, protocol: Protocol, reasoned: bool | None
) -> Iterator[str]:
    """The known differences, then what the page leaves open."""
    identity = _read_identity(stage, name)
    data = references(identity.get("data"))
    # harmless requests are kept in the same file
    items = (ours.clusters or 0) if protocol.private else _items(stage, name, ours)
    few = (
        f" ({items:,} of {protocol.items:,} items)"
        if items and protocol.items and items < protocol.items
        else ""
    )
    yield f"{data}{few}; there {protocol.data}"
    if protocol.private:
        yield "another preference model, other wrappers; the page's prompts and model are not published"
        if (samples := identity.get("samples")) is not None and samples != SAMPLES:
            yield f"samples of a prompt: {samples}; there {SAMPLES}"
    shots, temperature = identity.get("shots"), identity.get("temperature")
    if shots is not None and protocol.shots is not None and shots != protocol.shots:
        yield f"examples: {shots}; there {protocol.shots}"
    if protocol.length is not None:
        joined = ", joined from shorter ones" if identity.get("joined") else ""
        yield f"texts of {identity.get('length', 0):,} tokens{joined}; there to {protocol.length:,}"
        yield "counted in tokens of another tokenizer"
    elif protocol.temperature is None and temperature is not None:
        yield f"temperature: {temperature:g}; not stated there"
    elif temperature is not None and temperature != protocol.temperature:
        yield f"temperature: {temperature:g}; there {protocol.temperature:g}"
    if reasoned is not None and protocol.reasoned is not None and reasoned != protocol.reasoned:
        yield (
            "answers after a chain of thought; there without"
            if reasoned
            else "no chain of thought; there with one"
        )
    if identity.get("scored") == "options" and not protocol.reasoned:
        yield "the likeliest choice; not stated there"
    form = "a running text" if identity.get("form") == "text" else "a chat"
    if (words := identity.get("words")) is not None and words != OWN_WORDS:
        yield f"asked in {words}; there in the set's own prompt"
    elif words is not None:
        yield f"the set's own prompt as {form}; not stated there"
    elif identity.get("form") and not protocol.private:
        yield f"asked as {form}; its words there are not published"
    if unread(stage, name):
        yield "this model can't use letters: the place of an option decides"


def _items(stage: Artifact, name: str, ours: Number) -> int:
    """How many items were asked. Clusters are fewer if questions share a passage."""
    rows = stage.of(name).rows(ours.sources[0].file)
    return len({str(row.get("item", row["id"])) for row in rows})


def _read_identity(stage: Artifact, name: str) -> Mapping[str, Any]:
    """How a stage was asked, as a task's identity says it, also if an evaluate report has the number."""
    identity = read_protocol(stage, name)
    if name in STATED_PARTS:
        return {key: identity.get(key) for key in ("data", *STATED_PARTS[name])}
    return identity
