"""What a manager may be told, and what endangers the cluster."""

import inspect
from pathlib import Path

import msgspec
import pytest

from cluster.errors import InvalidError
from cluster.settings import load
from manager.config import ManagerSettings, check, etcd_password, host_and_port

TLS = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}


def test_the_defaults_are_for_one_machine_and_safe() -> None:
    settings = ManagerSettings()
    check(settings)
    assert settings.listen == "127.0.0.1:7420"
    assert settings.tls is None


def test_flags_variables_and_a_file_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "manager.yaml"
    file.write_text("etcd: [a:1, b:2]\nlisten: 127.0.0.1:1\nlog_json: true\n")
    environment = {"SHOAL_MANAGER_LISTEN": "127.0.0.1:2", "SHOAL_MANAGER_LEASE_SECONDS": "5"}
    settings = load(
        ManagerSettings, "manager", ["--config", str(file), "--lease-seconds", "7"], environment
    )
    assert settings.etcd == ("a:1", "b:2")
    assert (settings.listen, settings.lease_seconds, settings.log_json) == ("127.0.0.1:2", 7, True)
    file.write_text("etdc: [a:1]\n")
    with pytest.raises(InvalidError, match=r"unknown key 'etdc'; did you mean 'etcd'\?"):
        load(ManagerSettings, "manager", ["--config", str(file)], {})


def test_every_setting_is_explained() -> None:
    documentation = inspect.getdoc(ManagerSettings) or ""
    for field in msgspec.structs.fields(ManagerSettings):
        assert f"\n    {field.name}: " in documentation


@pytest.mark.parametrize(
    "changes",
    [
        {"listen": "0.0.0.0:7420", "advertise": "192.0.2.1:7420", "insecure": True},
        {"listen": "0.0.0.0:7420", "advertise": "192.0.2.1:7420", **TLS},
        {"listen": "[::1]:7420"},
        {"listen": "localhost:7420"},
        {"listen": "192.0.2.1:7420", **TLS},
        {"etcd_ca": "ca.pem"},
        {"etcd_ca": "ca.pem", "etcd_cert": "c.pem", "etcd_key": "k.pem"},
    ],
)
def test_what_makes_sense_is_taken(changes: dict[str, object]) -> None:
    check(msgspec.structs.replace(ManagerSettings(), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"listen": "192.0.2.1:7420"}, "no TLS: set tls_ca"),
        ({"listen": "manager.example:7420"}, "no TLS"),
        ({"listen": "0.0.0.0:7420", "insecure": True}, "advertise"),
        ({"listen": "[::]:7420", **TLS}, "advertise"),
        ({"listen": "7420"}, "host:port"),
        ({"listen": "127.0.0.1:70000"}, "host:port"),
        ({"listen": "::1:7420"}, "host:port"),
        ({"advertise": "host:0"}, "advertise must be host:port"),
        ({"tls_ca": "ca.pem"}, "all three or none"),
        ({"etcd": ()}, "at least one member"),
        ({"etcd": ("a:1", "b")}, "etcd must be host:port"),
        ({"etcd_user": "root"}, "both or neither"),
        ({"etcd_cert": "c.pem", "etcd_ca": "ca.pem"}, "both or neither"),
        ({"etcd_cert": "c.pem", "etcd_key": "k.pem"}, "needs etcd_ca"),
        ({"lease_seconds": 1}, "lease_seconds must be 2 to 60"),
        ({"log_level": "loud"}, "log_level"),
    ],
)
def test_what_does_not_is_refused_with_what_to_do(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        check(msgspec.structs.replace(ManagerSettings(), **changes))


def test_the_password_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pass word\n")
    settings = ManagerSettings(etcd_user="root", etcd_password_file=str(file))
    assert etcd_password(settings) == "pass word"
    assert etcd_password(ManagerSettings()) is None
    file.unlink()
    with pytest.raises(InvalidError, match="cannot read"):
        etcd_password(settings)


def test_addresses_are_taken_apart() -> None:
    assert host_and_port("x", "[2001:db8::1]:7420") == ("2001:db8::1", 7420)
    assert host_and_port("x", "a.example:1") == ("a.example", 1)
