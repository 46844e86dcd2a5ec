"""The places of a conversation that may hold a request: each is screened separately, and the worst one counts.

Places are every user turn (the last one also after the turns before it), the system text (also joined with the last
turn), a reply that the caller began, and each sentence of these if there are several: a request may stand in a
document, or follow words meant to disarm the model. Earlier replies are places too, since a caller may have made them
up, and so are the decoded texts of all these.

Requests in pieces: spread over turns, over strings and variables, over the first letters of lines, or word by word
from the end. Each is put together again, and counts if it reads like English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from charter.ground.moderation import vocabulary
from charter.ground.moderation.encodings import decode_all, decode_runs, invisible, select
from charter.ground.moderation.spelling import respace, respell, to_plain
from charter.ground.text.dialogue import Message, user

JOINED = 1_000  # characters, the last ones of all user turns
STRINGS = 64  # quoted strings, and variables, of one text
LINES = 12  # least lines whose first letters may be a request
ROWS, COLUMNS = 3, 8  # least rows and most columns of a table that is read by columns
MOST_WORDS = 80  # of a part that is read from its last word
_QUOTED = r"""(?<!\w)(?:"([^"\n]{1,300})"|'((?:[^'\n]|(?<=\w)'(?=\w)){1,300})'(?!\w)|`([^`\n]{1,300})`)"""
_STRING = re.compile(rf"{_QUOTED}(?!\s{{0,3}}:)")
_IS = r"\s{0,3}(?::=|=|:|->|\bis\b|\bbe\b|\bmeans\b|\bstands for\b)\s{0,3}"
_ASSIGNED = re.compile(rf"(?<!\w)([A-Za-z_]\w{{0,20}}){_IS}{_QUOTED}[;,]?")
_NAMED = re.compile(
    rf"(?:\b(?i:let|set|define|say|var|const)\s{{1,3}}(\w{{1,20}})|(?<!\w)([$\[<{{]\w{{1,20}}[\]>}}]?|[A-Za-z]\d?)){_IS}"
    r"([A-Za-z][A-Za-z' -]{1,120})[;.,\n]?"
)
_LAST, _FIRST = re.compile(r"[A-Za-z]+$"), re.compile(r"[A-Za-z]+")
_NO_WORD = re.compile(r"[^\w\s.,?!'-]|(?<=\s)[-+.]+(?=\s)")
_LABEL = re.compile(
    r"^\W{0,3}(?:part|piece|step|chunk|fragment|line|word)?\s{0,2}\d{1,2}\s{0,2}[.:)=-]\s", re.IGNORECASE
)
_CELL = re.compile(r"[ \t]*[|,;\t][ \t]*")
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_REQUEST = re.compile(r"(?:how|write|give|tell|explain|create|make|build|provide|show|teach|describe|help)\b", re.I)
SENTENCES = 64  # of one text, screened one by one
LONG = 40  # words from which a sentence is cut at commas
WORDS = 4  # least words of a sentence
ENDS = 1000  # characters at the end of a system text, and of the last user turn, that are joined
_COMMENT = re.compile("<!--|-->")
_PAUSE = re.compile(r"(?<=[,;])\s+")
_ASKS = re.compile(
    r"^\W*(?:please )?(?:how|what|where|which|write|give|tell|explain|create|make|build|provide|show|teach|list|"
    r"describe|help|i want|i need|can you|could you)\b|\?",
    re.IGNORECASE,
)
# how a place's text was taken from the conversation: whole, cut out, in plain spelling, decoded, from all user turns
Kind = Literal["turn", "sentence", "respelled", "encoded", "joined"]


def join_turns(turns: Sequence[str], most: int = JOINED) -> str:
    """The end of texts, such as all user turns, as one text of at most `most` characters without line ends; a word that
    two share is one word."""
    parts: list[str] = []
    size = 0
    for text in reversed([" ".join(_LABEL.sub("", turn[-2 * most :]).split()) for turn in turns]):
        parts.insert(0, text[-most:])
        size += len(text) + 1
        if size > most:
            break
    return _join(parts)[-most:]


def assemble(text: str) -> list[str]:
    """The texts that the pieces of a text make."""
    candidates = [_join(_strings(text)), _with_values(text), *_columns(text), *_from_the_end(text)]
    candidates = [c for c in dict.fromkeys(candidates) if vocabulary.reads(c)]
    initials = re.findall(r"^[ \t]*[-*\d.)]*[ \t]*([A-Za-z])", text, re.MULTILINE)
    if LINES <= len(initials) <= vocabulary.MOST:
        candidates += [words for words in [vocabulary.divide("".join(initials))] if words]
    return [candidate[:JOINED] for candidate in candidates]


def _join(parts: Sequence[str]) -> str:
    """Parts as one text, with a space between two unless they are halves of a known word."""
    text = ""
    for part in (part.strip() for part in parts):
        left, right = _LAST.search(text), _FIRST.match(part)
        halves = left is not None and right is not None and _are_halves(left[0], right[0])
        text += ("" if halves or not text else " ") + part
    return text


def _are_halves(left: str, right: str) -> bool:
    """Whether two runs of letters are one known word, and not two."""
    return vocabulary.is_known(left + right) and not (vocabulary.is_known(left) and vocabulary.is_known(right))


def _strings(text: str) -> list[str]:
    """The quoted strings of a text that are no keys, if there are several."""
    strings = ["".join(groups) for groups in _STRING.findall(text)[:STRINGS]]
    return strings if len(strings) > 1 else []


def _with_values(text: str) -> str:
    """The rest of a text with the values of its variables in their places; "" without variables."""
    values: dict[str, str] = {}

    def note(match: re.Match[str]) -> str:
        groups = [group for group in match.groups() if group]
        if len(values) < STRINGS:
            values[groups[0]] = groups[-1].strip()
        return " \n"

    remainder = _NAMED.sub(note, _ASSIGNED.sub(note, text))
    if not values:
        return ""
    names = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))
    form = re.compile(rf"(?<!\w)(?:{names})(?!\w)")
    lines = [line for line in remainder.split("\n") if form.search(line)]
    uses = "\n".join(lines)[: 2 * JOINED]
    parts = [_NO_WORD.sub(" ", piece) for piece in _pieces(form, values, uses)]
    return " ".join(_join([part for part in parts if part.strip()]).split())


def _pieces(form: re.Pattern[str], values: dict[str, str], text: str) -> Iterator[str]:
    """The text between variables, and their values."""
    at = 0
    for match in form.finditer(text):
        yield text[at : match.start()]
        yield values[match[0]]
        at = match.end()
    yield text[at:]


def _columns(text: str) -> Iterator[str]:
    """The columns of a table of several rows, from the top."""
    rows = [_CELL.split(line.strip(" |\t")) for line in text.split("\n")[: 2 * STRINGS] if line.strip(" |\t:-")]
    width = max(map(len, rows), default=0)
    rows = [row for row in rows if len(row) == width]
    if len(rows) >= ROWS and 2 <= width <= COLUMNS:
        for n in range(width):
            # with and without the head of the column
            yield from (" ".join(row[n] for row in rows[start:]) for start in (0, 1))


def _from_the_end(text: str) -> Iterator[str]:
    """Parts that begin with their last word: only there is a capital, and it asks for something."""
    for part in _SENTENCE.split(text)[: STRINGS * 2]:
        words = part.strip(" .?!").split()
        if not 4 <= len(words) <= MOST_WORDS or words[0][:1].isupper():
            continue
        if words[-1][:1].isupper() and _REQUEST.match(words[-1]):
            yield " ".join(reversed(words))


@dataclass(frozen=True, slots=True)
class Place:
    """A text to screen, the last message of `messages`, and the name of its place. `turn`: the number of the user
    turn, from 0, if the text is a whole turn. `kind`: how it was taken from a text; `siblings`: number of places of
    that text, this one included. The worst of many is high by chance, so that a threshold may grow with it."""

    name: str
    messages: Sequence[Message]
    turn: int | None = None
    kind: Kind = "turn"
    siblings: int = 1


def places(messages: Sequence[Message]) -> Iterator[Place]:
    """All places of a conversation, the last user turn first."""
    turns = [m for m in messages if m["role"] != "system"]
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    user_turns = [n for n, turn in enumerate(turns) if turn["role"] == "user" and turn["content"].strip()]
    for number, n in sorted(enumerate(user_turns), key=lambda turn: turn[1] != last):
        text = turns[n]["content"]
        if n == last:  # its meaning may depend on the turns before
            yield from _read("last turn", text, number, turns[:n])
        else:
            yield from _read("earlier turn", text, number)
    questions = [turns[n]["content"] for n in user_turns]
    if len(user_turns) > 1:
        joined = join_turns(questions)
        texts = list(dict.fromkeys([decode_runs(joined), *assemble(joined), *decode_all(to_plain(joined))]))
        yield from (Place("joined turns", [user(text)], None, "joined", len(texts)) for text in texts)
    other_texts = [("system text", message) for message in messages if message["role"] == "system"]
    other_texts += [("earlier reply", turn) for turn in turns[:-1] if turn["role"] == "assistant"]
    other_texts += [("begun reply", turn) for turn in turns[-1:] if turn["role"] == "assistant"]
    for _, message in (entry for entry in other_texts if entry[0] == "system text"):
        for text in with_system(message["content"], questions):
            yield Place("joined system text", [user(text)], kind="joined")
    for name, message in other_texts:
        if message["content"].strip():
            yield from _read(name, message["content"])


def with_system(system_text: str, questions: Sequence[str]) -> list[str]:
    """The end of a system text with that of the last user turn, and with those of all: a request may begin in the one
    and end in the other."""
    ends = [text[-ENDS // len(questions) :] for text in questions]
    pairs = [[system_text[-ENDS:], *questions[-1:]], [system_text[-ENDS:], *ends]] if questions else []
    return list(dict.fromkeys(decode_runs(join_turns(texts, 2 * ENDS)) for texts in pairs))


def _read(name: str, text: str, number: int | None = None, before: Sequence[Message] = ()) -> Iterator[Place]:
    """A text, also after the messages `before` it; its sentences, as spelled and respelled; and the texts encoded in
    it."""
    readable = decode_runs(text)
    every = [Place(name, [*before, user(readable)], number)] if before else []
    every.append(Place(name, [user(readable)], number))
    parts = sentences(text)
    if len(parts) > 1 or (parts and parts[0] != text.strip()):
        every += [Place(f"sentence of the {name}", [user(part)], kind="sentence") for part in parts]
    plain_words = respace(respell(readable))
    if plain_words and plain_words != readable.strip():
        respelled = (plain_words, *(part for part in sentences(plain_words) if part not in parts))
        every += [Place(f"respelled {name}", [user(part)], kind="respelled") for part in respelled]
    plain = to_plain(text)
    decoded = [hidden for hidden in decode_all(plain, invisible(text)) if hidden.strip()]
    for hidden in dict.fromkeys([*([plain] if plain != text and plain.strip() else []), *decoded]):
        every.append(Place(f"encoded in the {name}", [user(hidden)], kind="encoded"))
    for hidden in assemble(readable):
        every.append(Place(f"pieces of the {name}", [user(hidden)], kind="joined"))
    yield from (replace(place, siblings=len(every)) for place in every)


def sentences(text: str) -> list[str]:
    """Sentences to read one by one: the first and last ones, and those of the others that ask for something."""
    parts = [part.strip() for long in _SENTENCE.split(_COMMENT.sub("\n", text)) for part in _split(long)]
    return select([part for part in parts if len(part.split()) >= WORDS], SENTENCES, _ASKS.search)


def _split(sentence: str) -> list[str]:
    """A sentence, or its parts between commas if it is very long."""
    return _PAUSE.split(sentence) if len(sentence.split()) > LONG else [sentence]
