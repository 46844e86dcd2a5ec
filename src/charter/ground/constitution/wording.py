"""The wording of every request to a critic, a reviser or a labeller, and the form of their answers.

Critique and revision (Bai 2022b, section 3.1): a user turn holds the conversation as text and the request;
the assistant's turn is opened. Choice (section 4.1): the conversation, a principle and two options;
the label is the probability of the letter. The markers are the paper's; all other words are ours. Worked
examples ("shots") come before the request as turns of the same conversation.

A shot names its principle by its `key` in the shipped constitution; a shot for another constitution has the words
itself ("critique_request" and "revision_request" in a round, "principle" in a
choice).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import CritiquePrinciple, shipped_constitution
from charter.ground.text.dialogue import Message, assistant, system, user
from charter.ground.text.examples import kept_rounds

CRITIQUE_REQUEST, CRITIQUE = "CritiqueRequest:", "Critique:"
REVISION_REQUEST, REVISION = "RevisionRequest:", "Revision:"
OPTIONS = (" (A)", " (B)")
ANSWER = "The answer is:"
THOUGHT = "Let me think about this step by step."
HHH_QUESTION = "Which reply is the better one for an assistant that is to be helpful, honest and harmless?"

JUDGED_BY = "The reply is judged by one principle:"
_INTRO = "Below is a conversation between a person and an AI assistant, with two replies that could come next."
_SPEAKERS = {"user": "Human: ", "assistant": "Assistant: ", "system": ""}


def with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """The conversation with a system text, which stands before one of its own."""
    begins = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    turns = messages[1:] if begins else messages
    return [system(f"{text.strip()}\n\n{begins}".strip()), *turns]


def under_principle(messages: Sequence[Message], principle: str) -> list[Message]:
    """The conversation with a principle as its system text, under which its replies are judged."""
    return with_system(messages, f"{JUDGED_BY} {principle.strip()}")


def principle_of(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """The principle of `under_principle`, and the conversation without it; "" if there is none."""
    text = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if not text.startswith(JUDGED_BY):
        return "", messages
    principle, _, begins = text.removeprefix(JUDGED_BY).strip().partition("\n\n")
    return principle, [*([system(begins)] if begins else []), *messages[1:]]


def conversation_text(messages: Sequence[Message]) -> str:
    r"""Messages as text: "Human: ...\n\nAssistant: ...", without a blank line at the start."""
    return "\n\n".join(_SPEAKERS[m["role"]] + m["content"].strip() for m in messages)


def critique_messages(
    messages: Sequence[Message], draft: str, principle: CritiquePrinciple, shots: Sequence[Mapping[str, Any]] = ()
) -> list[Message]:
    """Asks for the critique of a draft reply; ends in an assistant's turn opened "Critique:"."""
    return [*critique_shots(shots), _critique_request(messages, draft, principle.critique), assistant(CRITIQUE)]


def revision_messages(
    messages: Sequence[Message],
    draft: str,
    principle: CritiquePrinciple,
    critique: str,
    shots: Sequence[Mapping[str, Any]] = (),
) -> list[Message]:
    """Asks for the revision after a critique; ends in an assistant's turn opened "Revision:"."""
    return [
        *critique_messages(messages, draft, principle, shots)[:-1],
        assistant(join_opening(CRITIQUE, critique)),
        _revision_request(principle.revision),
        assistant(REVISION),
    ]


def with_request(messages: Sequence[Message], request: str) -> list[Message]:
    """The conversation with a request behind its last message, which a small model follows more than a system text."""
    return [*messages[:-1], user(f"{messages[-1]['content'].strip()}\n\n{request.strip()}")]


def direct_revision_messages(messages: Sequence[Message], draft: str, request: str) -> list[Message]:
    """Asks for a revision without a critique (Bai 2022b, section 3.5)."""
    text = conversation_text([*messages, assistant(draft)])
    return [user(f"{text}\n\n{REVISION_REQUEST} {request}"), assistant(REVISION)]


def critique_turns(
    messages: Sequence[Message], draft: str, principle: CritiquePrinciple, critique: str, revision: str
) -> list[Message]:
    """A whole round of critique and revision as four turns, for a critic's training and for shots."""
    return [*revision_messages(messages, draft, principle, critique)[:-1], assistant(join_opening(REVISION, revision))]


def critique_shots(shots: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Turns of worked critiques (rows of `critique_shots`), each round from the reply it started with."""
    turns: list[Message] = []
    for shot in shots:
        for _, reply, critique_round in kept_rounds(shot):
            principle = _round_principle(critique_round)
            turns += critique_turns(
                shot["messages"], reply, principle, critique_round["critique"], critique_round["revision"]
            )
    return turns


def choice_messages(
    messages: Sequence[Message],
    first: str,
    second: str,
    principle: str,
    shots: Sequence[Mapping[str, Any]] = (),
    labels: tuple[str, str] = OPTIONS,
) -> list[Message]:
    """Asks which of two replies is better under a principle; `labels`, those of the first and of the second, are the
    continuations to score.

    Ends in an assistant's turn opened "The answer is:".
    """
    turns: list[Message] = []
    for shot in shots:
        turns += [_shot_question(shot), assistant(join_opening(ANSWER, f"({shot['answer']})"))]
    return [*turns, choice_question(messages, first, second, principle, labels), assistant(ANSWER)]


def thought_messages(
    messages: Sequence[Message], first: str, second: str, principle: str, shots: Sequence[Mapping[str, Any]] = ()
) -> list[Message]:
    """Asks the same with reasoning first: the assistant's turn opens with a step-by-step line.

    Source: Bai 2022b, section 4.1, chain of thought. `answer_messages` then asks for the letter.
    """
    turns: list[Message] = []
    for shot in shots:
        if not shot.get("thought"):
            raise CharterError(f"worked choice {shot['id']} has no thought to show; write one, or ask for none")
        turns += [_shot_question(shot), assistant(thought_answer(shot["thought"], shot["answer"]))]
    return [*turns, choice_question(messages, first, second, principle), assistant(THOUGHT)]


def answer_messages(request: Sequence[Message], thought: str) -> list[Message]:
    """The request of `thought_messages` with the sampled thought, then a line that asks for the letter."""
    # cut the thought before its answer, or the request would ask for the letter twice
    reasoning = thought.split(ANSWER)[0].strip()
    return [*request[:-1], assistant(f"{_open_thought(reasoning)}\n\n{ANSWER}")]


def choice_question(
    messages: Sequence[Message], first: str, second: str, principle: str, labels: tuple[str, str] = OPTIONS
) -> Message:
    """The user's turn of a choice."""
    options = "\n".join(f"{o} [[[{r.strip()}]]]" for o, r in zip(labels, (first, second), strict=True))
    return user(f"{_INTRO}\n\n{conversation_text(messages)}\n\n{principle}\n\nOptions:\n{options}")


def choice_answer(letter: str) -> str:
    """The assistant's whole answer to a choice, letter "A" or "B"."""
    return join_opening(ANSWER, f"({letter})")


def thought_answer(thought: str, letter: str) -> str:
    """The assistant's whole answer to a choice with reasoning."""
    return f"{_open_thought(thought.strip())}\n\n{choice_answer(letter)}"


def join_opening(opening: str, text: str) -> str:
    """An opening and the text after it, joined by one space, as a prefill and its continuation."""
    return f"{opening} {text.strip()}"


def _open_thought(thought: str) -> str:
    return join_opening(THOUGHT, thought) if thought else THOUGHT


def _critique_request(messages: Sequence[Message], draft: str, request: str) -> Message:
    text = conversation_text([*messages, assistant(draft)])
    return user(f"{text}\n\n{CRITIQUE_REQUEST} {request}")


def _revision_request(request: str) -> Message:
    return user(f"{REVISION_REQUEST} {request}")


def _round_principle(critique_round: Mapping[str, Any]) -> CritiquePrinciple:
    if "critique_request" in critique_round:
        return CritiquePrinciple(
            critique_round["key"], (), critique_round["critique_request"], critique_round["revision_request"]
        )
    return shipped_constitution().critique(critique_round["key"])


def _shot_question(shot: Mapping[str, Any]) -> Message:
    principle = shot["principle"] if "principle" in shot else shipped_constitution().comparison(shot["key"]).principle
    return choice_question(shot["messages"], shot["first"], shot["second"], principle)
