"""What a move for a better layout gains, in words."""

# By what comes first of ``AskedMove.why``: the term of the task's rank that is better there.
_GAINS = {
    "failing": "fails again and again there",
    "spread": "spread more evenly",
    "beyond": "its node has more than its share",
    "missed": "wishes are met",
    "replicas": "fewer of its service there",
}


def told(why: str) -> str:
    """Return the words for what makes a move pay; those that it has already, if it has some."""
    return _GAINS.get(why.split(maxsplit=1)[0] if why else "", why)
