"""How several processes make one step: who leads, and who makes which chunk.

Each of them runs the same room with the same settings, inputs and seed, in lockstep. The chunks of `Workspace.chunks`
are cut up among them: each makes those that it may claim, and reads the others' from the state folder, which all see.
What a chunk holds follows from its items and number alone, so that it is the same whoever makes it.
"""

from typing import Protocol


class Sharing(Protocol):
    """One process's part in the work on a step."""

    @property
    def leads(self) -> bool:
        """Whether this process makes the artifact. The others write what they would into a scratch folder. Exactly one
        leads; it must not publish while others still read the state folder."""
        ...

    def claim(self, key: str, number: int) -> bool:
        """Whether this process is to make that chunk. Asked again while the chunk is missing, so that the work of a
        process which was lost can be given to another."""
        ...

    def wait(self) -> None:
        """Lets a moment pass when nothing can be claimed. Raises CharterError where nobody is left to wait for."""
        ...


class Alone:
    """The whole work is this process's own."""

    leads = True

    def claim(self, key: str, number: int) -> bool:
        """Every chunk."""
        return True

    def wait(self) -> None:
        """There is nobody to wait for."""
