"""What holds for any file: it is understood or refused, and what is understood is kept."""

import contextlib
from typing import Any

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.compose import ComposeError, Source, as_yaml, load
from cluster.compose.catalogue import SECTIONS
from cluster.compose.document import document
from cluster.compose.dotenv import parse
from cluster.compose.interpolation import TemplateError, substitute
from cluster.compose.merge import merge
from cluster.compose.nodes import Items, Kind, Mapping, Scalar
from cluster.compose.problems import Position, Report
from cluster.compose.stack import Declared
from cluster.kernel import CAPABILITIES
from cluster.model import (
    Affinity,
    Concurrency,
    ContainerSpec,
    DisruptionBudget,
    FailureAction,
    Healthcheck,
    JobSpec,
    LogOptions,
    Mount,
    MountKind,
    NetworkAttachment,
    NetworkMode,
    Placement,
    Platform,
    Preferred,
    PublishedPort,
    PullPolicy,
    RestartCondition,
    RestartPolicy,
    Schedule,
    ServiceMode,
    ServiceSpec,
    SpreadPreference,
    Strategy,
    TaskSpec,
    Ulimit,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources
from cluster.validation import MEMORY_LIMIT_BYTES_MIN, service_flaws
from cluster.validation.scaling import REPLICAS_MAX

HERE = Position("f", 1, 1)


def no_file(path: str) -> str:
    raise FileNotFoundError(path)


def loaded(text: str, *, project: str = "demo") -> Any:
    return load(
        [Source("f", text)],
        environment={"SET": "x$\ud800\x1b", "N": "3"},
        directory="/app",
        read=no_file,
        project=project,
    )


# --- variables --------------------------------------------------------------------------------

NAMES = st.sampled_from(["A", "B", "C"])
VALUES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(["", "a", "b $ }"]) for name in "ABC"}
)
PLAIN = st.text("ab {:-?+.", max_size=4)


def templates(depth: int) -> st.SearchStrategy[list[Any]]:
    """Pieces of a template: text, or (name, operator, word)."""
    if depth == 0:
        return st.lists(PLAIN, max_size=2)
    variable = st.tuples(NAMES, st.sampled_from(["", ":-", "-", ":+", "+"]), templates(depth - 1))
    return st.lists(PLAIN | variable, max_size=3)


def written(template: list[Any]) -> str:
    return "".join(
        part if isinstance(part, str) else f"${{{part[0]}{part[1]}{part[1] and written(part[2])}}}"
        for part in template
    )


def meant(template: list[Any], variables: dict[str, str]) -> str:
    parts = []
    for part in template:
        if isinstance(part, str):
            parts.append(part)
            continue
        name, operator, word = part
        value = variables.get(name)
        there = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("-"):
            parts.append((value or "") if there else meant(word, variables))
        elif operator.endswith("+"):
            parts.append(meant(word, variables) if there else "")
        else:
            parts.append(value or "")
    return "".join(parts)


@given(templates(3), VALUES)
def test_a_template_means_what_its_parts_mean(
    template: list[Any], variables: dict[str, str]
) -> None:
    found = substitute(written(template), variables.get, lambda name: None)
    assert found == meant(template, variables)


@given(st.text())
def test_doubled_dollars_are_plain_ones(text: str) -> None:
    assert substitute(text.replace("$", "$$"), lambda name: None, lambda name: None) == text


@given(st.text("${}A:-?+ \n\ud800"))
def test_any_text_is_completed_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateError):
        substitute(text, {"A": "x"}.get, lambda name: None)


@given(st.text("A=\"'\\$\n #{}export"))
def test_any_env_file_is_read_or_refused(text: str) -> None:
    report = Report()
    variables = parse(text, "f", {}, report)
    assert all(name and "=" not in name and "\n" not in name for name in variables)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_a_quoted_value_of_an_env_file_is_kept(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    report = Report()
    assert parse(f'A="{quoted}"\nB=1', "f", {}, report) == {"A": value, "B": "1"}


# --- any text ---------------------------------------------------------------------------------

KEYS = [*sorted({name for section in SECTIONS for name in section.keys}), "web", "default", "x-a"]
SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["", "1s", "64m", "8080:80", "data:/x:ro", "./a:/b", "${N}", "${SET}", "$UNSET", "${SET:?}",
         "host", "global", "node.id == a", "a: b", "on-failure:3", "linux/amd64", "NET_ADMIN"]
    )
    | st.text(max_size=8)
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


def understood_or_refused(text: str) -> None:
    try:
        project = loaded(text)
    except ComposeError as error:
        problems = [str(problem) for problem in error.problems]
    else:
        problems = [
            f"{spec.name}: {flaw}" for spec in project.services for flaw in service_flaws(spec)
        ]
        assert problems == []
        as_yaml(project.document())
        problems = [str(warning) for warning in project.warnings]
    assert all(problem.isprintable() for problem in problems)


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    understood_or_refused(text)


@given(st.text("ab:-[]{}&*!|>'\"\n #?%@,<"))
def test_any_text_of_yaml_signs_is_understood_or_refused(text: str) -> None:
    understood_or_refused(text)


@given(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6), TREES)
def test_any_tree_is_understood_or_refused(keys: dict[str, Any], rest: Any) -> None:
    tree = {"services": {"web": {"image": "web", **keys}, "db": rest}, "volumes": {"data": None}}
    understood_or_refused(yaml.safe_dump(tree, allow_unicode=True))


@given(st.sampled_from(KEYS), st.sampled_from(KEYS), SCALARS | TREES)
def test_any_value_of_any_key_is_understood_or_refused(outer: str, inner: str, value: Any) -> None:
    for keys in ({outer: value}, {outer: {inner: value}}, {"deploy": {outer: {inner: value}}}):
        tree = {"services": {"web": {"image": "web", **keys}}}
        understood_or_refused(yaml.safe_dump(tree, allow_unicode=True))


# --- merging ----------------------------------------------------------------------------------

WORDS = st.sampled_from("abc").map(lambda word: Scalar(word, Kind.STRING, HERE))


def mapping(entries: dict[str, Any]) -> Mapping:
    return Mapping(entries, dict.fromkeys(entries, HERE), HERE)


def listing(items: list[Any]) -> Items:
    return Items(tuple(items), HERE)


def maps(keys: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Mapping]:
    return st.dictionaries(st.sampled_from(keys), values).map(mapping)


PORTS = st.builds(
    lambda target, published: mapping({"target": target, "published": published}), WORDS, WORDS
)
MOUNTS = st.builds(
    lambda target, source: mapping({"target": target, "source": source}), WORDS, WORDS
)
SERVICES = st.fixed_dictionaries(
    {},
    optional={
        "image": WORDS,
        "command": st.lists(WORDS, max_size=3).map(listing),
        "cap_add": st.lists(WORDS, max_size=3, unique=True).map(listing),
        "environment": maps(["A", "B"], WORDS),
        "ports": st.lists(PORTS, max_size=3, unique_by=repr).map(listing),
        "volumes": st.lists(MOUNTS, max_size=3, unique_by=lambda m: repr(m.entries["target"])).map(
            listing
        ),
        "deploy": maps(["mode", "x"], WORDS),
        "logging": maps(["driver"], WORDS),
    },
).map(mapping)
DOCUMENTS = maps(["services"], maps(["web", "db"], SERVICES))


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_merging_three_files_does_not_depend_on_where_one_begins(
    one: Mapping, two: Mapping, three: Mapping
) -> None:
    report = Report()
    left = merge(merge(one, two, report), three, report)
    right = merge(one, merge(two, three, report), report)
    report.stop_if_unusable()
    assert left == right


@given(DOCUMENTS)
def test_merging_with_nothing_or_with_itself_changes_nothing(one: Mapping) -> None:
    report = Report()
    assert merge(one, mapping({}), report) == one
    assert merge(mapping({}), one, report) == one
    assert merge(one, one, report) == one


# --- the document -----------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAME = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
PATH = st.from_regex(r"/[a-z]{1,3}(/[a-z.]{1,3}x)?", fullmatch=True)
SECONDS = st.integers(1_000, 10**10).map(lambda micros: micros / 1_000_000) | st.just(0.0)
COUNT = st.integers(0, 2**40)
PAIRS = st.dictionaries(
    TEXT.filter(lambda t: "=" not in t and t.strip() and t[0] != "s"), TEXT | st.just("")
)
ADDRESS = st.ip_addresses().map(str)
VOLUME = Declared(
    name="kept", bound=True, driver="local", driver_options={"$o": "$$v"}, labels={"a": "b"}
)


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3, unique=True).map(tuple)


MOUNT_KINDS = st.one_of(
    st.builds(
        Mount,
        kind=st.just(MountKind.BIND),
        target=PATH,
        source=PATH,
        read_only=st.booleans(),
        create_host_path=st.booleans(),
        propagation=st.sampled_from(["", "rslave"]),
    ),
    st.builds(
        Mount,
        kind=st.just(MountKind.TMPFS),
        target=PATH,
        tmpfs_size_bytes=COUNT,
        tmpfs_mode=st.integers(0, 0o7777),
    ),
    st.builds(
        Mount,
        kind=st.just(MountKind.VOLUME),
        target=PATH,
        source=st.just(VOLUME.name),
        bound=st.just(VOLUME.bound),
        driver=st.just(VOLUME.driver),
        driver_options=st.just(VOLUME.driver_options),
        labels=st.just(VOLUME.labels) | st.just({"a": "b", "$more": "$1"}),
        no_copy=st.booleans(),
    ),
    st.builds(Mount, kind=st.just(MountKind.VOLUME), target=PATH),
)
UPDATES = st.builds(
    UpdateConfig,
    parallelism=COUNT,
    delay_seconds=SECONDS,
    monitor_seconds=SECONDS,
    failure_action=st.sampled_from([FailureAction.PAUSE, FailureAction.CONTINUE]),
    max_failure_ratio=st.floats(0, 1).map(lambda ratio: round(ratio, 12)),
    order=st.sampled_from(UpdateOrder),
    progress_deadline_seconds=SECONDS,
)
CANARY_MAX = 3
CANARIES = st.builds(
    lambda canary, seconds: {"canary": canary, "promote_after_seconds": seconds},
    st.integers(1, CANARY_MAX),
    SECONDS,
)
RESTARTS = st.builds(
    RestartPolicy,
    condition=st.sampled_from(RestartCondition),
    delay_seconds=SECONDS,
    max_attempts=COUNT,
    window_seconds=SECONDS,
)
CONTAINERS = st.builds(
    ContainerSpec,
    image=st.sampled_from(["web", "r.example:5000/a/b:1.2"]),
    pull_policy=st.sampled_from(PullPolicy),
    command=st.none() | st.lists(TEXT | st.just(""), max_size=3).map(tuple),
    entrypoint=st.none() | st.lists(TEXT | st.just(""), max_size=3).map(tuple),
    environment=PAIRS,
    user=TEXT | st.just(""),
    working_dir=PATH | st.just(""),
    hostname=NAME | st.just(""),
    labels=PAIRS,
    mounts=st.lists(MOUNT_KINDS, max_size=4, unique_by=lambda mount: mount.target).map(tuple),
    healthcheck=st.none()
    | st.builds(
        Healthcheck,
        test=st.sampled_from([(), ("NONE",), ("CMD", "a", "$b"), ("CMD-SHELL", "a | b")]),
        interval_seconds=SECONDS,
        timeout_seconds=SECONDS,
        start_period_seconds=SECONDS,
        retries=COUNT,
    ),
    ulimits=st.just(()) | st.just((Ulimit(name="core", soft=-1, hard=-1),)),
    sysctls=st.just({}) | st.just({"kernel.sem": "1 2"}),
    cap_add=lists(st.sampled_from(sorted(CAPABILITIES))),
    cap_drop=lists(st.sampled_from(sorted(CAPABILITIES))),
    group_add=lists(NAME),
    init=st.none() | st.booleans(),
    read_only=st.booleans(),
    tty=st.booleans(),
    stdin_open=st.booleans(),
    stop_signal=st.sampled_from(["", "SIGTERM", "9"]),
    stop_grace_seconds=SECONDS,
    pids_limit=COUNT,
    shm_size_bytes=COUNT,
    oom_score_adj=st.integers(-1000, 1000),
    extra_hosts=lists(ADDRESS.map(lambda address: f"host:{address}")),
    dns=lists(ADDRESS),
    dns_search=lists(NAME),
    dns_options=lists(TEXT),
    log=st.builds(LogOptions, driver=NAME | st.just(""), options=PAIRS),
)


KINDS = st.dictionaries(st.sampled_from(["gpu", "Licence-2"]), st.integers(1, 1000), max_size=2)
CONSTRAINTS = st.sampled_from(
    [
        "node.id == $a",
        "node.role!=worker",
        "any(node.labels.a in (b, c); node.labels.a not exists)",
        "node.hostname =~ a{2,3}(b|c)",
    ]
)
TOPOLOGIES = st.sampled_from(["node.id", "node.labels.zone", "engine.labels.a.b"])


def affinities(own: str, *, anti: bool) -> st.SearchStrategy[Any]:
    return lists(
        st.builds(
            Affinity,
            service=st.sampled_from([own, "demo_elsewhere", "other"]),
            topology=TOPOLOGIES,
            anti=st.just(anti),
            weight=st.integers(0, 100),
        )
    )


def placements(own: str, mode: ServiceMode) -> st.SearchStrategy[Placement]:
    replicated = mode is ServiceMode.REPLICATED
    spread = st.builds(SpreadPreference, key=TOPOLOGIES)
    wish = st.builds(Preferred, constraint=CONSTRAINTS, weight=st.integers(1, 100))
    return st.builds(
        Placement,
        constraints=lists(CONSTRAINTS),
        platforms=st.just(()) | st.just((Platform(os="linux", architecture="arm"),)),
        max_replicas_per_node=COUNT,
        preferences=lists(spread) if replicated else st.just(()),
        affinities=st.builds(
            lambda near, apart: near + apart,
            affinities(own, anti=False),
            affinities(own, anti=True),
        ),
        prefer=lists(wish) if replicated else st.just(()),
        strategy=st.none() | st.sampled_from(Strategy),
        tolerates=lists(NAME),
        stays=st.booleans(),
    )


SCHEDULES = st.builds(
    Schedule,
    cron=st.sampled_from(["* * * * *", "30 2 1-7 * MON", "0 0 29 2 *"]),
    time_zone=st.sampled_from(["UTC", "Europe/Vienna"]),
    concurrency=st.sampled_from(Concurrency),
    late_seconds_max=SECONDS,
    suspended=st.booleans(),
)
JOB_RESTARTS = st.builds(
    RestartPolicy, condition=st.sampled_from(RestartCondition), delay_seconds=SECONDS
)


def jobs(mode: ServiceMode) -> st.SearchStrategy[JobSpec]:
    return st.builds(
        JobSpec,
        completions=st.just(1) if mode.is_global else st.integers(1, 1_000_000),
        max_concurrent=COUNT,
        retries=st.integers(-1, 100),
        time_limit_seconds=SECONDS,
        history=st.integers(0, 100),
        schedule=st.none() | SCHEDULES,
    )


@st.composite
def service_specs(draw: st.DrawFn) -> ServiceSpec:
    name = draw(NAME)
    mode = draw(st.sampled_from(NetworkMode))
    in_networks = mode is NetworkMode.NETWORKS
    networks = lists(st.sampled_from(["demo_default", "demo_back"]))
    cpus = draw(st.integers(1_000_000, 2**40) | st.just(0))
    memory = draw(st.integers(MEMORY_LIMIT_BYTES_MIN, 2**50) | st.just(0))
    service_mode = draw(st.sampled_from(ServiceMode))
    replicas = draw(st.integers(0, 1000)) if service_mode is ServiceMode.REPLICATED else 1
    canary = draw(CANARIES) if replicas >= CANARY_MAX else {}
    return ServiceSpec(
        name=f"demo_{name}",
        stack="demo",
        labels=draw(PAIRS),
        mode=service_mode,
        replicas=replicas,
        update=UpdateConfig()
        if service_mode.is_job
        else msgspec.structs.replace(draw(UPDATES), **canary),
        rollback=UpdateConfig() if service_mode.is_job else draw(UPDATES),
        job=draw(jobs(service_mode)) if service_mode.is_job else JobSpec(),
        priority=draw(st.integers(-1000, 1000)),
        preempts=draw(st.booleans()),
        budget=DisruptionBudget(max_unavailable=draw(st.integers(0, REPLICAS_MAX))),
        gang=draw(NAME.map("demo_{}".format) | st.just(""))
        if service_mode is ServiceMode.REPLICATED
        else "",
        task=TaskSpec(
            container=draw(CONTAINERS),
            limits=Resources(cpu_nanos=cpus, memory_bytes=memory),
            reservations=Resources(cpu_nanos=cpus, memory_bytes=memory, generic=draw(KINDS)),
            network_mode=mode,
            networks=tuple(
                NetworkAttachment(network=network, aliases=draw(lists(NAME)))
                for network in (draw(networks) if in_networks else ())
            ),
            ports=(
                PublishedPort(target=draw(st.integers(1, 65535)), published=80, protocol="udp"),
                PublishedPort(target=1, host_ip=draw(ADDRESS)),
            )
            if in_networks
            else (),
            restart=draw(RESTARTS if not service_mode.is_job else JOB_RESTARTS),
            placement=draw(placements(f"demo_{name}", service_mode)),
        ),
    )


@given(service_specs())
def test_the_document_of_any_service_means_the_same(spec: ServiceSpec) -> None:
    networks = {"default": Declared(name="demo_default"), "back": Declared(name="demo_back")}
    text = as_yaml(document("demo", [spec], networks, {"data": VOLUME}))

    project = loaded(text, project="")

    assert project.services == (spec,)
    assert project.volumes == {"data": VOLUME}


@given(service_specs(), st.data())
def test_whatever_is_in_a_spec_it_has_flaws_or_none(spec: ServiceSpec, data: st.DataObject) -> None:
    """The manager asks this of what any client sends: it must never raise."""
    path = data.draw(st.sampled_from(["task.container.image", "task.container.hostname", "name"]))
    odd = data.draw(st.text(st.characters()))
    assert isinstance(service_flaws(_changed(spec, path, odd)), tuple)


def _changed(value: Any, path: str, to: Any) -> Any:
    field, _, rest = path.partition(".")
    new = _changed(getattr(value, field), rest, to) if rest else to
    return msgspec.structs.replace(value, **{field: new})
