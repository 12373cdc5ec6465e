"""The variables of a service's containers."""

from cluster.compose import catalogue, dotenv, fields
from cluster.compose.fields import Cursor, Fields, Reader, Refused
from cluster.compose.nodes import is_null
from cluster.compose.stack import Stack, optional_file_text

# How Swarm begins what it fills in for each task.
_TEMPLATE = "{{"


def variables(service: Fields, stack: Stack) -> dict[str, str]:
    """Return the variables: those of ``env_file`` in order, then those of ``environment``."""
    found: dict[str, str] = {}
    for part in service.get("env_file", fields.list_of(_env_file(stack)), ()):
        found.update(part)
    found.update(service.get("environment", lambda cursor: _written(cursor, stack), {}))
    return found


def _written(cursor: Cursor, stack: Stack) -> dict[str, str]:
    variables = {}
    for name, child in cursor.children():
        if is_null(child.node):
            value = stack.environment.get(name)
            if value is None:
                child.warn(f"{name} is not set where this is deployed: it is left out")
                continue
        else:
            try:
                value = fields.any_text(child)
            except Refused:
                continue
        if _TEMPLATE in value:
            child.warn(
                f"{_TEMPLATE} ... }}}} is passed on as it stands: there are no templates yet"
            )
        variables[name] = value
    return variables


def _env_file(stack: Stack) -> Reader[dict[str, str]]:
    def read(cursor: Cursor) -> dict[str, str]:
        entry = Fields(cursor, catalogue.ENV_FILE)
        if "path" not in entry:
            raise cursor.refused("expected a path")
        path = fields.some_text(entry.at("path"))
        required = entry.get("required", fields.boolean, True)
        raw = entry.get("format", fields.choice({"raw": True}), False)
        content = optional_file_text(stack.read, path, entry.at("path"))
        if content is None and required:
            raise entry.at("path").refused(f"there is no file {path}")
        content = content or ""
        if raw:
            found = dotenv.parse_raw(content, path, cursor.report)
        else:
            found = dotenv.parse(content, path, stack.environment, cursor.report)
        return {name: value for name, value in found.items() if value is not None}

    return read
