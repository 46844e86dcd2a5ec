"""The inputs of a room: its roles, filled with artifacts of earlier steps or external sources."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError


@dataclass(frozen=True)
class Input:
    """One filled role.

    `name` is the step's name, or the reference as written for external sources; `kind` is an artifact kind,
    or for external sources "dialogues", "prompts", "comparisons", "text", "triples", "judgments", "constitution",
    "checkpoint", "assistant", "hub" or "data"; `path` is the file or folder to read, None for sources that must be
    fetched or unpacked first (a model's hub name, a GGUF file, a random model) and for remote engines; `ref` opens it
    from anywhere: a folder or file, or a reference with pinned versions; `id` is the artifact's id or the digest of the
    external source. Seeds may depend on `name` and `id`, never on `ref` or `path`, which change with the place of a
    run.
    """

    role: str
    name: str
    kind: str
    variant: str | None
    path: Path | None
    ref: str
    id: str

    @property
    def folder(self) -> Path:
        """The path of an input that must be on this disk. Raises CharterError if it isn't."""
        if self.path is None:
            raise CharterError(f"role {self.role}: {self.ref} is not a file or folder on this machine")
        return self.path


class Inputs:
    """The inputs of one step by role, in the recipe's order."""

    def __init__(self, entries: Sequence[Input] = ()) -> None:
        self._entries = tuple(entries)

    def __iter__(self) -> Iterator[Input]:
        return iter(self._entries)

    @property
    def ids(self) -> dict[str, list[str]]:
        """The ids of all inputs by role, in the recipe's order."""
        ids_by_role: dict[str, list[str]] = {}
        for entry in self._entries:
            ids_by_role.setdefault(entry.role, []).append(entry.id)
        return ids_by_role

    def many(self, role: str) -> list[Input]:
        """All inputs of a role; [] without any."""
        return [entry for entry in self._entries if entry.role == role]

    def optional(self, role: str) -> Input | None:
        """The input of a role, or None. Raises CharterError if there are several."""
        entries = self.many(role)
        if len(entries) > 1:
            raise CharterError(f"role {role} takes one input and was given {len(entries)}")
        return entries[0] if entries else None

    def one(self, role: str) -> Input:
        """The input of a role. Raises CharterError if there is none or more than one."""
        entry = self.optional(role)
        if entry is None:
            raise CharterError(f"role {role} needs an input: name a step or a source under `from`")
        return entry
