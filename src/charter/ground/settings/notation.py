"""The YAML that people write: 2e-5 is a number (YAML 1.1 reads it as text), and a duplicate key is an error.

Whoever writes a file may be a stranger: depth is bounded, and the number of values with all aliases written out.
"""

import re
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import Model, validate

DEEPEST = 50
LARGEST = 100_000  # keys and values of a text, what an alias stands for counted at each alias
LONGEST = 4_194_304  # characters


class Loader(yaml.SafeLoader):
    """A safe loader with these two changes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """Refuses a duplicate key; plain YAML would silently keep the last one."""
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value} is written twice", key.start_mark)
                keys.add(key.value)
        return super().construct_mapping(node, deep=deep)


class Dumper(yaml.SafeDumper):
    """Quotes the texts that the loader would take for a number, such as the digest 12e45."""


for notation in (Loader, Dumper):
    notation.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def read_yaml(text: str) -> object:
    """The value of a YAML text. Raises yaml.YAMLError, also for an invalid date or number, and over a bound."""
    try:
        check_size(text)
        return yaml.load(text, Loader=Loader)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError(str(error)) from None


def check_size(text: str, deepest: int = DEEPEST, largest: int = LARGEST, aliases: bool = True) -> None:
    """Raises yaml.MarkedYAMLError for a text that is nested too deeply, has too many values, or an alias of a value
    that holds the alias; also for any anchor or alias without `aliases`."""
    if len(text) > LONGEST:
        raise yaml.MarkedYAMLError(problem=f"it has more than {LONGEST:,} characters; split it")
    sizes, open_values, total = dict[str, int](), list[tuple[str | None, int]](), 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        anchor = getattr(event, "anchor", None)
        if anchor and not aliases:
            raise _refusal("anchors (&) and aliases (*) are not allowed; write the text out", event)
        if isinstance(event, AliasEvent):
            if any(anchor == name for name, _ in open_values):
                raise _refusal(f"*{anchor} stands within &{anchor} itself; write the text out", event)
            total += sizes.get(str(anchor), 1)
        elif isinstance(event, ScalarEvent | CollectionStartEvent):
            total += 1
            if isinstance(event, CollectionStartEvent):
                open_values.append((anchor, total - 1))
            elif anchor:
                sizes[anchor] = 1
        elif isinstance(event, CollectionEndEvent):
            name, before = open_values.pop()
            if name:
                sizes[name] = total - before
        if len(open_values) > deepest:
            raise _refusal(f"it is nested deeper than {deepest} levels; write it flatter", event)
        if total > largest:
            words = f"it has more than {largest:,} keys and values, aliases written out; split it"
            raise _refusal(words, event)


def _refusal(words: str, event: Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=words, problem_mark=cast(Any, event.start_mark))


def write_yaml(value: object, width: int = 80) -> str:
    """A value as the YAML text from which `read_yaml` reads it; keys in their order."""
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=width))


def read_settings(path: Path, model: type[Model], what: str, keys: str, writer: str = "") -> Model:
    """The settings in a file, as `read_yaml_file` reads it. Raises CharterError naming the file and what is wrong."""
    return validate(model, read_yaml_file(path, what, keys, writer), path)


def read_yaml_file(path: Path, what: str, keys: str, writer: str = "") -> dict[str, Any]:
    """The mapping in a file. `what` is its name (such as recipe), `keys` its keys; the command `writer` creates one.

    Raises CharterError if the file is missing, can't be read, or isn't a YAML mapping.
    """
    try:
        raw = read_yaml(path.read_text("utf-8"))
    except FileNotFoundError:
        begin = f"{writer} writes one to start from" if writer else f"write one with {keys}"
        raise CharterError(f"there is no {what} {path}; {begin}") from None
    except IsADirectoryError:
        raise CharterError(f"{path} is a folder; name the {what} file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CharterError(f"{path} cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise CharterError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise CharterError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise CharterError(f"{path}: a {what} is a mapping with {keys}")
    return raw
