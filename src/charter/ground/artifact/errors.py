"""The one error that a person sees: what was wrong, what was expected and what to do, on one line; and the wait for
people, which comes the same way."""


class CharterError(Exception):
    """A mistake or a refusal that a person can act on; its message is always one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Waiting(CharterError):
    """A step needs what people have yet to give; its message begins with "waits for" and says what to do. Nothing is
    wrong: the work goes on when the run is started again."""
