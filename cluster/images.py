"""Names of images: what a registry and Docker accept as a reference.

    reference := [domain[:port]/]path[:tag][@algorithm:digest]  |  sha256:<64 hex digits>

Only the form is judged; whether there is such an image is known on the host that pulls it.
``canonical`` writes the many ways to name one image in one way, so that names can be compared.
"""

import re

# Docker's own bound for a repository's name, domain included.
NAME_CHARACTERS_MAX = 255

_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}")
_ID = re.compile(r"sha256:[0-9a-f]{64}")

# Names that a node tells of, its largest images first. The names of more would be a greater
# burden to the store than the pulls that they might save are to anyone.
TOLD_MAX = 50

# What Docker takes where a name does not say.
_REGISTRIES = ("docker.io", "index.docker.io")
_OFFICIAL = "library/"
_TAG_DEFAULT = ":latest"


def reference_flaw(reference: str) -> str:
    """Return what is wrong with an image's name; empty if nothing is."""
    if not reference:
        return "must name an image"
    if _ID.fullmatch(reference):
        return ""
    name, at, digest = reference.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        return f"must have a digest such as sha256:... after '@', has {digest[:80]!r}"
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    tag = name[colon + 1 :] if colon >= 0 else None
    if tag is not None:
        name = name[:colon]
        if not _TAG.fullmatch(tag):
            return f"must have a tag of letters, digits, '_', '.' and '-', has {tag[:130]!r}"
    if len(name) > NAME_CHARACTERS_MAX:
        return f"must have at most {NAME_CHARACTERS_MAX} characters before its tag, has {len(name)}"
    components = name.split("/")
    if len(components) > 1 and _is_domain(components[0]):
        components = components[1:]
    for component in components:
        if not _COMPONENT.fullmatch(component):
            if _COMPONENT.fullmatch(component.lower()):
                return f"must be in lower case, is {reference!r}; perhaps {reference.lower()!r}"
            return f"must be an image such as registry.example/team/web:1.2, is {reference!r}"
    return ""


def canonical(reference: str) -> str:
    """Return the name that equal references share: ``docker.io/library/web`` is ``web:latest``.

    A digest counts alone: Docker ignores a tag beside it. What is no reference stays as it is.
    """
    if _ID.fullmatch(reference):
        return reference
    name, at, digest = reference.partition("@")
    first, slash, path = name.partition("/")
    if slash and first in _REGISTRIES:
        name = path.removeprefix(_OFFICIAL)
    tagged = ":" in name.rpartition("/")[2]
    if at:
        return f"{name.rpartition(':')[0] if tagged else name}@{digest}"
    return name if tagged else name + _TAG_DEFAULT


def _is_domain(first: str) -> bool:
    """Tell whether the part before the first slash names a registry rather than a folder."""
    marked = "." in first or ":" in first or first == "localhost" or first != first.lower()
    return marked and _DOMAIN.fullmatch(first) is not None
