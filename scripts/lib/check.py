"""Every check of the code that runs none of it; all of them, even if some fail."""

import subprocess
from collections.abc import Sequence

from scripts.lib import environment
from scripts.lib.setup import prepare
from scripts.lib.steps import TREE, Step, Steps, timed

BIN = environment.HOME / "bin"

CHECKS = {
    "format": [f"{BIN}/ruff", "format", "--check", "--quiet", "."],
    "lint": [f"{BIN}/ruff", "check", "--quiet", "."],
    "types": [f"{BIN}/mypy"],
    "types of tests and scripts": [f"{BIN}/mypy", "-p", "tests", "-p", "scripts.lib"],
    "imports": [f"{BIN}/lint-imports", "--no-logo"],
    "generated code": [f"{BIN}/python", "scripts/proto", "--check"],
}

MENDS = {
    "format": "make format",
    "lint": "make format mends some of it",
    "generated code": "make proto",
}


def main(_: Sequence[str]) -> int:
    prepare(Steps(), with_tests=True)
    failed = []
    for name, argv in CHECKS.items():
        step = Step(name)
        with timed(step):
            done = subprocess.run(
                argv,
                cwd=TREE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        print(f"{'ok' if done.returncode == 0 else 'FAILED':6}  {name}  {step.seconds:.1f} s")
        if done.returncode != 0:
            failed.append(name)
            print(done.stdout)
            if name in MENDS:
                print(f"        to mend it: {MENDS[name]}\n")
    return 1 if failed else 0
