"""Refusals of a service: one line for the person, and an HTTP status for the kind of refusal."""

from collections.abc import Mapping

from charter.ground.artifact.errors import CharterError

NOTHING_HERE = "there is no such page, or it isn't yours"


class Refusal(CharterError):
    """A refused request; it changed nothing. `status` is the HTTP status (RFC 9110), `headers` go with the answer."""

    def __init__(self, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


class NotFound(Refusal):
    """There is no such thing, or it is somebody else's: the answer doesn't tell which."""

    def __init__(self, message: str = NOTHING_HERE) -> None:
        super().__init__(message, 404)


class Stale(Refusal):
    """The form's page is out of date: its question was already decided in another way."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 409)
