"""The Control API as plain methods: values in, values out. Messages stop here."""

from collections.abc import Iterable, Mapping

from cluster import codec
from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.model import Cluster, ClusterSpec, Node, Service, ServiceSpec
from clusterctl import asked, trials
from clusterctl.answers import (
    ClusterInfo,
    Deployment,
    Explanation,
    HeardUsage,
    MovesAnswer,
    NodeSummary,
    Outlook,
    Plan,
    RolledBack,
    ServiceSummary,
    StackSummary,
    TaskDetails,
    TaskStory,
    TaskSummary,
    Versions,
    read,
)
from clusterctl.calls import Caller


class Client:
    """What a cluster can be asked; every method may raise a ``ClusterError``."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    # --- the cluster ---

    def cluster_info(self) -> ClusterInfo:
        return read(self.caller.call("GetClusterInfo", wire.GetClusterInfoRequest()), ClusterInfo)

    def update_cluster(self, version: int, spec: ClusterSpec) -> Cluster:
        """Replace the settings that had *version*."""
        request = wire.UpdateClusterRequest(
            version=version, spec=codec.to_wire(spec, types_pb2.ClusterSpec)
        )
        answer = self.caller.call("UpdateCluster", request, repeatable=False)
        return read(answer.cluster, Cluster)

    def rebalance(self, *, max_moves: int, plan: bool) -> MovesAnswer:
        """Tell which moves would pay (0: as many as usual), or have them made.

        The latter is not sent twice: while moves are to be made, no others can be asked for.
        """
        request = wire.RebalanceRequest(max_moves=max_moves, plan=plan)
        return read(self.caller.call("Rebalance", request, repeatable=plan), MovesAnswer)

    # --- nodes ---

    def nodes(self) -> list[NodeSummary]:
        answer = self.caller.call("ListNodes", wire.ListNodesRequest())
        return [read(node, NodeSummary) for node in answer.nodes]

    def node(self, reference: str) -> NodeSummary:
        return read(
            self.caller.call("GetNode", wire.GetNodeRequest(node=reference)).node, NodeSummary
        )

    def update_node(self, request: wire.UpdateNodeRequest) -> Node:
        return read(self.caller.call("UpdateNode", request).node, Node)

    def remove_node(self, reference: str, *, force: bool) -> None:
        request = wire.RemoveNodeRequest(node=reference, force=force)
        self.caller.call("RemoveNode", request, removes=True)

    def usage(self) -> list[HeardUsage]:
        answer = self.caller.call("GetUsage", wire.GetUsageRequest())
        return [read(usage, HeardUsage) for usage in answer.nodes]

    # --- services ---

    def services(self, stack: str = "") -> list[ServiceSummary]:
        answer = self.caller.call("ListServices", wire.ListServicesRequest(stack=stack))
        return [read(service, ServiceSummary) for service in answer.services]

    def service(self, reference: str) -> ServiceSummary:
        answer = self.caller.call("GetService", wire.GetServiceRequest(service=reference))
        return read(answer.service, ServiceSummary)

    def update_service(self, reference: str, version: int, spec: ServiceSpec) -> Service:
        """Replace the spec that had *version*; guarded by it, so sent again if need be.

        Raises:
            ConflictError: the service has another version. After a failure in between that may be
                our own doing: compare.
        """
        request = wire.UpdateServiceRequest(
            service=reference, version=version, spec=codec.to_wire(spec, types_pb2.ServiceSpec)
        )
        return read(self.caller.call("UpdateService", request).service, Service)

    def scale_services(self, replicas: Mapping[str, int]) -> list[Service]:
        answer = self.caller.call("ScaleServices", wire.ScaleServicesRequest(replicas=replicas))
        return [read(service, Service) for service in answer.services]

    def run_job(self, reference: str) -> Service:
        """Ask for a run of a job; not sent twice, for that would be two."""
        request = wire.RunJobRequest(service=reference)
        return read(self.caller.call("RunJob", request, repeatable=False).service, Service)

    def suspend_job(self, reference: str, *, suspended: bool) -> Service:
        request = wire.SuspendJobRequest(service=reference, suspended=suspended)
        return read(self.caller.call("SuspendJob", request).service, Service)

    def remove_services(self, references: Iterable[str]) -> None:
        request = wire.RemoveServicesRequest(services=references)
        self.caller.call("RemoveServices", request, removes=True)

    # --- versions and rollouts ---

    def versions(self, reference: str) -> Versions:
        answer = self.caller.call("ListVersions", wire.ListVersionsRequest(service=reference))
        return read(answer, Versions)

    def rollback_services(self, wishes: Mapping[str, int]) -> list[RolledBack]:
        """Give services earlier specs again; 0 is the last that ran well."""
        request = asked.rollback_services(wishes)
        answer = self.caller.call("RollbackServices", request, repeatable=False)
        return [read(each, RolledBack) for each in answer.services]

    def rollback_stack(self, reference: str) -> list[RolledBack]:
        request = wire.RollbackStackRequest(stack=reference)
        answer = self.caller.call("RollbackStack", request, repeatable=False)
        return [read(each, RolledBack) for each in answer.services]

    def steer_rollout(self, reference: str, action: str) -> Service:
        """Say "promote", "pause" or "resume"."""
        request = asked.steer_rollout(reference, action)
        answer = self.caller.call("SteerRollout", request, repeatable=False)
        return read(answer.service, Service)

    # --- tasks ---

    def tasks(
        self, *, service: str = "", node: str = "", stack: str = "", ended: bool = False
    ) -> list[TaskSummary]:
        """List tasks; with *ended* also those that are meant to have ended."""
        request = wire.ListTasksRequest(service=service, node=node, stack=stack, all=ended)
        answer = self.caller.call("ListTasks", request)
        return [read(task, TaskSummary) for task in answer.tasks]

    def task(self, reference: str) -> TaskDetails:
        return read(self.caller.call("GetTask", wire.GetTaskRequest(task=reference)), TaskDetails)

    def explain(self, reference: str) -> Explanation:
        answer = self.caller.call("ExplainTask", wire.ExplainTaskRequest(task=reference))
        return read(answer, Explanation)

    def story(self, reference: str) -> TaskStory:
        """Tell a task's history; of one that is gone by its id."""
        request = wire.GetTaskStoryRequest(task=reference)
        return read(self.caller.call("GetTaskStory", request), TaskStory)

    def what_if(
        self,
        *,
        lose_nodes: Iterable[str] = (),
        lose_where: Iterable[str] = (),
        drain_nodes: Iterable[str] = (),
        scale: Mapping[str, int] | None = None,
        stack: str = "",
        services: Iterable[ServiceSpec] = (),
        headroom: Iterable[str] = (),
        spare: bool = False,
    ) -> Outlook:
        """Tell what the scheduler would do; see the message for what can be imagined."""
        request = wire.WhatIfRequest(
            lose_nodes=lose_nodes,
            lose_where=lose_where,
            drain_nodes=drain_nodes,
            scale=scale,
            stack=stack,
            services=[codec.to_wire(spec, types_pb2.ServiceSpec) for spec in services],
            headroom=headroom,
            spare=spare,
        )
        return read(self.caller.call("WhatIf", request), Outlook)

    # --- stacks ---

    def deploy(
        self,
        name: str,
        services: Iterable[ServiceSpec],
        *,
        prune: bool,
        pinned: wire.PinnedPlan | None = None,
    ) -> Deployment:
        """Deploy a stack; exactly as it was *pinned*, or not at all, if it was."""
        request = trials.deploy(name, services, prune=prune).deploy_stack
        if pinned is not None:
            request.pinned.CopyFrom(pinned)
        # A pinned deploy that is sent again would refuse what it has itself done.
        answer = self.caller.call("DeployStack", request, repeatable=pinned is None)
        return read(answer, Deployment)

    def plan(self, *requests: wire.TrialRequest) -> Plan:
        """Tell what would come of requests, one after the other; changes nothing."""
        return read(self.caller.call("Plan", wire.PlanRequest(requests=requests)), Plan)

    def stacks(self) -> list[StackSummary]:
        answer = self.caller.call("ListStacks", wire.ListStacksRequest())
        return [read(stack, StackSummary) for stack in answer.stacks]

    def remove_stack(self, name: str) -> list[str]:
        """Remove a stack and return the names of its services, as far as they are known."""
        answer = self.caller.call("RemoveStack", wire.RemoveStackRequest(stack=name), removes=True)
        return list(answer.services) if answer is not None else []
