"""Installs Shoal as a service of this machine, or takes it off.

  manager   keeps the cluster's state in etcd; run one, three or five of them
  agent     runs containers on this machine; installs Docker too, if there is none
  client    clusterctl alone (the other two bring it as well)

The application goes into a virtual environment of its own, and its configuration into
/etc/shoal, where files that exist are kept. Running it again upgrades.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.lib import environment, machine
from scripts.lib.steps import TREE, ScriptError, Steps, run_quietly

ROLES = ("manager", "agent", "client")
PACKAGING = TREE / "packaging"
USUAL_PREFIX = "/opt/shoal"
ACCOUNT = "shoal"

COMPLETIONS = {
    "bash": "usr/local/share/bash-completion/completions/clusterctl",
    "zsh": "usr/local/share/zsh/site-functions/_clusterctl",
    "fish": "usr/local/share/fish/vendor_completions.d/clusterctl.fish",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything goes. *root* is /, or a folder to try things in."""

    root: Path
    prefix: Path

    @property
    def is_real(self) -> bool:
        return self.root == Path("/")

    @property
    def python(self) -> Path:
        return self.prefix / "bin" / "python"

    @property
    def clusterctl(self) -> Path:
        return self.root / "usr/local/bin/clusterctl"

    def unit(self, role: str) -> Path:
        return self.root / f"etc/systemd/system/shoal-{role}.service"

    def configuration(self, role: str) -> Path:
        return self.root / f"etc/shoal/{role}.yaml"

    def marker(self, role: str) -> Path:
        return self.prefix / "roles" / role

    def completion(self, shell: str) -> Path:
        return self.root / COMPLETIONS[shell]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/install",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("role", choices=ROLES)
    parser.add_argument(
        "--prefix",
        default=USUAL_PREFIX,
        metavar="DIR",
        help="for the application; default: %(default)s",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="put everything below DIR instead of /, and touch nothing else of this machine",
    )
    parser.add_argument("--uninstall", action="store_true", help="take the role off again")
    parser.add_argument(
        "--purge", action="store_true", help="with --uninstall: remove its configuration too"
    )
    options = parser.parse_args(arguments)
    root = options.root.absolute()
    places = Places(root, root / options.prefix.lstrip("/"))
    if places.is_real and os.geteuid() != 0:
        raise ScriptError("this changes /opt, /etc and /usr/local: run it as root, or try --root")
    if options.uninstall:
        uninstall(options.role, places, Steps(), purge=options.purge)
    else:
        install(options.role, places, Steps())
    return 0


def install(role: str, places: Places, steps: Steps) -> None:
    """Install or upgrade *role*."""
    if role == "agent" and places.is_real and (lacking := machine.missing(machine.TO_RUN_TASKS)):
        with steps.step("packages of the distribution") as step:
            step.note = " ".join(machine.install(lacking))
    with steps.step(f"application in {places.prefix}"):
        _install_application(places)
        marker = places.marker(role)
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
    with steps.step("clusterctl and its completion"):
        _link(places.clusterctl, places.prefix / "bin" / "clusterctl")
        for shell in COMPLETIONS:
            script = run_quietly([str(places.prefix / "bin" / "clusterctl"), "completion", shell])
            _write(places.completion(shell), script, 0o644)
    with steps.step(f"configuration {places.configuration(role)}") as step:
        step.note = _write_configuration(role, places)
    if role == "client":
        print("try: clusterctl --help")
        return
    with steps.step(f"service shoal-{role}") as step:
        text = (PACKAGING / f"shoal-{role}.service").read_text()
        _write(places.unit(role), text.replace(f"{USUAL_PREFIX}/", f"{places.prefix}/"), 0o644)
        step.note = _tell_systemd(role, places)
    print(
        f"\nNext: read {places.configuration(role)}, then start it, now and at every boot:\n"
        f"  systemctl enable --now shoal-{role}"
    )


def uninstall(role: str, places: Places, steps: Steps, *, purge: bool) -> None:
    """Take *role* off; the application too, with the last role. Containers run on."""
    if role != "client":
        with steps.step(f"service shoal-{role}") as step:
            step.note = _end_service(role, places)
    places.marker(role).unlink(missing_ok=True)
    if purge:
        with steps.step("configuration"):
            places.configuration(role).unlink(missing_ok=True)
            with suppress(OSError):
                places.configuration(role).parent.rmdir()
    remaining = [other for other in ROLES if places.marker(other).exists()]
    with steps.step(f"application in {places.prefix}") as step:
        if remaining:
            step.note = f"kept, for this machine is also {' and '.join(remaining)}"
            return
        shutil.rmtree(places.prefix, ignore_errors=True)
        for path in (places.clusterctl, *map(places.completion, COMPLETIONS)):
            path.unlink(missing_ok=True)
    if not purge and places.configuration(role).exists():
        print(f"{places.configuration(role)} stays; --purge removes it")


def _install_application(places: Places) -> None:
    if not places.python.exists():
        python = _service_python()
        environment.need_ensurepip(python)
        run_quietly([python, "-m", "venv", str(places.prefix)])
    environment.pip_install_locked(places.python, str(TREE))


def _service_python() -> str:
    """Return a Python that a service can run: one that is not in somebody's home.

    Raises:
        ScriptError: there is none.
    """
    for python in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable):
        real = Path(python).resolve()
        is_private = real.is_relative_to("/root") or real.is_relative_to("/home")
        with suppress(ScriptError):
            run_quietly([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"])
            if not is_private:
                return python
    raise ScriptError(
        f"services can't run {sys.executable}, which is in a home folder, and there is no other"
        " Python of version 3.11 or later: apt-get install python3 python3-venv"
    )


def _write_configuration(role: str, places: Places) -> str:
    path = places.configuration(role)
    if path.exists():
        return "kept as it is"
    # What a manager is told may include the password of etcd; only its account may read it.
    _write(path, (PACKAGING / f"{role}.yaml").read_text(), 0o644 if role == "client" else 0o640)
    if role == "manager" and places.is_real:
        _need_account()
        shutil.chown(path, "root", ACCOUNT)
    return "from the template"


def _need_account() -> None:
    with suppress(ScriptError):
        run_quietly(["getent", "passwd", ACCOUNT])
        return
    no_login = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    run_quietly(["useradd", "--system", "--user-group", *no_login, ACCOUNT])


def _tell_systemd(role: str, places: Places) -> str:
    """Let a running systemd know of the unit; an upgraded service is restarted."""
    if not places.is_real:
        return "systemd was not told, because of --root"
    if not machine.runs_systemd():
        return "systemd was not told, because it does not run here"
    run_quietly(["systemctl", "daemon-reload"])
    run_quietly(["systemctl", "try-restart", f"shoal-{role}.service"])
    return "systemd knows it"


def _end_service(role: str, places: Places) -> str:
    unit = places.unit(role)
    if not unit.exists():
        return "was not there"
    if places.is_real and machine.runs_systemd():
        run_quietly(["systemctl", "disable", "--now", unit.name])
    unit.unlink()
    if places.is_real and machine.runs_systemd():
        run_quietly(["systemctl", "daemon-reload"])
    return "removed"


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_symlink():
        raise ScriptError(f"{path} is a file that is not ours; move it away first")
    path.unlink(missing_ok=True)
    path.symlink_to(target)
