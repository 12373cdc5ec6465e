"""Compose files -> service specs, or every reason why not, each with file, line and key.

``load`` is the way in; ``read_dotenv`` reads the ``.env`` file beside the first compose file.
"""

from cluster.compose.document import as_yaml
from cluster.compose.dotenv import read as read_dotenv
from cluster.compose.load import Project, Source, load
from cluster.compose.problems import ComposeError, Position, Problem

__all__ = [
    "ComposeError",
    "Position",
    "Problem",
    "Project",
    "Source",
    "as_yaml",
    "load",
    "read_dotenv",
]
