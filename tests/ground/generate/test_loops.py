"""The loop stop: it ends a reply that repeats itself at its first round, shows nothing of the later ones, and leaves
lists, tables, code and refrains alone."""

from __future__ import annotations

import toys
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.detokenizer import TextPieces
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.samples import LoopSearch
from charter.ground.generate.sampling import Sampling

RAW = Sampling(0.0, max_tokens=200)
STOPPED = Sampling(0.0, max_tokens=200, loop_stop=True)


def kept(text: str) -> str | None:
    """What the search leaves of a text whose tokens are its words, spaces and marks; None if it never ends it."""
    tokens = [word for line in text.split("\n") for word in [*line.split(" "), "\n"]]
    search, ids = LoopSearch(), {word: n for n, word in enumerate(dict.fromkeys(tokens))}
    for word in tokens:
        if (count := search.add(ids[word])) is not None:
            return " ".join(tokens[:count])
    return None


def test_a_phrase_that_goes_on_and_on_is_cut_to_its_first_round() -> None:
    assert kept("It is la femme, " + "la belle femme, " * 60) == "It is la femme, la belle"
    assert kept("Well " + "no " * 90) == "Well no"
    verse = " ".join(f"word{n}" for n in range(50))
    assert kept(" ".join([verse] * 6)) == verse


def test_what_people_write_goes_on() -> None:
    poem = "\n".join(f"line {n} of a long poem\nand the rain came down\nand the rain came down" for n in range(30))
    table = "\n".join(f"| row {n} | yes | no | yes | no |" for n in range(40))
    code = "\n".join(f"    total = total + values [ {n} ]\n    print ( total )" for n in range(40))
    assert [kept(text) for text in (poem, table, code, "ha " * 60, "- " * 70)] == [None] * 5
    steps = "\n".join(f"{n} . Stir the soup and wait for a minute ." for n in range(40))
    assert kept(steps) is None


def looping(sampling: Sampling, constraint: bool = False) -> tuple[Completion, str]:
    """A greedy reply of a random model, which soon repeats itself, and its text as it was shown piece by piece."""
    engine = Engine(toys.model(0), toys.tokenizer(), 2)
    pieces, shown, completion = TextPieces(toys.tokenizer()), "", Completion()
    engine.submit([11, 12, 13], sampling, constraint=Anything if constraint else None)
    while not engine.idle:
        for event in engine.step():
            completion = event.completion
            shown += pieces.add(completion)
    return completion, shown


class Anything(Constraint):
    """A form that allows everything."""

    def restrict(self, logits_V: object, left: int) -> None:
        """Excludes nothing."""

    def accept(self, token: int) -> bool:
        """Any."""
        return True


def test_the_engine_ends_a_loop_and_shows_one_round_of_it() -> None:
    free, _ = looping(RAW)
    completion, shown = looping(STOPPED)
    assert (free.stop, len(free.ids)) == ("length", 200)
    assert completion.stop == "loop" and len(completion.ids) < 200
    assert completion.ids == free.ids[: len(completion.ids)]
    assert shown == completion.text and free.text.startswith(shown) and len(shown) < len(free.text) / 2


def test_a_reply_held_to_a_form_is_never_cut() -> None:
    completion, _ = looping(STOPPED, constraint=True)
    assert (completion.stop, len(completion.ids)) == ("length", 200)
