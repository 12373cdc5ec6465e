"""Which cluster is meant: flags before environment before file, and a file without surprises."""

from pathlib import Path

import pytest

from cluster.errors import InvalidError, NotFoundError
from clusterctl import settings
from clusterctl.settings import Context, TlsPaths

FILE = """
current: prod
contexts:
  prod:
    endpoints: [m1.example, "m2.example:7000"]
    tls: {ca: /ca.pem, cert: /me.pem, key: /me.key}
  dev:
    endpoints: 127.0.0.1:7520
"""
PROD = ("m1.example:7420", "m2.example:7000")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return {"SHOAL_CONFIG": str(path)}


def empty(tmp_path: Path) -> dict[str, str]:
    return {"SHOAL_CONFIG": str(tmp_path / "none.yaml")}


def test_without_anything_it_is_this_machine(tmp_path: Path) -> None:
    target = settings.resolve({}, empty(tmp_path))
    assert target.endpoints == ("127.0.0.1:7420",)
    assert target.tls is None


def test_the_current_context_is_used(environment: dict[str, str]) -> None:
    target = settings.resolve({}, environment)
    assert target.endpoints == PROD
    assert target.tls == TlsPaths("/ca.pem", "/me.pem", "/me.key")
    assert target.origin == "context 'prod'"


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    environment: dict[str, str],
) -> None:
    environment |= {"SHOAL_CONTEXT": "dev"}
    assert settings.resolve({}, environment).endpoints == ("127.0.0.1:7520",)
    assert settings.resolve({"context_name": "prod"}, environment).endpoints == PROD
    environment |= {"SHOAL_ENDPOINT": "a:1,b:2"}
    assert settings.resolve({}, environment).endpoints == ("a:1", "b:2")
    flags = {"endpoints": ("c:3", "d:4,e")}
    assert settings.resolve(flags, environment).endpoints == ("c:3", "d:4", "e:7420")


def test_a_contexts_key_is_not_shown_to_another_cluster(environment: dict[str, str]) -> None:
    assert settings.resolve({"endpoints": ("a:1",)}, environment).tls is None
    both = {"endpoints": ("a:1",), "context_name": "prod"}
    assert settings.resolve(both, environment).tls is not None


def test_tls_needs_all_three_files(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match="missing: cert, key"):
        settings.resolve({"tls_ca": "/ca.pem"}, environment)
    environment |= {"SHOAL_TLS_CERT": "/c", "SHOAL_TLS_KEY": "/k"}
    assert settings.resolve({"tls_ca": "/ca"}, environment).tls == TlsPaths("/ca", "/c", "/k")


def test_an_unknown_context_names_the_nearest(environment: dict[str, str]) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'prod'"):
        settings.resolve({"context_name": "prd"}, environment)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("m1", "m1:7420"),
        ("m1.example:80", "m1.example:80"),
        ("[::1]", "[::1]:7420"),
        ("[fe80::1%eth0]:99", "[fe80::1%eth0]:99"),
    ],
)
def test_endpoints(text: str, endpoint: str) -> None:
    assert settings.parse_endpoint(text, "--endpoint") == endpoint


@pytest.mark.parametrize("text", ["", "m1:", "m1:0", "m1:70000", "::1", "http://m1", "m 1", "m1:x"])
def test_bad_endpoints_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="write HOST:PORT"):
        settings.parse_endpoint(text, "--endpoint")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("contxts: {}", "the top: unknown key 'contxts'; did you mean 'contexts'?"),
        ("contexts: {a: {endpoints: [x], tsl: {}}}", "contexts.a: unknown key 'tsl'; did you mean"),
        ("contexts: {a: {}}", "contexts.a.endpoints: expected a list"),
        ("contexts: {a: {endpoints: [1]}}", "contexts.a.endpoints: expected text, found 1"),
        ("contexts: {a: {endpoints: ['x:y']}}", "contexts.a.endpoints: 'x:y' is no endpoint"),
        ("contexts: {a: {endpoints: [x], tls: {ca: y}}}", "missing: cert, key"),
        ("contexts: []", ""),
        ("contexts: [a]", "contexts: expected keys and values"),
        ("current: a", "current: no context 'a'"),
        ("- a", "the top: expected keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_says_where_it_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    if not why:
        assert settings.read(path).contexts == {}
        return
    with pytest.raises(InvalidError) as refusal:
        settings.read(path)
    assert str(refusal.value).startswith(f"{path}")
    assert why in str(refusal.value)


def test_what_is_written_is_read_again_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.yaml"
    contexts = {
        "a": Context(("x:1", "y:2"), TlsPaths("/ca", "/cert", "/key")),
        "b": Context(("z:3",)),
    }
    settings.write(settings.Configuration(path, "a", contexts))
    assert settings.read(path) == settings.Configuration(path, "a", contexts)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_machines_file_serves_where_the_user_has_none(tmp_path: Path) -> None:
    system = tmp_path / "client.yaml"
    system.write_text(FILE)
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert settings.load(environment, system).current == "prod"
    own = tmp_path / "home" / "shoal" / "config.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("contexts: {}")
    assert settings.load(environment, system).contexts == {}
