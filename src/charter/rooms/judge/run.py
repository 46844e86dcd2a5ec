"""Judges: models that vote on pairs of replies, every pair in both orders (Zheng 2023, 2306.05685, section 3.4).

A vote counts for a reply only if both orders prefer it; if the orders disagree, it is a tie. Votes name their source
`ai:NAME`, so that they are never counted together with people's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.constitution.wording import OPTIONS, choice_messages
from charter.ground.generate.assistant import Assistant, local_of, open_assistant
from charter.ground.judge import choice
from charter.ground.measure.reporting import record
from charter.ground.settings.seed import derive_seed
from charter.ground.text.examples import read_shots
from charter.ground.text.votes import VOTES
from charter.rooms.judge.metrics import JUDGED, OF_JUDGES, PEOPLE, WINNERS, mark
from charter.rooms.judge.pairs import Pair, read_pairs, rubrics_of
from charter.rooms.judge.settings import Settings
from charter.rooms.judge.votes import votes_of

Row = dict[str, Any]
Orders = list[float] | None
LETTERS_EXCHANGED = (OPTIONS[1], OPTIONS[0])


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: report.json, votes.jsonl, samples/judged.jsonl and people.jsonl."""
    pairs = read_pairs(settings, inputs)
    shots = read_shots(inputs.one("shots").folder)[: settings.shots]
    axes = sorted({pair.axis for pair in pairs})
    rubrics = rubrics_of(axes, settings.rubrics)
    drawn = random.Random(derive_seed(settings.draw_seed, "checked"))
    checked = set(drawn.sample(range(len(pairs)), min(settings.checked, len(pairs))))
    rows: list[Row] = []
    for number, source in enumerate(inputs.many("judges")):
        judge = _Judge(settings, out, source, number, shots)
        orders = judge.ask("orders", pairs, rubrics)
        again = [pair for n, pair in enumerate(pairs) if n in checked]
        more = {
            "relabelled": judge.ask("relabelled", again, rubrics, labels=LETTERS_EXCHANGED),
            "reworded": judge.ask("reworded", again, rubrics, wording=1),
        }
        more_by_id = {key: dict(zip((pair.id for pair in again), each, strict=True)) for key, each in more.items()}
        for pair, both in zip(pairs, orders, strict=True):
            row = _row(pair, source.name, number, both)
            row |= {key: each.get(pair.id) for key, each in more_by_id.items()}
            rows.append(row | mark(row))
    out.write_jsonl(f"samples/{JUDGED}", rows)
    out.write_jsonl(f"samples/{PEOPLE}", [vote for pair in pairs for vote in _people(pair)])
    votes = votes_of(rows)
    out.write_jsonl(VOTES, votes)
    judges = [{"name": source.name, "id": source.id} for source in inputs.many("judges")]
    out.write_json("report.json", {"stage": settings.stage, "judges": judges, "rubrics": rubrics})
    out.counts({"pairs": len(pairs), "judges": len(judges), "votes": len(votes)})
    record(out, OF_JUDGES)


class _Judge:
    """One judge and the ways to ask it; it is loaded at its first question."""

    def __init__(
        self, settings: Settings, out: Workspace, source: Input, number: int, shots: Sequence[Mapping[str, Any]]
    ) -> None:
        self.settings, self.out, self.number, self.shots = settings, out, number, shots
        self.source = source
        self._model: Assistant | None = None

    @property
    def model(self) -> Assistant:
        """The model."""
        if self._model is None:
            self._model = open_assistant(self.source, self.out.device, precision=self.out.precision)
        return self._model

    def ask(
        self,
        round_name: str,
        pairs: Sequence[Pair],
        rubrics: Mapping[str, tuple[str, str]],
        labels: tuple[str, str] = OPTIONS,
        wording: int = 0,
    ) -> list[Orders]:
        """The probabilities of the reply in first place in both orders; None for a pair that doesn't fit into the
        context."""
        how = choice.How(shots=self.shots, votes=self.settings.votes, seed=self.settings.draw_seed, labels=labels)

        def produce(part: Sequence[Pair], _: int) -> list[Orders]:
            questions = [
                choice.Question(f"{pair.id}/{round_name}", pair.messages, *pair.replies, rubrics[pair.axis][wording])
                for pair in part
            ]
            fitting = [question for question in questions if self._fits(question)]
            choices_by_id = dict(zip((q.id for q in fitting), choice.choose(self.model, fitting, how), strict=True))
            return [list(choices_by_id[q.id].orders) if q.id in choices_by_id else None for q in questions]

        name = f"judge-{self.number}-{round_name}"
        return self.out.chunks(name, pairs, self.settings.chunk, produce, f"{self.source.name}: {round_name}")

    def _fits(self, question: choice.Question) -> bool:
        local = local_of(self.model)
        messages = choice_messages(question.messages, question.first, question.second, question.principle, self.shots)
        return local is None or len(local.encode(messages)) + 8 <= local.engine.context


def _row(pair: Pair, judge: str, number: int, orders: Orders) -> Row:
    models = pair.models or (None, None)
    return {
        "id": pair.cluster,
        "item": pair.id,
        "group": pair.group,
        "axis": pair.axis,
        "judge": judge,
        "judge_number": number,
        "model_a": models[0],
        "model_b": models[1],
        "length_a": len(pair.replies[0]),
        "length_b": len(pair.replies[1]),
        "people": list(pair.people) or None,
        "orders": orders,
    }


def _people(pair: Pair) -> list[Row]:
    """A row for each person's vote on a pair, as its place among a, b and tie."""
    places = [place for place, count in enumerate(pair.people) for _ in range(count)]
    return [{"id": pair.cluster, "case": pair.id, "vote": place, "said": WINNERS[place]} for place in places]
