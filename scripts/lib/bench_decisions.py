"""Measures planning and the journal: ``tests.bench.decisions``, in the project's environment."""

import subprocess
from collections.abc import Sequence

from scripts.lib import environment
from scripts.lib.setup import prepare
from scripts.lib.steps import TREE, Steps


def main(arguments: Sequence[str]) -> int:
    prepare(Steps(), with_tests=True)
    argv = [str(environment.PYTHON), "-m", "tests.bench.decisions", *arguments]
    return subprocess.run(argv, cwd=TREE, check=False).returncode
