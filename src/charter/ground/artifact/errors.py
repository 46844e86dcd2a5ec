"""The one error that a person sees: what is wrong, what is expected and what to do, on one line; and the wait for
people, which is an error too."""


class CharterError(Exception):
    """A mistake or a refusal that a person can act on; its message is always one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Waiting(CharterError):
    """A step needs input from people; its message begins with "waits for" and says what to do. Nothing is wrong: the
    work goes on at the next start of the run."""
