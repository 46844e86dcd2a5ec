r"""Prompts of the Text Completions API: one text in which "\n\nHuman:" and "\n\nAssistant:" take turns.

It is read into messages, so that a model with any chat template works in the API of 2023. A turn loses the one space
after its colon and nothing else: a model whose template is claude-2023 reads the prompt's own characters again
(and its end token after earlier replies, as in training). Text before the first Human turn is a system prompt
(spec: it came with Claude 2.1).

Version 2023-01-01 left these checks to its client; here it tolerates that client's most common mistakes: missing line
breaks before the first Human turn, and spaces at the very end.
"""

from __future__ import annotations

import re
from itertools import pairwise

from charter.ground.text.dialogue import Message, Role, assistant, system
from charter_service.api.errors import ApiError, invalid

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def messages_of(prompt: str, lenient: bool = False) -> list[Message]:
    """The messages of a prompt; the model continues a last Assistant turn with text.

    Raises ApiError with the words of the API if the turns are not in order.
    """
    if lenient:
        prompt = prompt.rstrip(" ")
        prompt = f"\n\n{prompt.lstrip()}" if prompt.lstrip().startswith("Human:") else prompt
    before, *rest = _TURN.split(prompt)
    names, texts = rest[::2], [text.removeprefix(" ") for text in rest[1::2]]
    if not names or names[0] != "Human":
        optional = "" if lenient else " after an optional system prompt"
        raise _wrong(f'prompt must start with "{HUMAN}" turn{optional}')
    if twice := [name for name, following in pairwise(names) if name == following]:
        raise _wrong(
            f'prompt must alternate between "{HUMAN}" and "{ASSISTANT}" turns, but has two "\n\n{twice[0]}:" in a row'
        )
    if names[-1] != "Assistant":
        raise _wrong(f'prompt must end with "{ASSISTANT}" turn')
    messages = [system(before)] if before.strip() else []
    messages += [
        Message(role=_ROLES[name], content=text) for name, text in zip(names[:-1], texts[:-1], strict=True)
    ]
    return [*messages, assistant(texts[-1])] if texts[-1].strip() else messages


def _wrong(words: str) -> ApiError:
    return invalid(words, "prompt")
