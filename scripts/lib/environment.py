"""The virtual environment ``.venv``: the project, editable, with the exact versions of the lock."""

import hashlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from scripts.lib import machine
from scripts.lib.steps import TREE, ScriptError, Steps, run_quietly

HOME = TREE / ".venv"
PYTHON = HOME / "bin" / "python"
LOCK = TREE / "requirements.lock"
STAMP = HOME / "shoal-stamp.json"


def is_current(*, with_tests: bool) -> bool:
    """Tell whether ``.venv`` is what the project file and the lock ask for."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    return (
        stamp.get("wanted") == _wanted()
        and bool(stamp.get("with_tests", False) or not with_tests)
        and os.access(PYTHON, os.X_OK)
    )


def make(steps: Steps, *, with_tests: bool) -> None:
    """Make ``.venv`` anew, or bring it up to date; with what tests need, if asked."""
    STAMP.unlink(missing_ok=True)
    if not _works():
        with steps.step("virtual environment .venv"):
            need_ensurepip(sys.executable)
            shutil.rmtree(HOME, ignore_errors=True)
            run_quietly([sys.executable, "-m", "venv", str(HOME)])
    with steps.step("Python packages, as requirements.lock has them") as step:
        groups = ["--group", f"{TREE}/pyproject.toml:dev"] if with_tests else []
        pip_install_locked(PYTHON, "--editable", str(TREE), *groups)
        step.note = "with those of the tests" if with_tests else "without those of the tests"
    STAMP.write_text(json.dumps({"wanted": _wanted(), "with_tests": with_tests}) + "\n")


def pip_install_locked(python: Path, *arguments: str) -> None:
    """Run ``pip install`` in the environment of *python*, with the versions of the lock."""
    _pip_install(python, _locked("pip"))  # the one that venv brings may be years old
    lock = ["--constraint", str(LOCK), "--build-constraint", str(LOCK)]
    _pip_install(python, *lock, *arguments)


def need_ensurepip(python: str) -> None:
    """Install Debian's package for ``venv``, which its python3 comes without."""
    try:
        run_quietly([python, "-c", "import ensurepip, venv"])
    except ScriptError:
        name = "import sys; print('python%d.%d-venv' % sys.version_info[:2])"
        machine.install_packages([[run_quietly([python, "-c", name]).strip()]])


def _pip_install(python: Path, *arguments: str) -> None:
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
    run_quietly([str(python), "-m", "pip", "install", *quiet, *arguments])


def _wanted() -> str:
    """Return a digest of all that the environment depends on."""
    digest = hashlib.sha256(platform.python_version().encode())
    for path in (TREE / "pyproject.toml", LOCK):
        digest.update(path.read_bytes())
    digest.update(str(TREE).encode())  # scripts in it name their interpreter by its path
    return digest.hexdigest()


def _locked(package: str) -> str:
    for line in LOCK.read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line
    raise ScriptError(f"{LOCK.name} has no line for {package}")


def _works() -> bool:
    """Tell whether ``.venv`` is whole and of the Python that runs this."""
    try:
        printing = "import pip, platform; print(platform.python_version())"
        version = run_quietly([str(PYTHON), "-c", printing])
    except ScriptError:
        return False
    return version.strip() == platform.python_version()
