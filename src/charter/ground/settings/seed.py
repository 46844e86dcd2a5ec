"""Seeds: one number in the recipe gives every step, chunk and item a stream of its own."""

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed below 2**31 that depends on `seed` and all names, stable across machines and versions.

    Names are tagged by type and length, so derive_seed(0, "a", "b") differs from derive_seed(0, "ab").
    """
    text = "|".join([str(seed), *(f"{type(n).__name__[0]}{len(str(n))}:{n}" for n in names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") % 2**31
