"""A Control API without a cluster behind it: enough for the client's tests, on loopback.

It keeps objects in memory with revisions, as the managers do, and answers with the real messages.
What the leader and the agents would do is done by ``settle`` (every service gets running tasks
on the nodes that take them), after each write if ``auto``, or by the test itself.

    with FakeControl(nodes=3) as control:
        run("--endpoint", control.endpoint, "stack", "deploy", ...)
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
import msgspec

from cluster import codec, lifecycle
from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.api.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from cluster.api.v1.dispatch_pb2 import LogEntry, LogStream
from cluster.errors import ClusterError, ConflictError, ExistsError, NotFoundError
from cluster.model import (
    AskedMove,
    Availability,
    Cluster,
    ClusterId,
    Event,
    JobStatus,
    Manager,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    NodeState,
    NodeStatus,
    Object,
    Platform,
    Rollout,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Stack,
    StackId,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from cluster.resources import NANOS_PER_CPU, Resources
from cluster.status import code_of

replace = msgspec.structs.replace
NOW = 1_800_000_000.0
DONE = object()


def long_id(kind: str, number: int) -> str:
    """Return an id of the usual length that is easy to recognise."""
    return f"{kind}{number}".ljust(25, "x")


class FakeControl(ControlServicer):
    """A manager that answers alone."""

    def __init__(self, *, nodes: int = 3, auto: bool = True) -> None:
        self.auto = auto
        self.revision = 10
        self.objects: dict[tuple[str, str], Object] = {}
        self.history: list[tuple[int, bool, Object]] = []
        self.calls: list[str] = []
        self.failures: dict[str, list[tuple[grpc.StatusCode, bool]]] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.logs: list[wire.StreamLogsMessage] = []
        self.events: list[Event] = []
        self.planned = wire.PlanResponse(complete=True)  # what every trial comes to
        self.trials: list[Any] = []
        self.pinned: list[Any] = []
        self.streams_cut = 0  # so many streams of events break after each message
        self.verdicts: list[wire.NodeVerdict] = []
        self.explained: dict[str, Any] = {}
        self.imagined = wire.WhatIfRequest()
        self.outlook = wire.WhatIfResponse()
        self.rebalance_asked = wire.RebalanceRequest()
        self.planned_moves: list[wire.PlannedMove] = []
        self._changed = threading.Condition(threading.RLock())
        self._counter = 0
        self._server: grpc.Server | None = None
        self._stopping = threading.Event()
        self.port = 0
        self.put(Cluster(id=ClusterId(long_id("cluster", 1)), created_at=NOW))
        for number in range(1, nodes + 1):
            self.add_node(f"node{number}")

    # --- the server ---

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._stopping.clear()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)]
        )
        add_ControlServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        self.put(
            Manager(
                id=ManagerId(long_id("manager", self.port)),
                address=self.endpoint,
                hostname="here",
                started_at=NOW,
                software_version="0.1.0",
            )
        )

    def stop(self) -> None:
        """End it as a killed manager ends: connections break."""
        if self._server is not None:
            self._stopping.set()
            with self._changed:
                self._changed.notify_all()
            self._server.stop(grace=None).wait()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def fail(self, rpc: str, code: grpc.StatusCode, *, done: bool = False, times: int = 1) -> None:
        """Let the next calls of *rpc* fail; if *done*, after they were carried out."""
        self.failures.setdefault(rpc, []).extend([(code, done)] * times)

    # --- objects ---

    def put(self, value: Object) -> Any:
        with self._changed:
            self.revision += 1
            value = replace(value, version=self.revision)
            self.objects[_key(value)] = value
            self.history.append((self.revision, False, value))
            self._changed.notify_all()
            return value

    def drop(self, value: Object) -> None:
        with self._changed:
            self.revision += 1
            self.objects.pop(_key(value), None)
            self.history.append((self.revision, True, value))
            self._changed.notify_all()

    def all(self, kind: type[Any]) -> list[Any]:
        with self._changed:
            return [value for value in self.objects.values() if isinstance(value, kind)]

    def add_node(self, name: str, **description: Any) -> Node:
        fields = {
            "address": "127.0.0.1",
            "platform": Platform(os="linux", architecture="amd64"),
            "capacity": Resources(cpu_nanos=2 * NANOS_PER_CPU, memory_bytes=2**31),
            "engine_version": "20.10.24",
            "agent_version": "0.1.0",
        }
        node: Node = self.put(
            Node(
                id=NodeId(long_id("node", self._number())),
                description=NodeDescription(hostname=name, **{**fields, **description}),
                status=NodeStatus(state=NodeState.READY, changed_at=NOW),
                created_at=NOW,
            )
        )
        return node

    def add_service(self, spec: ServiceSpec) -> Service:
        service: Service = self.put(
            Service(
                id=ServiceId(long_id("service", self._number())),
                spec=spec,
                created_at=NOW,
                updated_at=NOW,
            )
        )
        self._version(service)
        return service

    def change_service(self, service: Service, spec: ServiceSpec) -> Service:
        if spec == service.spec:
            return service
        new: Service = self.put(
            replace(service, spec=spec, spec_version=service.spec_version + 1, updated_at=NOW + 1)
        )
        self._version(new)
        return new

    def add_task(
        self, service: Service, slot: int, state: TaskState = TaskState.RUNNING, **fields: Any
    ) -> Task:
        number = self._number()
        status = fields.pop("status", TaskStatus(state=state, at=NOW))
        task: Task = self.put(
            Task(
                id=TaskId(long_id("task", number)),
                service_id=service.id,
                spec_version=service.spec_version,
                slot=slot,
                status=status,
                created_at=NOW + number,
                **fields,
            )
        )
        return task

    def move(self, task: Task, state: TaskState, **status: Any) -> Task:
        """Let a task reach a state."""
        moved: Task = self.put(
            replace(task, status=replace(task.status, state=state, at=NOW + 1, **status))
        )
        return moved

    def service(self, reference: str) -> Service:
        service: Service = self._find(Service, reference, lambda each: each.spec.name, "service")
        return service

    def node(self, reference: str) -> Node:
        node: Node = self._find(Node, reference, lambda each: each.description.hostname, "node")
        return node

    def tasks_of(self, service: Service) -> list[Task]:
        return [task for task in self.all(Task) if task.service_id == service.id]

    def settle(self) -> None:
        """Do what leader and agents do in the end."""
        services = {each.id: each for each in self.all(Service)}
        for task in self.all(Task):
            service = services.get(task.service_id)
            node = self.objects.get(("Node", task.node_id))
            drained = isinstance(node, Node) and node.spec.availability is Availability.DRAIN
            if service is None:
                self.drop(task)
            elif lifecycle.live(task) and (
                task.slot > service.spec.replicas
                or task.spec_version != service.spec_version
                or drained
                or node is None
            ):
                stopped = replace(task, desired_state=TaskState.SHUTDOWN)
                self.move(stopped, TaskState.SHUTDOWN)
        takers = [n for n in self.all(Node) if n.spec.availability is Availability.ACTIVE]
        for service in services.values():
            if service.spec.mode.is_job:
                continue  # a test says itself how its runs go
            held = {task.slot for task in self.tasks_of(service) if lifecycle.live(task)}
            for slot in range(1, service.spec.replicas + 1):
                if slot not in held and takers:
                    self.add_task(service, slot, node_id=takers[slot % len(takers)].id)

    def _number(self) -> int:
        self._counter += 1
        return self._counter

    def _version(self, service: Service) -> None:
        self.put(
            ServiceVersion(
                service_id=service.id,
                number=service.spec_version,
                spec=service.spec,
                created_at=NOW,
            )
        )

    def _find(self, kind: type[Any], reference: str, name: Callable[[Any], str], noun: str) -> Any:
        for value in self.all(kind):
            if reference and (value.id == reference or name(value) == reference):
                return value
        found = [value for value in self.all(kind) if value.id.startswith(reference)]
        if reference and len(found) == 1:
            return found[0]
        raise NotFoundError(f"no {noun} '{reference}'")

    # --- the API ---

    @contextlib.contextmanager
    def _answering(self, rpc: str, context: Any) -> Iterator[None]:
        self.calls.append(rpc)
        code, done = self.failures[rpc].pop(0) if self.failures.get(rpc) else (None, False)
        if code is not None and not done:
            context.abort(code, "told to fail")
        try:
            yield
        except ClusterError as error:
            context.abort(code_of(error), str(error))
        if (
            self.auto
            and rpc not in ("Watch", "StreamLogs", "StreamEvents", "Plan")
            and not rpc.startswith(("Get", "List"))
        ):
            self.settle()
        if hook := self.hooks.pop(rpc, None):
            hook()
        if code is not None:
            context.abort(code, "told to fail afterwards")

    def GetClusterInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("GetClusterInfo", context):
            (cluster,) = self.all(Cluster)
            managers = self.all(Manager)
            return wire.GetClusterInfoResponse(
                cluster=codec.to_wire(cluster, types_pb2.Cluster),
                managers=[codec.to_wire(each, types_pb2.Manager) for each in managers],
                leader_id=managers[0].id,
                answered_by_id=managers[0].id,
                store_members=[
                    wire.StoreMember(
                        endpoint="127.0.0.1:23790",
                        reachable=True,
                        server_version="3.5.16",
                        size_bytes=20480,
                        leader=True,
                    )
                ],
                revision=self.revision,
                nodes_ready=len(self.all(Node)),
                nodes_total=len(self.all(Node)),
                services_total=len(self.all(Service)),
                tasks_running=len(self.all(Task)),
                capacity=types_pb2.Resources(cpu_nanos=6 * NANOS_PER_CPU, memory_bytes=6 * 2**30),
                reserved=types_pb2.Resources(cpu_nanos=NANOS_PER_CPU, memory_bytes=2**30),
            )

    def UpdateCluster(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("UpdateCluster", context):
            (old,) = self.all(Cluster)
            if request.version not in (0, old.version):
                raise ConflictError("the cluster has changed")
            spec = codec.from_wire(request.spec, type(old.spec))
            new = self.put(replace(old, spec=spec))
            return wire.UpdateClusterResponse(cluster=codec.to_wire(new, types_pb2.Cluster))

    def Rebalance(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("Rebalance", context):
            self.rebalance_asked = request
            answer = wire.RebalanceResponse(moves=self.planned_moves, revision=self.revision)
            if self.planned_moves and not request.plan:
                (old,) = self.all(Cluster)
                asked = [
                    AskedMove(task_id=TaskId(m.task_id), node_id=NodeId(m.to_node))
                    for m in self.planned_moves
                ]
                new = self.put(replace(old, moves=tuple(asked)))
                answer.cluster.CopyFrom(codec.to_wire(new, types_pb2.Cluster))
            return answer

    def _node_summary(self, node: Node) -> Any:
        tasks = [t for t in self.all(Task) if t.node_id == node.id and lifecycle.occupies(t)]
        return wire.NodeSummary(
            node=codec.to_wire(node, types_pb2.Node),
            manager_id=self.all(Manager)[0].id,
            reserved=types_pb2.Resources(cpu_nanos=500_000_000, memory_bytes=256 * 2**20),
            tasks_running=len(tasks),
            tasks_total=len(tasks),
            usage=self._usage(node),
            heard_seconds_ago=0.4,
        )

    def _usage(self, node: Node) -> types_pb2.NodeUsage:
        tasks = [t for t in self.all(Task) if t.node_id == node.id and lifecycle.occupies(t)]
        return types_pb2.NodeUsage(
            node_id=node.id,
            cpu_nanos=250_000_000,
            memory_bytes=512 * 2**20,
            measured_at=NOW,
            tasks=[
                types_pb2.TaskUsage(task_id=t.id, cpu_nanos=10_000_000, memory_bytes=2**20)
                for t in tasks
            ],
        )

    def ListNodes(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ListNodes", context):
            return wire.ListNodesResponse(nodes=map(self._node_summary, self.all(Node)))

    def GetNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("GetNode", context):
            return wire.GetNodeResponse(node=self._node_summary(self.node(request.node)))

    def UpdateNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("UpdateNode", context):
            old = self.node(request.node)
            labels = {k: v for k, v in old.spec.labels.items() if k not in request.remove_labels}
            spec = replace(old.spec, labels=labels | dict(request.set_labels))
            if request.availability:
                name = types_pb2.Availability.Name(request.availability)
                spec = replace(spec, availability=Availability[name.removeprefix("AVAILABILITY_")])
            if request.HasField("task_slots"):
                spec = replace(spec, task_slots=request.task_slots)
            reserved = {*spec.reserved_for, *request.reserve_for} - {*request.unreserve_for}
            volumes = {*spec.volumes, *request.add_volumes} - {*request.remove_volumes}
            spec = replace(
                spec, reserved_for=tuple(sorted(reserved)), volumes=tuple(sorted(volumes))
            )
            new = self.put(replace(old, spec=spec)) if spec != old.spec else old
            return wire.UpdateNodeResponse(node=codec.to_wire(new, types_pb2.Node))

    def RemoveNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("RemoveNode", context):
            self.drop(self.node(request.node))
            return wire.RemoveNodeResponse()

    def GetUsage(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("GetUsage", context):
            return wire.GetUsageResponse(
                nodes=[
                    wire.HeardUsage(usage=self._usage(node), heard_seconds_ago=0.4)
                    for node in self.all(Node)
                ]
            )

    def _service_summary(self, service: Service) -> Any:
        running = [
            task
            for task in self.tasks_of(service)
            if lifecycle.wanted(task) and task.status.state is TaskState.RUNNING
        ]
        current = [task for task in running if task.spec_version == service.spec_version]
        summary = wire.ServiceSummary(
            service=codec.to_wire(service, types_pb2.Service),
            tasks_desired=service.spec.replicas,
            tasks_running=len(running),
            tasks_current=len(current),
        )
        rollout = self.objects.get(("Rollout", service.id))
        if rollout is not None:
            summary.rollout.CopyFrom(codec.to_wire(rollout, types_pb2.Rollout))
        job = self.objects.get(("JobStatus", service.id))
        if job is not None:
            summary.job.CopyFrom(codec.to_wire(job, types_pb2.JobStatus))
        return summary

    def CreateService(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("CreateService", context):
            service = self.add_service(codec.from_wire(request.spec, ServiceSpec))
            return wire.CreateServiceResponse(service=codec.to_wire(service, types_pb2.Service))

    def ListServices(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ListServices", context):
            if request.stack:
                self.stack(request.stack)
            return wire.ListServicesResponse(
                services=[
                    self._service_summary(each)
                    for each in self.all(Service)
                    if request.stack in ("", each.spec.stack)
                ]
            )

    def GetService(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("GetService", context):
            return wire.GetServiceResponse(
                service=self._service_summary(self.service(request.service))
            )

    def UpdateService(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("UpdateService", context):
            old = self.service(request.service)
            if old.version != request.version:
                raise ConflictError(
                    f"service '{old.spec.name}' has changed: replicas (3, now {old.spec.replicas})"
                )
            new = self.change_service(old, codec.from_wire(request.spec, ServiceSpec))
            return wire.UpdateServiceResponse(service=codec.to_wire(new, types_pb2.Service))

    def ScaleServices(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ScaleServices", context):
            found = [(self.service(name), count) for name, count in request.replicas.items()]
            services = [
                self.change_service(each, replace(each.spec, replicas=count))
                for each, count in found
            ]
            return wire.ScaleServicesResponse(
                services=[codec.to_wire(each, types_pb2.Service) for each in services]
            )

    def RunJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("RunJob", context):
            service = self.service(request.service)
            asked: Service = self.put(replace(service, run_requests=service.run_requests + 1))
            return wire.RunJobResponse(service=codec.to_wire(asked, types_pb2.Service))

    def SuspendJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("SuspendJob", context):
            service = self.service(request.service)
            if service.suspended is not request.suspended:
                service = self.put(replace(service, suspended=request.suspended))
            return wire.SuspendJobResponse(service=codec.to_wire(service, types_pb2.Service))

    def RemoveServices(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("RemoveServices", context):
            for service in [self.service(each) for each in request.services]:
                self.drop(service)
            return wire.RemoveServicesResponse()

    def versions_of(self, service: Service) -> dict[int, ServiceVersion]:
        found = [each for each in self.all(ServiceVersion) if each.service_id == service.id]
        return {each.number: each for each in found}

    def ListVersions(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ListVersions", context):
            service = self.service(request.service)
            return wire.ListVersionsResponse(
                service=self._service_summary(service),
                versions=[
                    codec.to_wire(version, types_pb2.ServiceVersion)
                    for _, version in sorted(self.versions_of(service).items())
                ],
            )

    def RollbackServices(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("RollbackServices", context):
            done = [self._back(self.service(wish.service), wish.to) for wish in request.wishes]
            return wire.RollbackServicesResponse(services=done)

    def RollbackStack(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("RollbackStack", context):
            self.stack(request.stack)
            members = [each for each in self.all(Service) if each.spec.stack == request.stack]
            done = [self._back(each, 0) for each in members]
            return wire.RollbackServicesResponse(services=done)

    def _back(self, service: Service, to: int) -> Any:
        versions = self.versions_of(service)
        to = to or service.spec_version - 1
        if to and to not in versions:
            raise NotFoundError(f"version {to} of service '{service.spec.name}' never was")
        new = self.change_service(service, versions[to].spec) if to else service
        return wire.RolledBackService(service=codec.to_wire(new, types_pb2.Service), to=to)

    def SteerRollout(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("SteerRollout", context):
            service = self.service(request.service)
            changes: dict[int, dict[str, Any]] = {
                wire.ROLLOUT_ACTION_PROMOTE: {"promoted_version": service.spec_version},
                wire.ROLLOUT_ACTION_PAUSE: {"paused": True},
                wire.ROLLOUT_ACTION_RESUME: {"paused": False, "resumed_at": NOW},
            }
            new = self.put(replace(service, **changes[request.action]))
            return wire.SteerRolloutResponse(service=codec.to_wire(new, types_pb2.Service))

    def _task_summary(self, task: Task) -> Any:
        service = self.objects.get(("Service", task.service_id))
        node = self.objects.get(("Node", task.node_id))
        return wire.TaskSummary(
            task=codec.to_wire(task, types_pb2.Task),
            service_name=service.spec.name if isinstance(service, Service) else "",
            node_hostname=node.description.hostname if isinstance(node, Node) else "",
            image=service.spec.task.container.image if isinstance(service, Service) else "",
        )

    def ListTasks(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ListTasks", context):
            tasks = self.all(Task)
            if request.service:
                tasks = self.tasks_of(self.service(request.service))
            if request.node:
                node = self.node(request.node)
                tasks = [task for task in tasks if task.node_id == node.id]
            if request.stack:
                ids = {s.id for s in self.all(Service) if s.spec.stack == request.stack}
                tasks = [task for task in tasks if task.service_id in ids]
            if not request.all:
                tasks = [task for task in tasks if lifecycle.wanted(task)]
            return wire.ListTasksResponse(tasks=map(self._task_summary, tasks))

    def _task(self, reference: str) -> Task:
        task: Task = self._find(Task, reference, lambda each: each.id, "task")
        return task

    def GetTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("GetTask", context):
            task = self._task(request.task)
            spec = self.service(task.service_id).spec.task
            return wire.GetTaskResponse(
                task=self._task_summary(task), spec=codec.to_wire(spec, types_pb2.TaskSpec)
            )

    def ExplainTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ExplainTask", context):
            task = self._task(request.task)
            return wire.ExplainTaskResponse(
                task=self._task_summary(task),
                summary="waits for a node",
                verdicts=self.verdicts,
                **self.explained,
            )

    def WhatIf(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("WhatIf", context):
            self.imagined = request
            return self.outlook

    def stack(self, name: str) -> Stack:
        stack: Stack = self._find(Stack, name, lambda each: each.name, "stack")
        return stack

    def DeployStack(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("DeployStack", context):
            if request.HasField("pinned"):
                self.pinned.append(request.pinned)
            specs = [codec.from_wire(each, ServiceSpec) for each in request.services]
            known = {each.spec.name: each for each in self.all(Service)}
            for spec in specs:
                other = known.get(spec.name)
                if other is not None and other.spec.stack != request.name:
                    raise ExistsError(f"the name '{spec.name}' is in use")
            if all(stack.name != request.name for stack in self.all(Stack)):
                stack_id = StackId(long_id("stack", self._number()))
                self.put(Stack(id=stack_id, name=request.name, created_at=NOW, updated_at=NOW))
            done = []
            for spec in specs:
                old = known.pop(spec.name, None)
                if old is None:
                    done.append((self.add_service(spec), wire.DEPLOY_ACTION_CREATED))
                    continue
                new = self.change_service(old, spec)
                unchanged = new is old
                done.append(
                    (
                        new,
                        wire.DEPLOY_ACTION_UNCHANGED if unchanged else wire.DEPLOY_ACTION_UPDATED,
                    )
                )
            left = [each for each in known.values() if each.spec.stack == request.name]
            if request.prune:
                for each in left:
                    self.drop(each)
                    done.append((each, wire.DEPLOY_ACTION_REMOVED))
            return wire.DeployStackResponse(
                services=[
                    wire.DeployedService(
                        service=codec.to_wire(service, types_pb2.Service), action=action
                    )
                    for service, action in done
                ],
                revision=self.revision,
                left_over=[] if request.prune else [each.spec.name for each in left],
            )

    def Plan(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("Plan", context):
            self.trials += request.requests
            return self.planned

    def ListStacks(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("ListStacks", context):
            summaries = []
            for stack in self.all(Stack):
                services = [s for s in self.all(Service) if s.spec.stack == stack.name]
                summaries.append(
                    wire.StackSummary(
                        stack=codec.to_wire(stack, types_pb2.Stack),
                        services=len(services),
                        tasks_desired=sum(each.spec.replicas for each in services),
                        tasks_running=sum(len(self.tasks_of(each)) for each in services),
                    )
                )
            return wire.ListStacksResponse(stacks=summaries)

    def RemoveStack(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("RemoveStack", context):
            stack = self.stack(request.stack)
            services = [s for s in self.all(Service) if s.spec.stack == stack.name]
            for service in services:
                self.drop(service)
            self.drop(stack)
            return wire.RemoveStackResponse(services=[each.spec.name for each in services])

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        with self._answering("Watch", context):
            pass
        with self._changed:
            told = len(self.history)
            everything = [(False, value) for value in self.objects.values()]
            revision = self.revision
        half = len(everything) // 2  # in two parts, as a large snapshot comes
        yield _message(0, True, everything[:half], request.kinds)
        yield _message(revision, False, everything[half:], request.kinds)
        while not self._stopping.is_set() and context.is_active():
            with self._changed:
                if len(self.history) == told:
                    self._changed.wait(0.1)
                news = self.history[told:]
                told += len(news)
            for revision, removed, value in news:
                yield _message(revision, False, [(removed, value)], request.kinds)

    def StreamEvents(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """Tell events one by one; filters are the managers' business and tested there."""
        with self._answering("StreamEvents", context):
            pass
        told, tail = request.after_revision, request.tail
        while context.is_active() and not self._stopping.is_set():
            known = [each for each in self.events if each.revision > told]
            for each in known[max(0, len(known) - tail) if tail >= 0 else 0 :]:
                yield wire.StreamEventsMessage(
                    events=[codec.to_wire(each, types_pb2.Event)], revision=each.revision
                )
                if self.streams_cut:
                    self.streams_cut -= 1
                    context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            told, tail = max([told, *(each.revision for each in known)]), -1
            if not request.follow:
                return
            with self._changed:
                self._changed.wait(0.1)

    def happen(self, kind: str, event: str, **more: Any) -> Event:
        """Let the journal have an event."""
        with self._changed:
            self.revision += 1
            happened = Event(at=NOW, kind=kind, event=event, revision=self.revision, **more)
            self.events.append(happened)
            self._changed.notify_all()
            return happened

    def GetTaskStory(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answering("GetTaskStory", context):
            mine = [each for each in self.events if each.id.startswith(request.task)]
            if not mine:
                raise NotFoundError(f"no task '{request.task}'")
            asked = mine[0].request_id
            others = [e for e in self.events if e.request_id == asked and e.kind != "task"]
            return wire.GetTaskStoryResponse(
                request_id=asked,
                request=[codec.to_wire(each, types_pb2.Event) for each in others],
                events=[codec.to_wire(each, types_pb2.Event) for each in mine],
                explanation="is running on node 'node1'",
            )

    def StreamLogs(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        with self._answering("StreamLogs", context):
            pass
        yield from self.logs

    def log(self, task: Task, text: str, *, at: float = NOW, error: bool = False) -> None:
        """Let the next readers of logs get a line."""
        stream = LogStream.LOG_STREAM_STDERR if error else LogStream.LOG_STREAM_STDOUT
        entry = LogEntry(task_id=task.id, stream=stream, at=at, line=text.encode())
        self.logs.append(wire.StreamLogsMessage(tasks=[self._task_summary(task)], entries=[entry]))


def _key(value: Object) -> tuple[str, str]:
    if isinstance(value, ServiceVersion):
        return "ServiceVersion", f"{value.service_id}/{value.number}"
    if isinstance(value, Rollout):
        return "Rollout", value.service_id
    if isinstance(value, JobStatus):
        return "JobStatus", value.service_id
    return type(value).__name__, value.id  # type: ignore[attr-defined]


def _message(
    revision: int, snapshot: bool, values: list[tuple[bool, Object]], kinds: Any
) -> wire.WatchMessage:
    events = []
    for removed, value in values:
        kind = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(value).__name__)[1:]
        if kinds and kind not in kinds:
            continue
        message = codec.to_wire(value, getattr(types_pb2, type(value).__name__))
        holder = wire.AnyObject(**{kind: message})
        events.append(wire.WatchEvent(removed=removed, object=holder))
    return wire.WatchMessage(revision=revision, snapshot=snapshot, events=events)
