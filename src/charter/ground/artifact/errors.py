"""The one error that a person sees: what was wrong, what was expected and what to do, on one line."""


class CharterError(Exception):
    """A mistake or a refusal that a person can act on; its message is always one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
