"""Chains of mutators, the twentieth family, and the record from which an attack is made again.

An attack is (prompt, chain, seed): each mutator of the chain gets a seed derived from that seed, its name and the
prompt's id. The row keeps all three, so equal rows give equal words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from charter.ground.artifact.errors import CharterError
from charter.ground.attack.families import MUTATORS
from charter.ground.attack.mutator import FAMILY, KINDS, Messages, Mutator, Writer
from charter.ground.settings.problems import suggest
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message

COMBINATION = "combination"
FAMILIES = (*MUTATORS, COMBINATION)
LONGEST = 3
CHAIN, SEED, SEED_PROMPT = "chain", "attack_seed", "seed_prompt"
Chain = tuple[str, ...]


def usable(writer: bool) -> Chain:
    """The families that can be used with or without a writer."""
    return tuple(name for name in FAMILIES if writer or name == COMBINATION or not MUTATORS[name].needs_writer)


def draw_chain(seed: int, families: Sequence[str] | None = None) -> Chain:
    """Two or three distinct ones of some families (all that need no writer) by seed, in the order in which they are
    applied: words, letters, frame, turns. At most one changes letters, since letters changed twice hide the request
    from everyone."""
    rng = random.Random(derive_seed(seed, COMBINATION))
    names = [n for n in (usable(writer=False) if families is None else families) if n != COMBINATION]
    rng.shuffle(names)
    length = rng.randint(2, LONGEST)
    members: list[Mutator] = []
    for mutator in map(known, names):
        twice = mutator.kind == "letters" and any(earlier.kind == "letters" for earlier in members)
        if len(members) < length and not twice:
            members.append(mutator)
    return tuple(m.name for m in sorted(members, key=lambda m: KINDS.index(m.kind)))


def resolve(chain: Sequence[str], id: str, seed: int, families: Sequence[str] | None = None) -> Chain:
    """The chain of one attack on the prompt of that id: the name combination becomes a drawn chain of `families`."""
    if COMBINATION not in chain:
        return tuple(chain)
    return draw_chain(derive_seed(seed, COMBINATION, id), families)


def family_of(chain: Sequence[str]) -> str:
    """The family of a chain; "" for no attack."""
    return chain[0] if len(chain) == 1 else COMBINATION if chain else ""


def known(family: str) -> Mutator:
    """A family by name. Raises CharterError."""
    if family not in MUTATORS:
        raise CharterError(f"there is no family {family!r} of attacks; {suggest(family, MUTATORS)}")
    return MUTATORS[family]


def mutate(dialogue: Dialogue, chain: Sequence[str], seed: int, writer: Writer | None = None) -> Dialogue:
    """The prompt after a chain of families. Its `meta` records prompt, chain and seed; the id is the prompt's, the
    chain's and the seed's."""
    messages: Messages = dialogue.messages
    for name in chain:
        messages = known(name).apply(messages, derive_seed(seed, name, dialogue.id), writer)
    meta = {**dialogue.meta, FAMILY: family_of(chain), CHAIN: list(chain), SEED: seed, SEED_PROMPT: dialogue.id}
    return replace(dialogue, id=f"{dialogue.id}/{'+'.join(chain) or 'plain'}/{seed}", messages=messages, meta=meta)


def rebuild(dialogue: Dialogue, prompt: Dialogue, writer: Writer | None = None) -> Dialogue:
    """The attack that a row records, made again from its prompt. Raises CharterError for a row without the record."""
    meta = dialogue.meta
    try:
        id, chain, seed = meta[SEED_PROMPT], tuple(meta[CHAIN]), int(meta[SEED])
    except (KeyError, TypeError, ValueError):
        raise CharterError(f"{dialogue.id} records no {SEED_PROMPT}, {CHAIN} and {SEED}: it is no attack") from None
    if id != prompt.id:
        raise CharterError(f"{dialogue.id} was made of prompt {id}, not of {prompt.id}")
    return mutate(prompt, chain, seed, writer)


def invert(messages: Sequence[Message], chain: Sequence[str]) -> Messages | None:
    """The messages before a chain; None if a family has no inverse, or didn't make them."""
    before: Messages | None = tuple(messages)
    for name in reversed(chain):
        inverse = known(name).inverse
        before = inverse(before) if inverse is not None and before is not None else None
    return before
