"""What a service refuses: one line for the person, and the HTTP status that says which kind of refusal it is."""

from charter.ground.artifact.errors import CharterError


class Refusal(CharterError):
    """A request that is not carried out; nothing was changed by it. `status` is the HTTP status (RFC 9110)."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class NotFound(Refusal):
    """There is no such thing, or it is somebody else's: which of the two is nobody's business."""

    def __init__(self, message: str = "there is no such page, or it isn't yours") -> None:
        super().__init__(message, 404)


class Stale(Refusal):
    """The page that this was sent from is out of date: what it asks for was decided already, in another way."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 409)
