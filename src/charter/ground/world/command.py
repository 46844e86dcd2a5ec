"""What a command is: name, arguments and help, for agents that write lines and for those that call tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from charter.ground.world.state import Refused, World

TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|(\S+))""")


@dataclass(frozen=True)
class Argument:
    """`rest`: it takes what is left of the line, in which \\n stands for a new line."""

    name: str
    help: str
    optional: bool = False
    rest: bool = False


@dataclass(frozen=True)
class Command:
    """`run` gets the world and one text an argument, "" for an optional one that was left out."""

    name: str
    help: str
    run: Callable[..., tuple[World, str]]
    arguments: tuple[Argument, ...] = ()

    @property
    def usage(self) -> str:
        words = [f"[{argument.name}]" if argument.optional else argument.name for argument in self.arguments]
        return " ".join([self.name, *words])

    def schema(self) -> dict[str, object]:
        """The arguments as a JSON schema, for native tool calls."""
        return {
            "type": "object",
            "properties": {
                argument.name.lower(): {"type": "string", "description": argument.help} for argument in self.arguments
            },
            "required": [argument.name.lower() for argument in self.arguments if not argument.optional],
            "additionalProperties": False,
        }

    def line(self, values: Mapping[str, object]) -> str:
        """The line that says the same as a tool call with these values."""
        words = [self.name]
        for argument in self.arguments:
            text = str(values.get(argument.name.lower(), ""))
            if argument.rest:
                words.append(_quoted(text.replace("\\", "\\\\").replace("\n", "\\n"), text != text.strip()))
            elif text or not argument.optional:
                words.append(_quoted(text, not text or re.search(r"\s", text) is not None))
        return " ".join(words).rstrip()

    def parsed(self, line: str) -> list[str]:
        """The arguments' texts in what follows the name. Raises Refused with the usage if they don't fit."""
        position, texts = 0, list[str]()
        for argument in self.arguments:
            if argument.rest:
                text = _unquoted(line[position:].strip())
                position = len(line)
            elif match := TOKEN.match(line, position):
                text = next(group for group in match.groups() if group is not None)
                position = match.end()
            else:
                text = ""
            if not text and not argument.optional:
                raise Refused(f"{argument.name} is missing; usage: {self.usage}")
            texts.append(text)
        if line[position:].strip():
            raise Refused(f"too many arguments; usage: {self.usage}")
        return texts


def _quoted(text: str, always: bool) -> str:
    """The text in quotes where it needs them; one that has both kinds of quotes keeps one kind."""
    if always or text[:1] in ("'", '"'):
        if "'" in text and '"' in text:
            text = text.replace('"', "'")
        quote = "'" if '"' in text else '"'
        return f"{quote}{text}{quote}"
    return text


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        text = text[1:-1]
    return re.sub(r"\\(n|\\)", lambda match: "\n" if match[1] == "n" else "\\", text)


def fields(text: str) -> dict[str, str]:
    """key=value words as a dict; a value with blanks stands in double quotes. Raises Refused for
    another word."""
    values = {}
    for key, quoted, plain, word in re.findall(r'([\w-]+)=(?:"([^"]*)"|(\S*))|(\S+)', text):
        if word:
            raise Refused("expected key=value words")
        values[key] = quoted or plain
    return values


def whole(text: str, least: int, most: int, name: str) -> int:
    """A whole number in figures. Raises Refused for anything else."""
    if not re.fullmatch(r"[0-9]{1,7}", text) or not least <= int(text) <= most:
        raise Refused(f"{name} is a whole number from {least} to {most}")
    return int(text)


def listed(words: Sequence[str], none: str) -> str:
    return "\n".join(words) if words else none
