"""How errors look: one line on standard error."""

import sys


def complain(message: str, code: int) -> int:
    """Prints one line on standard error and passes the code on."""
    print(f"charter: error: {' '.join(message.split())}", file=sys.stderr)
    return code
