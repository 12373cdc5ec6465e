"""``scripts/install`` into a folder: what a machine would get, and gets rid of again."""

import os
import subprocess
from pathlib import Path

import pytest

from scripts.lib.steps import TREE

INSTALL_SECONDS = 300
"""pip downloads a hundred megabytes where nothing is cached."""

pytestmark = pytest.mark.timeout(2 * INSTALL_SECONDS)


def install(root: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        [TREE / "scripts" / "install", "--root", root, *arguments],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(root: Path) -> set[str]:
    """Return the files below *root*, without those of the application itself."""
    found = (path for path in root.rglob("*") if path.is_file() or path.is_symlink())
    names = (str(path.relative_to(root)) for path in found)
    return {name for name in names if not name.startswith("opt/")}


OF_ALL = {
    "usr/local/bin/clusterctl",
    "usr/local/share/bash-completion/completions/clusterctl",
    "usr/local/share/zsh/site-functions/_clusterctl",
    "usr/local/share/fish/vendor_completions.d/clusterctl.fish",
}
OF_MANAGER = {"etc/shoal/manager.yaml", "etc/systemd/system/shoal-manager.service"}
OF_AGENT = {"etc/shoal/agent.yaml", "etc/systemd/system/shoal-agent.service"}


def test_roles_come_and_go(tmp_path: Path) -> None:
    said = install(tmp_path, "agent")
    assert "systemctl enable --now shoal-agent" in said
    assert "systemd was not told, because of --root" in said
    assert files(tmp_path) == OF_ALL | OF_AGENT

    clusterctl = tmp_path / "usr/local/bin/clusterctl"
    subprocess.run([clusterctl, "version", "--help"], check=True, capture_output=True)
    bash = (tmp_path / "usr/local/share/bash-completion/completions/clusterctl").read_text()
    subprocess.run(["bash", "-n"], input=bash, text=True, check=True)

    # Run as the unit runs it: elsewhere, and with nothing of ours on the import path.
    python = tmp_path / "opt/shoal/bin/python"
    told = subprocess.run(
        [python, "-I", "-m", "agent", "--managers=nonsense"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (
        2,
        "shoal-agent: managers: 'nonsense' is not host:port\n",
    )

    configuration = tmp_path / "etc/shoal/agent.yaml"
    configuration.write_text("managers: [m1:7420]\n")
    install(tmp_path, "agent")
    assert configuration.read_text() == "managers: [m1:7420]\n", "what someone wrote is kept"

    install(tmp_path, "manager")
    assert files(tmp_path) == OF_ALL | OF_AGENT | OF_MANAGER
    for role in ("agent", "manager"):
        check_unit(tmp_path, role)

    assert "kept, for this machine is also manager" in install(tmp_path, "agent", "--uninstall")
    assert files(tmp_path) == OF_ALL | OF_MANAGER | {"etc/shoal/agent.yaml"}
    assert clusterctl.exists()

    install(tmp_path, "agent", "--uninstall", "--purge")
    install(tmp_path, "manager", "--uninstall", "--purge")
    assert files(tmp_path) == set()
    assert not (tmp_path / "opt/shoal").exists()


def check_unit(root: Path, role: str) -> None:
    """Let systemd say whether it understands all of a unit, and finds what it is to run."""
    unit = root / f"etc/systemd/system/shoal-{role}.service"
    assert f"ExecStart={root}/opt/shoal/bin/python -I -m {role} --config" in unit.read_text()
    argv = ["systemd-analyze", "verify", "--man=no", str(unit)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_bad_unit_would_not_pass(tmp_path: Path) -> None:
    """The check above can fail."""
    unit = tmp_path / "etc/systemd/system/shoal-agent.service"
    unit.parent.mkdir(parents=True)
    good = (TREE / "packaging/shoal-agent.service").read_text()
    unit.write_text(
        good.replace("/opt/shoal/bin/python", f"{tmp_path}/opt/shoal/bin/python").replace(
            "KillMode", "KilMode"
        )
    )
    with pytest.raises(AssertionError):
        check_unit(tmp_path, "agent")


def test_an_ordinary_user_is_told_what_to_do() -> None:
    def become_nobody() -> None:
        os.setuid(65534)

    done = subprocess.run(
        [TREE / "scripts" / "install", "agent"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHON": "/usr/bin/python3"},
        preexec_fn=become_nobody,
    )
    assert done.returncode == 1
    assert "run it as root, or try --root" in done.stderr
