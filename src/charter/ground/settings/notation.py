"""The YAML that people write: 2e-5 is a number (YAML 1.1 reads it as text) and no key stands twice."""

import re

import yaml


class Loader(yaml.SafeLoader):
    """A safe loader with these two changes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """Refuses a key that is written twice; plain YAML would keep the last one in silence."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value} is written twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str) -> object:
    """The value of a YAML text. Raises yaml.YAMLError, also for a date or a number that is none."""
    try:
        return yaml.load(text, Loader=Loader)
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from None
