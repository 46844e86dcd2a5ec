"""How several processes make one step: which one leads, and which one makes which chunk.

All processes run the same room with the same settings, inputs and seed, in lockstep. They share the chunks of
`Workspace.chunks`: each makes those that it can claim, and reads the others from the common state folder. The content
of a chunk follows only from its items and number, so that it doesn't depend on the process.
"""

from typing import Protocol


class Sharing(Protocol):
    """One process's part in the work on a step."""

    @property
    def leads(self) -> bool:
        """Whether this process makes the artifact. The others write into a scratch folder. Exactly one leads; it must
        not publish while others still read the state folder."""
        ...

    def claim(self, key: str, number: int) -> bool:
        """Whether this process makes this chunk. It is called again while the chunk is missing, so that another process
        can take over the work of a lost one."""
        ...

    def wait(self) -> None:
        """Waits a moment when nothing can be claimed. Raises CharterError if no other process is left."""
        ...


class Alone:
    """This process does all the work."""

    leads = True

    def claim(self, key: str, number: int) -> bool:
        """True: every chunk."""
        return True

    def wait(self) -> None:
        """Does nothing: there is no other process."""
