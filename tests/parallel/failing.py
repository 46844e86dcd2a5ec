"""The program, of which rank 1 fails in the middle of learning while rank 0 waits for it."""

import os

from charter.cli.main import main
from charter.ground.artifact.errors import CharterError
from charter.ground.learn import loop

take_step = loop.update


def update(*arguments: object) -> float:
    """Fails at the first step."""
    if os.environ["RANK"] == "1":
        raise CharterError("only this process fails")
    return take_step(*arguments)  # type: ignore[arg-type]


if __name__ == "__main__":
    loop.update = update
    main()
