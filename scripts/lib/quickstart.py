"""From a bare machine to a cluster that runs something, and back.

Installs what is missing, starts a cluster on this machine (etcd, one manager, three agents that
share its Docker), deploys examples/hello and waits until all of it is healthy. Running it again
changes nothing.
"""

import argparse
from collections.abc import Sequence

from scripts.lib import environment, machine
from scripts.lib.dockerd import LocalDockerd, answers, load_images, remove_image
from scripts.lib.hello_image import TAG, build, docker_socket
from scripts.lib.setup import prepare
from scripts.lib.steps import TREE, ScriptError, Steps, run_quietly

CLUSTERCTL = environment.HOME / "bin" / "clusterctl"
ENDPOINT = "127.0.0.1:7420"
STACK = "hello"
COMPOSE_FILE = TREE / "examples" / "hello" / "compose.yaml"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/quickstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--down",
        action="store_true",
        help="end the cluster and remove its containers, its data, the image, and the Docker"
        " daemon if it was started here",
    )
    steps = Steps()
    if parser.parse_args(arguments).down:
        _down(steps)
    else:
        _up(steps)
    return 0


def _up(steps: Steps) -> None:
    prepare(steps, with_tests=False)
    with steps.step("Docker") as step:
        step.note = _need_docker()
    with steps.step(f"image {TAG}"):
        load_images(docker_socket(), build())
    with steps.step("cluster: etcd, a manager, three agents"):
        _clusterctl("dev", "up")
    with steps.step(f"stack {STACK}, all healthy"):
        _clusterctl("stack", "deploy", "--compose-file", str(COMPOSE_FILE), STACK)
    print(f"\n{_clusterctl('stack', 'ps', STACK)}")
    print(steps.table())
    ctl = CLUSTERCTL.relative_to(TREE)
    print(
        f"""
Look further:
  {ctl} node ls
  {ctl} service logs {STACK}_web
  {ctl} service scale {STACK}_web=9
  {ctl} --help
examples/hello/README.md has more to try. To end it all: scripts/quickstart --down"""
    )


def _down(steps: Steps) -> None:
    """End and remove everything, going on with the rest if a part will not go."""
    failed = []
    if CLUSTERCTL.exists():
        with steps.step("cluster") as step:
            try:
                _clusterctl("dev", "down")
            except ScriptError as error:
                failed.append(error)
                step.note = "failed, see below"
    socket = docker_socket()
    if answers(socket):
        with steps.step(f"image {TAG}") as step:
            try:
                step.note = "removed" if remove_image(socket, TAG) else "was not there"
            except ScriptError as error:
                failed.append(error)
                step.note = "failed, see below"
    with steps.step("Docker daemon") as step:
        stopped = LocalDockerd().stop(delete=True)
        step.note = "stopped, its data removed" if stopped else "was not started here"
    print("What remains: the packages that were installed, and .venv in this folder.")
    if failed:
        raise ScriptError("\n".join(map(str, failed)))


def _need_docker() -> str:
    """Have a Docker daemon on the local socket, and tell whose it is."""
    socket = docker_socket()
    if answers(socket):
        return "was running"
    if machine.runs_systemd():
        try:
            run_quietly(["systemctl", "start", "docker.service"])
        except ScriptError as error:
            print(f"{error}\nstarting a daemon of our own instead")
        else:
            if answers(socket):
                return "started by systemd"
    LocalDockerd(socket).start()
    return "started here, as no service manager can"


def _clusterctl(*arguments: str) -> str:
    """Run clusterctl on the cluster of this machine, whatever context its user may have."""
    return run_quietly([str(CLUSTERCTL), "--endpoint", ENDPOINT, *arguments])
