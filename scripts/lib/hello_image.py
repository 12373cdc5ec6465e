"""Builds the image of examples/hello and loads it into the local Docker, or writes it to a file."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from scripts.lib.dockerd import SOCKET, load_images
from scripts.lib.image import Image, archive, find_busybox
from scripts.lib.steps import TREE, ScriptError

TAG = "shoal/hello:1"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/hello-image", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="for docker load elsewhere")
    output = parser.parse_args(arguments).output
    if output is not None:
        output.write_bytes(build())
        print(f"{TAG} is in {output}; load it with: docker load <{output}")
    else:
        load_images(docker_socket(), build())
        print(f"{TAG} is loaded")
    return 0


def build() -> bytes:
    """Return the archive of the image."""
    script = (TREE / "examples" / "hello" / "hello.sh").read_text()
    image = Image(tag=TAG, command=["/bin/hello"], files={"/bin/hello": script})
    return archive([image], find_busybox())


def docker_socket() -> Path:
    """Return the socket of the Docker daemon that DOCKER_HOST names, or the usual one.

    Raises:
        ScriptError: DOCKER_HOST names a daemon that is not on this machine.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if not host:
        return SOCKET
    if not host.startswith("unix://"):
        raise ScriptError(
            f"DOCKER_HOST={host} is not a socket of this machine; unset it, or set unix://PATH"
        )
    return Path(host.removeprefix("unix://"))
