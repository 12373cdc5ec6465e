"""Runs ``main`` of the module that is named first, with the tree on the import path.

``python scripts/lib setup --for run`` is what ``scripts/setup --for run`` does.
"""

import importlib
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])


def run(module: str, arguments: list[str]) -> int:
    """Return the exit code: 0, or 1 after a failure that was told in one line."""
    from scripts.lib.steps import ScriptError  # noqa: PLC0415 - needs the path from above

    try:
        code: int = importlib.import_module(f"scripts.lib.{module}").main(arguments)
    except ScriptError as error:
        print(f"scripts/{module.replace('_', '-')}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
