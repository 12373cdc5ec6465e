"""A host of the lab with a Docker daemon of its own."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import docker

from scripts.lib.dockerd import answers
from tests.lab.host import Host, Place
from tests.lab.process import Process
from tests.lab.switch import Switch
from tests.lab.waiting import wait_until

DOCKERD_SECONDS = 60.0
"""It answers after 0.3 s alone and 2 s among ten; a restart that has to stop deaf containers
takes 10 s more."""

API_SECONDS = 60.0


class DockerHost(Host):
    """A host with dockerd, whose images are those of the template.

    Inside, the daemon listens where all expect it, at ``/run/docker.sock``; outside, at
    :attr:`docker_socket`.
    """

    def __init__(
        self,
        place: Place,
        switch: Switch,
        lab_folder: Path,
        *,
        template: Path | None,
        dockerd_flags: Sequence[str],
    ) -> None:
        super().__init__(place, switch, lab_folder)
        self.docker_socket = self.folder / "docker.sock"
        self.data_root = self.folder / "data"
        self.dockerd: Process | None = None
        self._template = template
        self._client: docker.DockerClient | None = None
        index = place.number - 10
        self._flags = [
            f"--data-root={self.data_root}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'dockerd.pid'}",
            f"--host=unix://{self.docker_socket}",
            "--host=unix:///run/docker.sock",
            f"--bip=198.18.{100 + index}.1/24",
            f"--default-address-pool=base=198.19.{8 * index}.0/21,size=24",
            f"--cgroup-parent=/{place.lab_id}/{place.name}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--userland-proxy=false",
            *dockerd_flags,
        ]

    @property
    def docker(self) -> docker.DockerClient:
        """A client of this host's daemon, that works through cuts of the network."""
        if self._client is None:
            self._client = docker.DockerClient(
                base_url=f"unix://{self.docker_socket}", version="auto", timeout=int(API_SECONDS)
            )
        return self._client

    def boot(self) -> None:
        """Boot, and return once dockerd answers."""
        super().boot()
        if self._template is not None and not self.data_root.exists():
            argv = ["cp", "-a", "--reflink=auto", str(self._template), str(self.data_root)]
            subprocess.run(argv, check=True)
        # A real host has these on a tmpfs: they don't outlive a crash.
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
        (self.folder / "dockerd.pid").unlink(missing_ok=True)
        self.start_dockerd()

    def start_dockerd(self) -> None:
        """Start the daemon, and return once it answers."""
        if self.dockerd is not None:
            raise RuntimeError(f"dockerd of {self.name} runs already")
        (self.folder / "dockerd.pid").unlink(missing_ok=True)
        dockerd = self.dockerd = self.spawn("dockerd", ["dockerd", *self._flags])

        def is_ready() -> bool:
            if not dockerd.is_running:
                raise RuntimeError(f"dockerd of {self.name} ended:\n{dockerd.tail()}")
            return answers(self.docker_socket)

        try:
            wait_until(is_ready, f"dockerd of {self.name} answers", seconds=DOCKERD_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{dockerd.tail()}") from None

    def kill_dockerd(self) -> None:
        """Kill the daemon and its containerd at once; the containers run on."""
        self._end_dockerd(signal.SIGKILL)

    def stop_dockerd(self) -> None:
        """Stop the daemon in an orderly way, which stops its containers too."""
        self._end_dockerd(signal.SIGTERM)

    def _end_dockerd(self, number: signal.Signals) -> None:
        if self.dockerd is None:
            raise RuntimeError(f"dockerd of {self.name} does not run")
        self.dockerd.signal(number)
        self.dockerd.wait(DOCKERD_SECONDS)
        self.dockerd = None

    def forget_processes(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
        self.dockerd = None
        super().forget_processes()
