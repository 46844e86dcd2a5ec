"""The YAML that people write: 2e-5 is a number (YAML 1.1 reads it as text), and a duplicate key is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import Model, validate


class Loader(yaml.SafeLoader):
    """A safe loader with these two changes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """Refuses a duplicate key; plain YAML would silently keep the last one."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value} is written twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class Dumper(yaml.SafeDumper):
    """Quotes the texts that the loader would take for a number, such as the digest 12e45."""


for notation in (Loader, Dumper):
    notation.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def read_yaml(text: str) -> object:
    """The value of a YAML text. Raises yaml.YAMLError, also for an invalid date or number."""
    try:
        return yaml.load(text, Loader=Loader)
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from None


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
