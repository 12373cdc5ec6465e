"""Identifiers: 25 characters of base 36, from an injected random source.

128 random bits and a bit more, so two never meet; letters and digits only, so they fit
anywhere a name does.
"""

import random

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
LENGTH = 25


class IdSource:
    """Makes new ids. Production passes ``random.SystemRandom()``, a test a seeded one."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def new(self) -> str:
        return "".join(self._source.choices(ALPHABET, k=LENGTH))
