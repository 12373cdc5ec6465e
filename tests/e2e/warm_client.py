"""clusterctl without the half second that starting Python takes, hundreds of times.

A process where the operator works has imported all that the client needs. For each command it
forks a child, which has the streams, environment and arguments of the command and then does
what ``python -m clusterctl`` does. So each command is a process of its own, as a user's is.

    client = WarmClient(host)
    done = client.run(["node", "ls"], environment={...})

The program itself, ``python -m tests.e2e.warm_client SOCKET``, is what the host runs. It opens
no connection, so that no thread of gRPC's is lost in a fork.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from clusterctl.__main__ import main
from scripts.lib.steps import TREE
from tests.lab.host import Host
from tests.lab.process import Process
from tests.lab.waiting import wait_until

REQUEST_BYTES_MAX = 65_536
STREAMS = 3

# What commands import when they are used; whatever is missing here is only slower.
USED = (
    *("clusterctl.cli", "clusterctl.client", "clusterctl.calls", "clusterctl.channel"),
    *("clusterctl.waiting", "clusterctl.render.kinds", "clusterctl.render.output"),
    *("clusterctl.commands.stack", "clusterctl.commands.service", "clusterctl.commands.node"),
    *("clusterctl.commands.verify", "clusterctl.verification", "cluster.compose", "grpc", "yaml"),
)


class WarmClient:
    """Runs commands on *host*."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._socket = host.folder / "client.sock"
        self._process: Process | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str,
        environment: Mapping[str, str],
        seconds: float,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end.

        Raises:
            RuntimeError: it took longer than *seconds*; it is killed.
        """
        self._start()
        with (
            tempfile.TemporaryFile() as source,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as errors,
            socket.socket(socket.AF_UNIX) as asked,
        ):
            source.write(stdin.encode())
            source.seek(0)
            asked.settimeout(seconds + 10.0)
            asked.connect(str(self._socket))
            request = json.dumps(
                {"argv": list(argv), "environment": dict(environment), "seconds": seconds}
            )
            streams = [stream.fileno() for stream in (source, out, errors)]
            socket.send_fds(asked, [request.encode()], streams)
            code = int(asked.recv(REQUEST_BYTES_MAX))
            told = []
            for stream in (out, errors):
                stream.seek(0)
                told.append(stream.read().decode(errors="replace"))
        return subprocess.CompletedProcess(["clusterctl", *argv], code, *told)

    def _start(self) -> None:
        if self._process is not None and self._process.is_running:
            return
        self._socket.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tests.e2e.warm_client", str(self._socket)]
        process = self._process = self._host.spawn("client", argv, cwd=TREE)
        wait_until(
            lambda: self._socket.exists() or not process.is_running, "the client is there to ask"
        )
        if not process.is_running:
            raise RuntimeError(f"the client cannot be asked:\n{process.tail()}")


def serve(path: Path) -> None:
    """Run a child for each request, for ever."""
    os.environ["GRPC_VERBOSITY"] = "NONE"  # as ``main`` would have it, before gRPC reads it
    for module in USED:
        importlib.import_module(module)
    hidden = path.with_suffix(".new")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(hidden))
        listener.listen(16)
        hidden.rename(path)  # from now on it can be asked
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who wait for children end themselves
        while True:
            asked, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                os._exit(attend(asked))
            asked.close()


def attend(asked: socket.socket) -> int:
    """Run one command as a child of this child, and tell its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, streams, _, _ = socket.recv_fds(asked, REQUEST_BYTES_MAX, STREAMS)
    request = json.loads(text)
    pid = os.fork()
    if pid == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        become(request["argv"], request["environment"])
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    _, status = os.waitpid(pid, 0)
    asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    return 0


def become(argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Do what ``python -m clusterctl`` does, which ends the process."""
    os.environ.update(environment)
    sys.argv = ["clusterctl", *argv]
    main()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
