"""Runs one of the benchmarks, ``tests.bench.NAME``, in the project's own environment."""

import subprocess
from collections.abc import Sequence

from scripts.lib import environment
from scripts.lib.setup import prepare
from scripts.lib.steps import TREE, Steps


def main(arguments: Sequence[str]) -> int:
    name, *options = arguments
    prepare(Steps(), with_tests=True)
    argv = [str(environment.PYTHON), "-m", f"tests.bench.{name}", *options]
    return subprocess.run(argv, cwd=TREE, check=False).returncode
