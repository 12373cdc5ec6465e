"""What a file's author is told: file, line, column, key, what is expected, what was meant."""

import pytest

from cluster.compose import ComposeError, Source, load
from cluster.errors import InvalidError


def read(path: str) -> str:
    match path:
        case "/app/secret.env":
            raise PermissionError(13, "Permission denied", path)
        case "/app/binary.env":
            return b"\xff".decode()
        case "/app/ok.env":
            return "A=1"
        case "/app/bad.env":
            return "A=1\nB C\n"
        case "/app/nul\0.env":
            return open(path).read()  # noqa: PTH123  what a client would do
        case _:
            raise FileNotFoundError(path)


def problems(*texts: str, project: str = "demo", **environment: str) -> list[str]:
    """Return the problems of files called a.yaml, b.yaml, ..."""
    sources = [Source(f"{name}.yaml", text) for name, text in zip("abc", texts, strict=False)]
    with pytest.raises(ComposeError) as caught:
        load(sources, environment=environment, directory="/app", read=read, project=project)
    assert isinstance(caught.value, InvalidError)
    lines = [str(problem) for problem in caught.value.problems]
    assert str(caught.value) == "\n".join(lines)
    return lines


SERVICE = "services:\n  web:\n    image: web\n    "


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("imge: x", "4:5: services.web.imge: unknown key; did you mean 'image'?"),
        ("replicas: 3", "4:5: services.web.replicas: unknown key here; it belongs in services.<name>.deploy"),
        ("frobnicate: 3", "4:5: services.web.frobnicate: unknown key of the Compose format"),
        ("image: y", "4:5: services.web.image: this key stands here twice, first at a.yaml:3:5"),
        ("build: .", "4:5: services.web.build: not supported: images are not built here: push one to a registry and name it in `image`"),
        ("privileged: true", "4:5: services.web.privileged: not supported: it gives the whole host away; name what is needed in `cap_add`"),
        ("secrets: [a]", "4:5: services.web.secrets: not supported: secrets cannot be stored yet"),
        ("hostname: [x]", "4:15: services.web.hostname: expected text, found a list"),
        ("hostname: true", "4:15: services.web.hostname: expected text (write 'true' in quotes), found 'true'"),
        ("hostname: a b", "4:15: services.web.hostname: must be a host name of at most 63 letters, digits, '-' and '.', is 'a b'"),
        ("init: maybe", "4:11: services.web.init: expected true or false, found 'maybe'"),
        ("cap_add: NET_ADMIN", "4:14: services.web.cap_add: expected a list, found 'NET_ADMIN'"),
        ("cap_add: [NET_ADMIN, NETADMIN]", "4:26: services.web.cap_add[1]: 'NETADMIN' is no capability; did you mean 'NET_ADMIN'?"),
        ("environment: {A: [1]}", "4:22: services.web.environment.A: expected text, found a list"),
        ("environment: [{A: 1}]", "4:19: services.web.environment[0]: expected NAME=VALUE"),
        ("environment: [=1]", "4:18: services.web.environment: '' cannot be the name of a variable"),
        ('environment: {A: "\\0"}', "4:22: services.web.environment.A: must not contain a NUL character"),
        ("command: sh -c 'a", "4:14: services.web.command: cannot be split into words: no closing quotation; use a list"),
        ("command: [sh, [x]]", "4:19: services.web.command[1]: expected text, found a list"),
        ("command: {a: b}", "4:14: services.web.command: expected text, found a map"),
        ("shm_size: 12x", "4:15: services.web.shm_size: '12x' is no size; write one such as 64MiB, 512m or 1.5g"),
        ("stop_grace_period: 10", "4:24: services.web.stop_grace_period: '10' is no duration; write one such as 10s"),
        ("stop_signal: SIGTREM", "4:18: services.web.stop_signal: 'SIGTREM' is no signal; did you mean 'SIGTERM'?"),
        ("working_dir: srv", "4:18: services.web.working_dir: must begin with '/', is 'srv'"),
        ("oom_score_adj: 1.5", "4:20: services.web.oom_score_adj: expected a whole number, found '1.5'"),
        ("pull_policy: alway", "4:18: services.web.pull_policy: expected always or missing or if_not_present or never, found 'alway'; did you mean 'always'?"),
        ("pull_policy: build", "4:18: services.web.pull_policy: build is not supported: images are not built here"),
        ("restart: sometimes", "4:14: services.web.restart: expected \"no\", always, unless-stopped or on-failure[:ATTEMPTS], found 'sometimes'"),
        ("platform: a/b/c/d", "4:15: services.web.platform: expected a platform such as linux/amd64, found 'a/b/c/d'"),
        ("ulimits: {nofiles: 1}", "4:24: services.web.ulimits.nofiles: 'nofiles' is no resource limit; did you mean 'nofile'?"),
        ("ulimits: {nofile: {soft: 1}}", "4:23: services.web.ulimits.nofile: expected a number, or soft and hard; hard is missing"),
        ("sysctls: {net.x: 1, vm.x: 1}", "4:31: services.web.sysctls.vm.x: vm.x is the whole host's; a container has only net.*, fs.mqueue.* and the IPC parameters of its own"),
        ("extra_hosts: [db]", "4:19: services.web.extra_hosts.db[0]: expected text, found nothing"),
        ("dns: dns.example", "4:10: services.web.dns[0]: must be an IP address, is 'dns.example'"),
        ("labels: {shoal.x: 1}", "4:23: services.web.labels.shoal.x: names that begin with 'shoal.' are reserved"),
        ("healthcheck: {test: [true]}", "4:26: services.web.healthcheck.test[0]: expected text (write 'true' in quotes), found 'true'"),
        ("healthcheck: {test: [curl, x]}", "4:25: services.web.healthcheck.test: must begin with CMD, CMD-SHELL or NONE, begins with 'curl'"),
        ("healthcheck: {intervall: 1s}", "4:19: services.web.healthcheck.intervall: unknown key; did you mean 'interval'?"),
        ("healthcheck: {every: 1s}", "4:19: services.web.healthcheck.every: unknown key; there are disable, interval, retries, start_interval, start_period, test, timeout"),
        ("healthcheck: curl", "4:18: services.web.healthcheck: expected a map of disable, interval, retries, start_interval, start_period, test, timeout, found 'curl'"),
        ("network_mode: hots", "4:19: services.web.network_mode: expected host or none or bridge, found 'hots'; did you mean 'host'?"),
        ("network_mode: service:db", "4:19: services.web.network_mode: a task cannot share another's network; join it by `networks`"),
        ("networks: [defalt]", "4:16: services.web.networks.defalt: there is no 'defalt' under networks; did you mean 'default'?"),
        ("networks: {default: {ipv4_address: 192.0.2.1}}", "4:26: services.web.networks.default.ipv4_address: not supported: replicas cannot share one address"),
        ("ports: [x]", "4:13: services.web.ports[0]: expected [[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL], found 'x'"),
        ("ports: ['80:80', '80:81']", "4:22: services.web.ports[1].published: 80/tcp is published twice"),
        ("ports: ['1-3:1-2']", "4:13: services.web.ports[0]: 3 published ports for 2: give as many of each"),
        ("ports: ['1-60000:1-60000']", "4:13: services.web.ports[0]: more than 1024 ports; network_mode: host opens them all"),
        ("ports: ['99999:80']", "4:13: services.web.ports[0].published: must be 0 to 65535, is 99999"),
        ("ports: ['80/tpc']", "4:13: services.web.ports[0].protocol: expected tcp or udp or sctp, found 'tpc'; did you mean 'tcp'?"),
        ("ports: ['[::1:80:80']", "4:13: services.web.ports[0].host_ip: must be an IP address, is '[::1'"),
        ("ports: [{published: 80}]", "4:13: services.web.ports[0]: expected a target, the port in the container"),
        ("ports: [{target: 80, published: 1-2}]", "4:37: services.web.ports[0].published: expected a port, 1 to 65535, found '1-2'"),
        ("ports: 80", "4:12: services.web.ports: expected a list, found '80'"),
        ("volumes: [data:/x]", "4:15: services.web.volumes[0].source: there is no 'data' under volumes; declare it under the file's own `volumes`"),
        ("volumes: ['/a:/b:ncopy']", "4:15: services.web.volumes[0]: unknown option 'ncopy'; did you mean 'nocopy'?"),
        ("volumes: ['a:b:c:d']", "4:15: services.web.volumes[0]: expected [SOURCE:]TARGET[:OPTIONS], found 'a:b:c:d'"),
        ("volumes: [relative]", "4:15: services.web.volumes[0].target: must be a path that begins with '/' and is not '/', is 'relative'"),
        ("volumes: [/a, /b, '/c:/a']", "4:23: services.web.volumes[2].target: '/a' is mounted twice"),
        ("volumes: [{target: /x}]", "4:15: services.web.volumes[0]: expected a type, one of bind, volume, tmpfs"),
        ("volumes: [{type: bind, source: /x}]", "4:15: services.web.volumes[0]: expected a target, the path in the container"),
        ("volumes: [{type: bnd, target: /x}]", "4:22: services.web.volumes[0].type: expected bind or volume or tmpfs, found 'bnd'; did you mean 'bind'?"),
        ("volumes: [{type: npipe, target: /x}]", "4:22: services.web.volumes[0].type: npipe is not supported: it is for Windows hosts"),
        ("volumes: [{type: tmpfs, target: /x, volume: {nocopy: true}}]", "4:41: services.web.volumes[0].volume: has no use for a tmpfs"),
        ("volumes: [{type: tmpfs, target: /x, tmpfs: {mode: 777}}]", "4:55: services.web.volumes[0].tmpfs.mode: expected permissions in octal, such as 01777, found '777'"),
        ("tmpfs: /x:size=1m,uid=3", "4:12: services.web.tmpfs[0]: the option 'uid=3' is not supported; there are size=SIZE and mode=MODE"),
        ("tmpfs: [/x, x]", "4:17: services.web.tmpfs[1]: must be a path that begins with '/' and is not '/', is 'x'"),
        ("env_file: absent.env", "4:15: services.web.env_file[0].path: there is no file /app/absent.env"),
        ("env_file: secret.env", "4:15: services.web.env_file[0].path: cannot read /app/secret.env: Permission denied"),
        ("env_file: binary.env", "4:15: services.web.env_file[0].path: /app/binary.env is no text: it has to be written in UTF-8"),
        ("env_file: [{path: ok.env, format: yaml}]", "4:39: services.web.env_file[0].format: expected raw, found 'yaml'"),
        ("env_file: [{required: false}]", "4:16: services.web.env_file[0]: expected a path"),
        ("cpus: many", "4:11: services.web.cpus: 'many' is no number of CPUs; write one such as 0.5 or 2"),
        ("cpus: .nan", "4:11: services.web.cpus: '.nan' is no number of CPUs; write one such as 0.5 or 2"),
        ("cpus: 0.0001", "4:11: services.web.cpus: must be 0 (none) or at least 0.001 CPUs, is 0.0001"),
        ("mem_limit: 1k", "4:16: services.web.mem_limit: must be 0 (none) or at least 6MiB, is 1KiB"),
        ("mem_reservation: -1", "4:22: services.web.mem_reservation: '-1' is no size; write one such as 64MiB, 512m or 1.5g"),
        ("scale: -1", "4:12: services.web.scale: must be 0 to 1000000, is -1"),
        ("profiles: debug", "4:15: services.web.profiles: expected a list, found 'debug'"),
        ("logging: {driver: [x]}", "4:23: services.web.logging.driver: expected text, found a list"),
        ("hostname: ${HOST:?say which}", "4:15: services.web.hostname: variable HOST is not set: say which"),
        ("hostname: $(x)", "4:15: services.web.hostname: a lone $ means nothing: write ${NAME} for a variable, or $$ for a plain $"),
        ('hostname: "a\\tb"', "4:15: services.web.hostname: must be a host name of at most 63 letters, digits, '-' and '.', is 'a\\tb'"),
    ],
)  # fmt: skip
def test_a_bad_key_of_a_service(keys: str, expected: str) -> None:
    assert problems(SERVICE + keys + "\n") == [f"a.yaml:{expected}"]


JOB = "services:\n  web:\n    image: web\n    deploy: {mode: replicated-job, restart_policy: {max_attempts: 2}}\n    x-shoal:\n      "


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("schedule: 0 0 30 2 *", "6:17: services.web.x-shoal.schedule.cron: never fires: '0 0 30 2 *' asks for a day 30 in month 2, which has none"),
        ("schedule: 0 0 * *", "6:17: services.web.x-shoal.schedule.cron: must be five fields, minute, hour, day of the month, month, day of the week, such as '30 2 * * *'; '0 0 * *' has 4"),
        ("schedule: 0 24 * * *", "6:17: services.web.x-shoal.schedule.cron: '24' is no hour, in '0 24 * * *'"),
        ("schedule: {cron: 0 2 * * *, time_zone: Europe/Viena}", "6:46: services.web.x-shoal.schedule.time_zone: there is no time zone 'Europe/Viena'; did you mean 'Europe/Vienna'?"),
        ("schedule: {time_zone: UTC}", "6:17: services.web.x-shoal.schedule: expected cron: a line such as 30 2 * * *"),
        ("schedule: {cron: 0 2 * * *, concurrency: forbidden}", "6:48: services.web.x-shoal.schedule.concurrency: expected allow or forbid or replace, found 'forbidden'; did you mean 'forbid'?"),
        ("job: {retries: -2}", "6:22: services.web.x-shoal.job.retries: is -2, but the restart policy says 2 attempts; keep one"),
        ("job: {history: 101}", "6:22: services.web.x-shoal.job.history: must be 0 to 100, is 101"),
        ("job: {max_concurent: 1}", "6:13: services.web.x-shoal.job.max_concurent: unknown key; did you mean 'max_concurrent'?"),
    ],
)  # fmt: skip
def test_a_bad_key_of_a_job(keys: str, expected: str) -> None:
    assert problems(JOB + keys) == [f"a.yaml:{expected}"]


def test_a_service_that_is_no_job_has_no_schedule() -> None:
    text = "services: {web: {image: web, x-shoal: {schedule: '* * * * *'}}}"
    assert problems(text) == [
        (
            "a.yaml:1:40: services.web.x-shoal.schedule: is only for jobs (deploy.mode:"
            " replicated-job), not for mode: replicated"
        )
    ]


DEPENDS = """
services:
  a: {image: x, depends_on: [b]}
  b:
    image: x
    depends_on:
      c: {condition: service_healthy}
  c: {image: x, depends_on: {%s}}
"""


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("a: {}", "3:30: services.a.depends_on.b: services depend on each other in a circle: a (a.yaml:3:30) -> b (a.yaml:7:7) -> c (a.yaml:8:30) -> a"),
        ("c: {}", "8:30: services.c.depends_on.c: services depend on each other in a circle: c (a.yaml:8:30) -> c"),
        ("bb: {}", "8:30: services.c.depends_on.bb: there is no service 'bb' in this stack; did you mean 'b'?"),
        ("b: {condition: started}", "8:45: services.c.depends_on.b.condition: expected service_started or service_healthy or service_completed_successfully, found 'started'; did you mean 'service_started'?"),
    ],
)  # fmt: skip
def test_services_wait_for_what_can_be(keys: str, expected: str) -> None:
    assert f"a.yaml:{expected}" in problems(DEPENDS % keys)


def test_nobody_waits_for_the_end_of_what_never_ends() -> None:
    text = """
services:
  web: {image: x, depends_on: {migrate: {condition: service_completed_successfully}}}
  migrate: {image: x}
"""
    (problem,) = problems(text)
    assert problem.startswith("a.yaml:3:32: services.web.depends_on.migrate: waits for migrate,")
    assert "replicated-job" in problem
    mended = text.replace("migrate: {image: x}", "migrate: {image: x, restart: 'no'}")
    project = load([Source("a.yaml", mended)], environment={}, directory="/", read=str, project="p")
    assert project.services[0].depends_on


DEPLOY = "services:\n  web:\n    image: web\n    deploy:\n      "


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("replicas: -1", "5:17: services.web.deploy.replicas: must be 0 to 1000000, is -1"),
        ("replicas: many", "5:17: services.web.deploy.replicas: expected a whole number, found 'many'"),
        ("replicas: 1e3", "5:17: services.web.deploy.replicas: expected a whole number, found '1e3'"),
        ("replicas: 99999999999999999999", "5:17: services.web.deploy.replicas: expected a whole number, found '99999999999999999999'"),
        ("mode: globl", "5:13: services.web.deploy.mode: expected replicated or global or replicated-job or global-job, found 'globl'; did you mean 'global'?"),
        ("{mode: global-job, replicas: 2}", "5:26: services.web.deploy.replicas: has no use with mode: global-job: one task on each node"),
        ("{mode: replicated-job, replicas: 0}", "5:40: services.web.deploy.replicas: must be 1 to 1000000, is 0"),
        ("{mode: replicated-job, update_config: {order: stop-first}}", "5:30: services.web.deploy.update_config: has no use for a job, which is not updated but run anew"),
        ("{mode: replicated-job, restart_policy: {window: 1m}}", "5:55: services.web.deploy.restart_policy.window: has no use for a job: each completion has its retries"),
        ("{mode: global, replicas: 2}", "5:22: services.web.deploy.replicas: has no use with mode: global: one task on each node"),
        ("resources: {limits: {memory: lots}}", "5:36: services.web.deploy.resources.limits.memory: 'lots' is no size; write one such as 64MiB, 512m or 1.5g"),
        ("resources: {limits: {cpu: 1}}", "5:28: services.web.deploy.resources.limits.cpu: unknown key; did you mean 'cpus'?"),
        ("resources: {limits: {memory: 8m}, reservations: {memory: 9m}}", "5:64: services.web.deploy.resources.reservations.memory: must not be above the limit of 8MiB, is 9MiB"),
        ("resources: {reservations: {devices: [{capabilities: [gpu]}]}}", "5:34: services.web.deploy.resources.reservations.devices: not supported: devices cannot be reserved yet"),
        ("placement: {constraints: ['node.role ~= x']}", "5:33: services.web.deploy.placement.constraints[0]: constraint 'node.role ~= x': unknown operator '~='; valid are ==, !=, in, not in, =~, exists, not exists, < and >; did you mean '=~'?"),
        ("placement: {preferences: [node.labels.a]}", "5:33: services.web.deploy.placement.preferences[0]: expected a map of spread, found 'node.labels.a'"),
        ("placement: {preferences: [{}]}", "5:33: services.web.deploy.placement.preferences[0]: expected spread: KEY, such as node.labels.zone"),
        ("placement: {preferences: [{spread: zone}]}", "5:42: services.web.deploy.placement.preferences[0].spread: unknown key 'zone'; valid are node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME; did you mean 'node.labels.zone'?"),
        ("resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 0}}]}}", "5:53: services.web.deploy.resources.reservations.generic_resources: must be 1 to 1000000, is 0"),
        ("resources: {reservations: {generic_resources: [{discrete_resource_spec: {value: 2}}]}}", "5:54: services.web.deploy.resources.reservations.generic_resources[0]: expected discrete_resource_spec with a kind and a value"),
        ("resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: a}}, {discrete_resource_spec: {kind: a}}]}}", "5:91: services.web.deploy.resources.reservations.generic_resources[1]: 'a' is reserved twice"),
        ("{mode: global, placement: {preferences: [{spread: node.id}]}}", "5:47: services.web.deploy.placement.preferences: has no use in mode global, which runs one task on each node"),
        ("x-shoal: {priority: 1}", "5:7: services.web.deploy.x-shoal: unknown key here; it belongs in services.<name>"),
        ("placement: {max_replicas_per_node: -1}", "5:42: services.web.deploy.placement.max_replicas_per_node: must be 0 or more, is -1"),
        ("restart_policy: {condition: always}", "5:35: services.web.deploy.restart_policy.condition: expected none or on-failure or any, found 'always'"),
        ("restart_policy: {max_attempts: -2}", "5:38: services.web.deploy.restart_policy.max_attempts: must be 0 or more, is -2"),
        ("update_config: {parallelism: -1}", "5:36: services.web.deploy.update_config.parallelism: must be 0 or more, is -1"),
        ("update_config: {max_failure_ratio: 1.5}", "5:42: services.web.deploy.update_config.max_failure_ratio: must be 0 to 1, is 1.5"),
        ("update_config: {max_failure_ratio: .nan}", "5:42: services.web.deploy.update_config.max_failure_ratio: expected a number such as 0.1, found '.nan'"),
        ("rollback_config: {failure_action: rollback}", "5:41: services.web.deploy.rollback_config.failure_action: expected pause or continue, found 'rollback'"),
        ("update_config: {order: first}", "5:30: services.web.deploy.update_config.order: expected stop-first or start-first, found 'first'; did you mean 'stop-first'?"),
    ],
)  # fmt: skip
def test_a_bad_key_of_deploy(keys: str, expected: str) -> None:
    assert problems(DEPLOY + keys + "\n") == [f"a.yaml:{expected}"]


OURS = "services:\n  web:\n    image: web\n    x-shoal:\n      "


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("priorty: 1", "5:7: services.web.x-shoal.priorty: unknown key; did you mean 'priority'?"),
        ("x-priority: 1", "5:7: services.web.x-shoal.x-priority: unknown key; did you mean 'priority'?"),
        ("priority: high", "5:17: services.web.x-shoal.priority: expected a whole number, found 'high'"),
        ("priority: 1001", "5:17: services.web.x-shoal.priority: must be -1000 to 1000, is 1001"),
        ("budget: 1", "5:15: services.web.x-shoal.budget: expected a map of max_unavailable, found '1'"),
        ("budget: {max_unavailable: -1}", "5:33: services.web.x-shoal.budget.max_unavailable: must be 0 to 1000000, is -1"),
        ("autoscale: {max: 3}", "5:18: services.web.x-shoal.autoscale: needs a target: cpu or memory, in percent"),
        ("autoscale: {max: 3, cpu: 70}", "5:32: services.web.x-shoal.autoscale.cpu: is of the cpu that a task reserves or is limited to: give it one of these"),
        ("gang: a b", "5:13: services.web.x-shoal.gang: must consist of letters, digits, '-' and '_' and begin and end with a letter or digit, is 'demo_a b'"),
        ("strategy: pack", "5:17: services.web.x-shoal.strategy: expected binpack or spread, found 'pack'; did you mean 'binpack'?"),
        ("tolerates: [gpu, 'a b']", "5:24: services.web.x-shoal.tolerates[1]: must consist of letters, digits, '-' and '_' and begin and end with a letter or digit, is 'a b'"),
        ("stays: maybe", "5:14: services.web.x-shoal.stays: expected true or false, found 'maybe'"),
        ("affinity: wbe", "5:17: services.web.x-shoal.affinity[0].service: there is no service 'wbe' in this stack; did you mean 'web'?"),
        ("affinity: [web, db]", "5:23: services.web.x-shoal.affinity[1].service: there is no service 'db' in this stack; of one elsewhere give the full name and external: true"),
        ("affinity: [{topology: node.id}]", "5:18: services.web.x-shoal.affinity[0]: expected a service"),
        ("{affinity: web, anti_affinity: [web, {service: web, topology: zone}]}", "5:69: services.web.x-shoal.anti_affinity[1].topology: unknown key 'zone'; valid are node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME; did you mean 'node.labels.zone'?"),
        ("{affinity: web, anti_affinity: {service: web, weight: -1}}", "5:61: services.web.x-shoal.anti_affinity[0].weight: must be 0 to 100, is -1"),
        ("affinity: [web, {service: a b, external: true}]", "5:33: services.web.x-shoal.affinity[1].service: must consist of letters, digits, '-' and '_' and begin and end with a letter or digit, is 'a b'"),
        ("affinity: {service: web, weight: 101}", "5:40: services.web.x-shoal.affinity[0].weight: must be 0 to 100, is 101"),
        ("prefer: [{weight: 1}]", "5:16: services.web.x-shoal.prefer[0]: expected a constraint such as node.labels.disk == ssd"),
        ("prefer: [node.id == a, node.id = a]", "5:30: services.web.x-shoal.prefer[1].constraint: constraint 'node.id = a': unknown operator '='; valid are ==, !=, in, not in, =~, exists, not exists, < and >; did you mean '=='?"),
        ("prefer: {constraint: node.id == a, weight: 0}", "5:50: services.web.x-shoal.prefer[0].weight: must be 1 to 100, is 0"),
    ],
)  # fmt: skip
def test_a_bad_key_of_our_own(keys: str, expected: str) -> None:
    assert problems(OURS + keys + "\n") == [f"a.yaml:{expected}"]


def test_a_misspelt_key_of_a_list_is_told_of_beside_what_is_missing() -> None:
    placement = "placement: {preferences: [{spred: node.labels.a}]}"
    place = "services.web.deploy.placement.preferences[0]"

    assert problems(DEPLOY + placement) == [
        f"a.yaml:5:33: {place}: expected spread: KEY, such as node.labels.zone",
        f"a.yaml:5:34: {place}.spred: unknown key; did you mean 'spread'?",
    ]


def test_our_own_keys_are_refused_where_they_mean_nothing() -> None:
    text = (
        "services: {web: {image: web}}\nx-shoal: {priority: 1}\nvolumes: {a: {x-shoal: {bond: 1}}}"
    )

    assert problems(text) == [
        "a.yaml:2:1: x-shoal: unknown key here; it belongs in services.<name>",
        "a.yaml:3:25: volumes.a.x-shoal.bond: unknown key; did you mean 'bound'?",
    ]


def test_a_key_that_is_nearly_our_own_is_asked_about() -> None:
    text = "services: {web: {image: web, x-shaol: {priority: 1}, x-shell: a}}"
    source = Source("a.yaml", text)
    (warning,) = load([source], environment={}, directory="/", read=read, project="a").warnings

    assert str(warning) == (
        "a.yaml:1:30: services.web.x-shaol: passed over; did you mean 'x-shoal'?"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1:1: services: expected a map of services; there is none"]),
        ("services: {}", ["1:1: services: expected a map of services; there is none"]),
        ("- a", ["1:1: expected a map with `services`",
                 "1:1: services: expected a map of services; there is none"]),
        ("services: [web]", ["1:11: services: expected a map, found a list"]),
        ("services: {web: }", ["1:17: services.web: expected a map, found nothing"]),
        ("services: {web: {}}", ["1:12: services.web.image: must name an image"]),
        ("services: {web: {image: }}", ["1:25: services.web.image: must name an image"]),
        ("services: {a.b: {image: x}}", ["1:12: services.a.b: must consist of letters, digits, '-' and '_' and begin and end with a letter or digit, is 'demo_a.b'"]),
        ("servces: {}\nservices: {a: {image: a}}", ["1:1: servces: unknown key; did you mean 'services'?"]),
        ("services: {a: {image: a}}\nsecrets: {x: {file: y}}", ["2:1: secrets: not supported: secrets cannot be stored yet"]),
        ("services: {a: {image: a}}\nnetworks: {x: {driver: macvlan}}", ["2:24: networks.x.driver: macvlan is not supported: tasks are joined by bridges"]),
        ("services: {a: {image: a}}\nnetworks: {x: {name: host, external: true}}", ["2:15: networks.x: use `network_mode: host` in the service instead"]),
        ("services: {a: {image: a}}\nvolumes: {x: {external: true, driver: nfs}}", ["2:31: volumes.x.driver: has no use for an external volume, which is there already"]),
        ("services: {a: {image: a}}\nvolumes: {x: {driver_opt: {}}}", ["2:15: volumes.x.driver_opt: unknown key; did you mean 'driver_opts'?"]),
        ("services: {a: {image: a, cpus: 1, deploy: {resources: {limits: {cpus: 2}}}}}",
         ["1:32: services.a.cpus: is '1', but services.a.deploy.resources.limits.cpus at a.yaml:1:71 is '2'; keep one"]),
        ("services: {a: {image: a, network_mode: none, networks: [default]}}",
         ["1:46: services.a.networks: cannot be joined with a network_mode; keep one of the two"]),
    ],
)  # fmt: skip
def test_a_bad_file(text: str, expected: list[str]) -> None:
    assert problems(text) == [f"a.yaml:{line}" for line in expected]


def test_a_tmpfs_is_told_as_such_beside_volumes() -> None:
    (line,) = problems(SERVICE + "volumes: [/a, /b]\n    tmpfs: [x, /c]\n")
    assert line.startswith("a.yaml:5:13: services.web.tmpfs[0]: must be a path")


def test_all_problems_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = """\
services:
  web:
    image: We b
    deploy: {replicas: -1, mode: nowhere}
    cpus: x
  db:
    imag: db
    ports: ["70000:1", y]
volumse: {}
"""
    assert [line.split(": ")[0] for line in problems(text)] == [
        "a.yaml:3:12",
        "a.yaml:4:24",
        "a.yaml:4:34",
        "a.yaml:5:11",
        "a.yaml:6:3",
        "a.yaml:7:5",
        "a.yaml:8:24",
        "a.yaml:9:1",
    ]


def test_a_value_from_an_earlier_file_is_told_where_it_stands() -> None:
    base = "services:\n  web:\n    image: web\n    deploy:\n      replicas: -1\n"
    over = "services:\n  web:\n    deploy:\n      labels: {a: b}\n    cpus: x\n"
    assert problems(base, over) == [
        "a.yaml:5:17: services.web.deploy.replicas: must be 0 to 1000000, is -1",
        "b.yaml:5:11: services.web.cpus: 'x' is no number of CPUs; write one such as 0.5 or 2",
    ]


def test_a_value_behind_an_anchor_is_told_where_it_stands() -> None:
    text = """\
x-limits: &limits
  limits:
    memory: 12x
services:
  a: {image: a, deploy: {resources: *limits}}
  b:
    image: b
    deploy:
      resources:
        <<: *limits
"""
    message = "'12x' is no size; write one such as 64MiB, 512m or 1.5g"
    assert problems(text) == [
        f"a.yaml:3:13: services.a.deploy.resources.limits.memory: {message}",
        f"a.yaml:3:13: services.b.deploy.resources.limits.memory: {message}",
    ]


def test_a_line_of_an_env_file_is_told_where_it_stands() -> None:
    assert problems(SERVICE + "env_file: bad.env\n") == [
        "/app/bad.env:2:1: expected NAME=value; there is no = after B"
    ]


def test_entries_of_a_list_are_told_by_their_places_in_the_file_that_has_them() -> None:
    base = SERVICE + "ports: ['80:80']\n"
    over = "services:\n  web:\n    ports:\n      - '443:443'\n      - '80:81'\n"
    assert problems(base, over) == [
        "b.yaml:5:9: services.web.ports[2].published: 80/tcp is published twice"
    ]


@pytest.mark.parametrize(
    ("text", "project", "expected"),
    [
        ("services: {a: {image: a}}", "", "a.yaml:1:1: name: the stack has no name: give one here or to the command"),
        ("services: {a: {image: a}}", "a b", "a.yaml:1:1: stack name must consist of letters, digits, '-' and '_' and begin and end with a letter or digit, is 'a b'"),
        ("name: -x\nservices: {a: {image: a}}", "", "a.yaml:1:7: name: must consist of letters, digits, '-' and '_' and begin and end with a letter or digit, is '-x'"),
        ("services: {" + "a" * 60 + ": {image: a}}", "demo", "a.yaml:1:12: services." + "a" * 60 + ": must have at most 63 characters, has 65"),
    ],
)  # fmt: skip
def test_names(text: str, project: str, expected: str) -> None:
    assert problems(text, project=project) == [expected]


def test_a_message_cannot_upset_a_terminal() -> None:
    (line,) = problems(SERVICE + "hostname: $X\n", X="\x1b[2J\ud800")
    assert line.isprintable()
    line.encode()
