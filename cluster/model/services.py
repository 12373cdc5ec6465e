"""Services: what somebody wants to run, where, how often, and what when it ends."""

from enum import Enum

from cluster.model.base import Object, ServiceId, StackId, Value
from cluster.model.containers import ContainerSpec
from cluster.model.jobs import Dependency, JobSpec
from cluster.resources import Resources


class PublishedPort(Value, frozen=True):
    """A port of the host that leads to a port of the container.

    Attributes:
        target: port inside the container, 1..65535.
        published: port of the host; 0 lets Docker choose a free one.
        protocol: "tcp", "udp" or "sctp".
        host_ip: address of the host to listen on; empty is every address.
    """

    target: int
    published: int = 0
    protocol: str = "tcp"
    host_ip: str = ""


class NetworkMode(Enum):
    """Where the container's network is: its own bridges, or one of Docker's fixed ones."""

    NETWORKS = "networks"  # the networks that the spec lists, or Docker's default bridge if none
    HOST = "host"
    NONE = "none"


class NetworkAttachment(Value, frozen=True):
    """A network to join; for now a bridge of that name on each host.

    Attributes:
        network: full name, a stack's prefix included.
        aliases: further names by which others on the network find the container.
    """

    network: str
    aliases: tuple[str, ...] = ()


class RestartCondition(Enum):
    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


class RestartPolicy(Value, frozen=True):
    """Whether, when and how often a task that ended is replaced in its slot.

    Attributes:
        condition: which ends count.
        delay_seconds: wait before each replacement. The first failure is replaced after just
            this long; further failures in a row wait longer and longer on top of it
            (``manager.reconcilers.restart``).
        max_attempts: replacements at most within the window; 0 is no limit.
        window_seconds: how far back attempts count; 0 is the whole history that is kept.
    """

    condition: RestartCondition = RestartCondition.ANY
    delay_seconds: float = 0.0
    max_attempts: int = 0
    window_seconds: float = 0.0


class Platform(Value, frozen=True):
    """An operating system and an architecture, as Go names them; empty matches any."""

    os: str = ""
    architecture: str = ""


class Strategy(Enum):
    """How tasks are laid out over the nodes that may run them."""

    BINPACK = "binpack"  # few nodes, well filled; keeps room for what is large
    SPREAD = "spread"  # as evenly by count as can be


class SpreadPreference(Value, frozen=True):
    """Spread a service's tasks evenly over the values of a key.

    Attributes:
        key: a topology (``cluster.constraints.topology``), "node.labels.zone".
    """

    key: str


class Affinity(Value, frozen=True):
    """Keep a service's tasks near those of a service, or apart from them.

    Attributes:
        service: full name; may be the service's own.
        topology: what makes two nodes the same place (``cluster.constraints.topology``): the
            node itself, or a label's value. A node without the label is no place.
        anti: keep apart instead of near.
        weight: 0 is a must; 1..100 is a wish, the higher the stronger.
    """

    service: str
    topology: str = "node.id"
    anti: bool = False
    weight: int = 0

    @property
    def must_be_near(self) -> bool:
        """Whether no node will do that has none of the service's tasks near."""
        return not self.anti and not self.weight


class Preferred(Value, frozen=True):
    """A constraint that would be nice to hold.

    Attributes:
        weight: 1..100, the higher the stronger.
    """

    constraint: str
    weight: int


class Placement(Value, frozen=True):
    """Where a task may run, and where it should.

    Attributes:
        constraints: expressions that all must hold (``cluster.constraints``).
        platforms: any of them will do; empty is no demand.
        max_replicas_per_node: of this service; 0 is no limit.
        preferences: spread over the first key, within each of its values over the next, ...
        affinities: nearness to other services, and distance.
        prefer: constraints that need not hold.
        strategy: None takes the cluster's.
        tolerates: names that nodes may be reserved for and still run it.
        stays: once placed it is not moved to make a better layout.
    """

    constraints: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    max_replicas_per_node: int = 0
    preferences: tuple[SpreadPreference, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    prefer: tuple[Preferred, ...] = ()
    strategy: Strategy | None = None
    tolerates: tuple[str, ...] = ()
    stays: bool = False


class LostNodePolicy(Enum):
    """What becomes of a task whose node cannot be reached any more."""

    REPLACE = "replace"  # it runs elsewhere at once, and perhaps twice for a while
    WAIT = "wait"  # its node gets a time to come back
    FENCE = "fence"  # never twice: its host ends it first, without a word from anybody


class LostNode(Value, frozen=True):
    """What becomes of a task whose node is lost (docs/decisions/0012-fencing.md).

    Attributes:
        seconds: with ``WAIT``, how long its node has to come back. With ``FENCE``, its lease: so
            long after the last heartbeat that a manager vouched for its host lets it run.
    """

    policy: LostNodePolicy = LostNodePolicy.REPLACE
    seconds: float = 0.0


class TaskSpec(Value, frozen=True):
    """The template that a service's tasks are made from.

    Attributes:
        reservations: set aside on the node; what the scheduler counts.
        limits: enforced by the kernel; 0 is no limit.
        force_update: a counter; raising it replaces every task though nothing else changed.
        lost_node: what becomes of a task whose node is lost.
    """

    container: ContainerSpec
    reservations: Resources = Resources()
    limits: Resources = Resources()
    network_mode: NetworkMode = NetworkMode.NETWORKS
    networks: tuple[NetworkAttachment, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    force_update: int = 0
    lost_node: LostNode = LostNode()


class ServiceMode(Enum):
    """How many tasks a service has, and whether they are to come to an end."""

    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"

    @property
    def is_job(self) -> bool:
        """Whether its tasks are to come to an end."""
        return self in (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB)

    @property
    def is_global(self) -> bool:
        """Whether it has one task on each node that complies, instead of a number of them."""
        return self in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB)


class UpdateOrder(Enum):
    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(Enum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


class UpdateConfig(Value, frozen=True):
    """How a change of the template reaches the running tasks.

    Attributes:
        parallelism: tasks replaced at a time; 0 is all at once.
        delay_seconds: between one batch and the next.
        monitor_seconds: how long after its start a task's failure counts against the update.
        failure_action: what to do when too many fail.
        max_failure_ratio: the share of failures, 0..1, that is still borne.
        order: whether the old task stops before the new one starts.
        progress_deadline_seconds: for how long a new task may stay in one state before it runs;
            after that its place counts as failed. 0 is for ever.
        canary: places that are updated first; then the update waits for an operator's word, or
            for ``promote_after_seconds``. 0 is no canary.
        promote_after_seconds: for how long the canary is to run well before the update goes on
            by itself; 0 is never.
    """

    parallelism: int = 1
    delay_seconds: float = 0.0
    monitor_seconds: float = 5.0
    failure_action: FailureAction = FailureAction.PAUSE
    max_failure_ratio: float = 0.0
    order: UpdateOrder = UpdateOrder.STOP_FIRST
    progress_deadline_seconds: float = 600.0
    canary: int = 0
    promote_after_seconds: float = 0.0


class DisruptionBudget(Value, frozen=True):
    """How much of a service the cluster may take away for the sake of others.

    Attributes:
        max_unavailable: replicas that may be missing at a time on that account; 0 is none, None
            a quarter of them, and one at least.
    """

    max_unavailable: int | None = None


class Autoscale(Value, frozen=True):
    """Between which numbers of replicas a service scales itself, and by what.

    Attributes:
        min_replicas, max_replicas: the range, both included; at least 1.
        cpu_percent: CPU that its tasks shall use on average, of what each reserves, or of its
            limit if it reserves none; 0: CPU does not count.
        memory_percent: likewise of memory. If both count, the one that asks for more does.
        tolerance_percent: so far from the target, of the target, is near enough.
        up_window_seconds: it grows to the least that was called for during so long.
        down_window_seconds: it shrinks to the most that was called for during so long.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    cpu_percent: int = 0
    memory_percent: int = 0
    tolerance_percent: int = 10
    up_window_seconds: float = 30.0
    down_window_seconds: float = 300.0


class ServiceSpec(Value, frozen=True):
    """What somebody wants to run.

    Attributes:
        name: unique among services; of a stack's service it begins with the stack's name and
            an underscore.
        stack: name of the stack it belongs to; empty if none.
        labels: of the service, not of its containers.
        replicas: of a replicated service; others ignore it.
        priority: the higher is placed first.
        preempts: where there is no room, tasks of a lower priority make way for its tasks.
        budget: what preemption and rebalancing may take of it.
        gang: all waiting tasks of the services with this name are placed together or not at
            all; empty if each for itself. Of a stack's service it begins with the stack's name
            and an underscore.
        autoscale: None: it has ``replicas``; else it begins with these and scales itself
            (``cluster.scaling``).
        job: of a job: how often, how long and when it runs.
        depends_on: what must be so before tasks of a new version may start
            (``cluster.dependencies``).
    """

    name: str
    task: TaskSpec
    labels: dict[str, str] = {}
    stack: str = ""
    mode: ServiceMode = ServiceMode.REPLICATED
    replicas: int = 1
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    priority: int = 0
    preempts: bool = False
    budget: DisruptionBudget = DisruptionBudget()
    gang: str = ""
    autoscale: Autoscale | None = None
    job: JobSpec = JobSpec()
    depends_on: tuple[Dependency, ...] = ()

    @property
    def max_unavailable(self) -> int:
        """How many tasks may be missing at a time for the sake of others."""
        asked = self.budget.max_unavailable
        return max(1, self.replicas // 4) if asked is None else asked


class Service(Object, frozen=True):
    """A service as asked for now. Written by operators through the Control API alone.

    Attributes:
        spec_version: the number of this spec; counts up with each change.
        rolls_back: the template is a return to an earlier one: ``spec.rollback`` says how.
        promoted_version: an operator's word that the canary of this spec, and of those before
            it, is good.
        paused: an operator holds the rollout.
        resumed_at: when an operator last let a paused rollout go on.
        run_requests: how often a run of the job was asked for by hand.
        suspended: an operator lets nothing of the job's schedule become due, whatever is deployed.
    """

    id: ServiceId
    spec: ServiceSpec
    spec_version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0
    rolls_back: bool = False
    promoted_version: int = 0
    paused: bool = False
    resumed_at: float = 0.0
    run_requests: int = 0
    suspended: bool = False


class ServiceVersion(Object, frozen=True):
    """A spec that a service had or has: stored once, named by its tasks, never changed.

    Attributes:
        request_id: of the request that made it; its tasks and their containers go back to that.
    """

    service_id: ServiceId
    number: int
    spec: ServiceSpec
    created_at: float = 0.0
    request_id: str = ""


class Stack(Object, frozen=True):
    """A name that groups services; the services name it in ``spec.stack``."""

    id: StackId
    name: str
    labels: dict[str, str] = {}
    created_at: float = 0.0
    updated_at: float = 0.0


class Scaling(Object, frozen=True):
    """How many replicas a service that scales itself shall have; written by the leader.

    Attributes:
        why: in a sentence.
        decided_at: seconds since 1970 UTC.
    """

    service_id: ServiceId
    replicas: int
    why: str = ""
    decided_at: float = 0.0
