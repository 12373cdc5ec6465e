"""Identifiers: 25 characters of base 36, from an injected random source.

128 random bits and a bit more, so two never meet; letters and digits only, so they fit
anywhere a name does.
"""

import random

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
LENGTH = 25

# Which character each byte stands for. The first four of the alphabet come a little more often
# (8 of 256, not 7), which costs an id less than a tenth of a bit.
_CHARACTERS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))


class IdSource:
    """Makes new ids. Production passes ``random.SystemRandom()``, a test a seeded one."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def new(self) -> str:
        # One draw for all characters: from the operating system each is a call into the kernel.
        return self._source.randbytes(LENGTH).translate(_CHARACTERS).decode()
