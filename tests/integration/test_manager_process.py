"""The program: started, signalled and misconfigured as a service manager and people do."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc import aio

from cluster.api.v1 import control_pb2 as control
from cluster.api.v1.control_pb2_grpc import ControlStub
from cluster.settings import TlsFiles
from tests.harness.etcd import EtcdCluster
from tests.harness.managers import StrawAgent, channel, manager

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]


class ServiceManager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(20)

    def told(self) -> list[str]:
        return self._socket.recv(4096).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def service_manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with contextlib.closing(ServiceManager(tmp_path)) as ours:
        yield ours


def start(*arguments: str, notify: str = "") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "manager", *arguments],
        cwd=ROOT,
        env={**os.environ, "NOTIFY_SOCKET": notify},
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def test_it_is_ready_when_it_serves_and_stops_cleanly(service_manager: ServiceManager) -> None:
    with EtcdCluster() as etcd:
        process = start(
            *("--listen", "127.0.0.1:0", "--etcd", etcd.endpoints[0], "--log-json", "yes"),
            notify=service_manager.address,
        )
        try:
            assert service_manager.told() == [f"STATUS=waits for etcd at {etcd.endpoints[0]}"]
            ready, status = service_manager.told()
            assert ready == "READY=1"
            address = status.removeprefix("STATUS=serves ")
            with grpc.insecure_channel(address) as client:
                info = ControlStub(client).GetClusterInfo(
                    control.GetClusterInfoRequest(), timeout=10, wait_for_ready=True
                )
                assert [each.address for each in info.managers] == [address]
            process.send_signal(signal.SIGTERM)
            assert service_manager.told()[0] == "STOPPING=1"
            code, log = ended(process)
        finally:
            process.kill()
            process.communicate()
    assert code == 0
    assert '"message": "serves"' in log
    assert "Traceback" not in log


def test_it_stops_while_it_waits_for_etcd(service_manager: ServiceManager) -> None:
    process = start(
        "--listen", "127.0.0.1:0", "--etcd", "127.0.0.1:1", notify=service_manager.address
    )
    try:
        service_manager.told()
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "192.0.2.1:7420"], "there is no TLS"),
        (["--listen", "127.0.0.1:0", "--tls-ca", "x"], "all three or none"),
        (["--config", "/nowhere/manager.yaml"], "cannot read /nowhere/manager.yaml"),
        (["--log-level", "loud"], "log_level must be"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(arguments: Sequence[str], message: str) -> None:
    code, errors = ended(start(*arguments))
    assert code == 2
    assert message in errors
    assert errors.startswith("shoal-manager: ")
    assert len(errors.splitlines()) == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority with a certificate for 127.0.0.1, and a stranger with one of its own."""
    folder = tmp_path_factory.mktemp("certificates")
    assert shutil.which("openssl"), "there is no openssl on this machine: apt-get install openssl"

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for who in ("ours", "stranger"):
        openssl(
            *("req", "-x509", *new_key, "-subj", f"/CN={who}-ca", "-days", "2"),
            *("-keyout", f"{who}-ca.key", "-out", f"{who}-ca.pem"),
        )
        openssl(
            *("req", *new_key, "-subj", f"/CN={who}"),
            *("-keyout", f"{who}.key", "-out", f"{who}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{who}.csr", "-CA", f"{who}-ca.pem"),
            *("-CAkey", f"{who}-ca.key", "-CAcreateserial", "-days", "2"),
            *("-extfile", "names", "-out", f"{who}.pem"),
        )
    return folder


def tls(folder: Path, who: str, *, trusts: str = "ours") -> TlsFiles:
    return TlsFiles(
        ca=str(folder / f"{trusts}-ca.pem"),
        cert=str(folder / f"{who}.pem"),
        key=str(folder / f"{who}.key"),
    )


async def test_with_tls_only_those_with_a_certificate_come_in(certificates: Path) -> None:
    ours = tls(certificates, "ours")
    request = control.ListNodesRequest()
    with EtcdCluster() as etcd:
        async with (
            manager(etcd.endpoints, tls=ours) as one,
            manager(etcd.endpoints, tls=ours) as other,
        ):
            agent = await StrawAgent.join(one, "n1")
            async with asyncio.timeout(10):  # asked of the manager that has the session, over TLS
                while True:
                    [node] = (await other.control.ListNodes(request)).nodes
                    if node.HasField("usage"):
                        break
                    await asyncio.sleep(0.02)
            await agent.leave()

            for stranger in (None, tls(certificates, "stranger")):
                client = channel(one.address, stranger)
                with pytest.raises(aio.AioRpcError) as refusal:
                    await ControlStub(client).ListNodes(request, timeout=5)
                assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
                await client.close()
