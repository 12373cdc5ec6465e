"""Finds and reads Compose files, and what they refer to; ``cluster.compose`` makes sense of them."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from cluster.compose import ComposeError, Problem, Project, Source, load, read_dotenv
from cluster.errors import InvalidError, NotFoundError

DEFAULT_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
DEFAULT_OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)
STDIN = "-"

# A hundred times a large stack; more is some other file.
FILE_BYTES_MAX = 16 * 1024**2


def project(
    files: Sequence[str], env_files: Sequence[str], name: str, environment: Mapping[str, str]
) -> Project:
    """Return what Compose files ask for; warnings are printed to stderr.

    Args:
        files: as given; none means the default names in the working directory.
        env_files: as given; none means ``.env`` beside the first file, if there is one.
        name: of the stack; empty takes the files' own, or that of the first file's folder.
        environment: of the process.

    Raises:
        ComposeError: everything that is wrong, each with its place.
        InvalidError: a file that cannot be read.
        NotFoundError: no file of a default name.
    """
    files = files or _default_files()
    first = Path.cwd() if files[0] == STDIN else Path(files[0]).expanduser().resolve().parent
    sources = [Source(name=_shown(each), text=_text(each)) for each in files]
    variables, problems = _variables(env_files, first, environment)

    def loaded(as_project: str) -> Project:
        return load(
            sources,
            environment={**variables, **environment},
            directory=str(first),
            read=lambda path: read_file(Path(path)),
            project=as_project,
        )

    try:
        result = loaded(name)
    except ComposeError as error:
        if name or not any(problem.path == "name" for problem in error.problems):
            raise
        result = loaded(_name_of(first))
    warn([*problems, *result.warnings])
    return result


def _name_of(folder: Path) -> str:
    """Return a stack's name after a folder's."""
    return re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-_") or "stack"


def warn(problems: Sequence[Problem]) -> None:
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


def read_file(path: Path) -> str:
    """Return a file's text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or is no text.
    """
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"it has more than {FILE_BYTES_MAX} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start}") from error


def _default_files() -> list[str]:
    found = next((name for name in DEFAULT_NAMES if Path(name).is_file()), None)
    if found is None:
        raise NotFoundError(
            f"no Compose file here ({', '.join(DEFAULT_NAMES)}): name one with -c FILE"
        )
    override = next((name for name in DEFAULT_OVERRIDES if Path(name).is_file()), None)
    return [found, override] if override else [found]


def _shown(file: str) -> str:
    return "stdin" if file == STDIN else file


def _text(file: str) -> str:
    if file == STDIN:
        return sys.stdin.read()
    return _read_named(Path(file).expanduser(), file)


def _read_named(path: Path, shown: str) -> str:
    try:
        return read_file(path)
    except OSError as error:
        raise InvalidError(f"cannot read {shown}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidError(f"cannot read {shown}: {error}") from error


def _variables(
    env_files: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> tuple[dict[str, str], list[Problem]]:
    """Return what the ``.env`` files add to the environment; later files win."""
    paths = [Path(each).expanduser() for each in env_files]
    if not paths and (directory / ".env").is_file():
        paths = [directory / ".env"]
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for path in paths:
        shown = os.path.relpath(path) if path.is_absolute() else str(path)
        found, warnings = read_dotenv(_read_named(path, shown), file=shown, environment=environment)
        variables |= found
        problems += warnings
    return variables, problems
