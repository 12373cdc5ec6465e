"""What befalls a simulated cluster: a list of incidents, drawn from a seed or read from a file.

An incident is plain data, so a list can be printed, kept as a regression test, and shortened.
Those that last end by themselves after ``seconds``, or when the world is healed.
"""

import random
from collections.abc import Callable, Sequence

import msgspec

from tests.simulator.equipment import Equipment
from tests.simulator.workload import (
    REPLICAS_MAX,
    SERVICES,
    TICKS,
    ZONES,
    Wish,
    drawn,
    drawn_shop,
    drawn_tick,
    service_name,
    tick_name,
)

Params = dict[str, int | float | str | bool]


class Incident(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something happens to something at a time.

    Attributes:
        at: true seconds since the storm's beginning.
        kind: the name of a method of ``faults.Faults``; "ask": an operator asks for something.
        target: host, or "leader".
        seconds: how long it lasts; 0: it does not.
        params: what else the kind wants to know.
        what, wishes: of an operator: which request, and the services in it.
    """

    at: float
    kind: str
    target: str = ""
    seconds: float = 0.0
    params: Params = {}
    what: str = ""
    wishes: tuple[Wish, ...] = ()

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        more = "".join(f" {key}={value}" for key, value in self.params.items())
        wishes = "".join(f" {wish.name}" for wish in self.wishes)
        return f"{self.at:10.3f}  {self.kind} {self.what or self.target}{more}{wishes}{lasting}"


# Of the names that operators give to stacks and the services in them.
STACKS = 2
STACK_SERVICES = 4
THIN = "thin"  # a service on as many nodes as may be
SHOP = "shop"  # the stack whose services depend on each other


Draw = Callable[["Drawer"], "Incident | Sequence[Incident]"]


class Drawer:
    """Draws incidents for a cluster of these hosts."""

    def __init__(
        self,
        source: random.Random,
        equipment: Equipment,
        managers: Sequence[str],
        agents: Sequence[str],
    ) -> None:
        self.source = source
        self.equipment = equipment
        self.managers = managers
        self.agents = agents
        self.at = 0.0
        self._updates = 0

    def storm(self, seconds: float, every_seconds: float) -> list[Incident]:
        """Return a storm of that length: an incident in so many seconds on average."""
        incidents: list[Incident] = []
        self.at = 0.0
        draws, weights = [draw for draw, _ in KINDS], [weight for _, weight in KINDS]
        while True:
            self.at += self.source.expovariate(1 / every_seconds)
            if self.at >= seconds:
                return incidents
            (draw,) = self.source.choices(draws, weights)
            drawn = draw(self)
            incidents += [drawn] if isinstance(drawn, Incident) else drawn
            changes = self.equipment.changes(self.agents)
            incidents += [self.ask(what, **params) for what, params in changes]

    def make(
        self,
        kind: str,
        target: str,
        longest: float = 0.0,
        *,
        seconds: float = 0.0,
        **params: object,
    ) -> Incident:
        """Return an incident that lasts *seconds*; or most a moment, some as long as *longest*."""
        if longest:
            seconds = longest * self.source.random() ** 2 + 0.05
        return Incident(
            at=round(self.at, 3),
            kind=kind,
            target=target,
            seconds=round(seconds, 3),
            params=params,  # type: ignore[arg-type]
        )

    def ask(self, what: str, *wishes: Wish, **params: object) -> Incident:
        return Incident(
            at=round(self.at, 3),
            kind="ask",
            what=what,
            wishes=wishes,
            params=params,  # type: ignore[arg-type]
        )

    # --- whom ---

    def manager(self) -> str:
        return "leader" if self.source.random() < 0.5 else self.source.choice(self.managers)

    def agent(self) -> str:
        return self.source.choice(self.agents)

    def name(self) -> str:
        return service_name(self.source.randrange(SERVICES))

    def updated(self, wish: Wish) -> Wish:
        self._updates += 1
        return msgspec.structs.replace(wish, number=self._updates)

    def service(self, name: str, *, stack: str = "") -> Wish:
        return self.updated(self.equipment.used_by(drawn(self.source, name, stack=stack)))


# --- managers -------------------------------------------------------------------------------------


def kill_manager(draw: Drawer) -> Incident:
    return draw.make("kill", draw.manager(), 30.0)


def kill_manager_in_mid_step(draw: Drawer) -> Incident:
    steps = round(10 ** draw.source.uniform(0, 4))
    return draw.make("kill_after_steps", draw.manager(), 20.0, steps=steps)


def kill_manager_at_a_write(draw: Drawer) -> Incident:
    return draw.make("kill_at_leg", draw.manager(), 20.0, legs=draw.source.randint(1, 30))


def pause_manager(draw: Drawer) -> Incident:
    return draw.make("pause", draw.manager(), 30.0)


def pause_manager_at_a_write(draw: Drawer) -> Incident:
    return draw.make("pause_at_leg", draw.manager(), 20.0, legs=draw.source.randint(1, 30))


def stop_manager(draw: Drawer) -> Incident:
    return draw.make("stop", draw.manager())


# --- agents, hosts, engines -----------------------------------------------------------------------


def kill_agent(draw: Drawer) -> Incident:
    return draw.make("kill", draw.agent(), 60.0)


def kill_agent_in_mid_step(draw: Drawer) -> Incident:
    steps = round(10 ** draw.source.uniform(0, 3))
    return draw.make("kill_after_steps", draw.agent(), 5.0, steps=steps)


def pause_agent(draw: Drawer) -> Incident:
    return draw.make("pause", draw.agent(), 60.0)


def lose_power(draw: Drawer) -> Incident:
    return draw.make("power_off", draw.agent(), 120.0)


def lose_power_at_many(draw: Drawer) -> Incident:
    return draw.make("power_off_many", "agents", 60.0, share=round(draw.source.random(), 2))


def crash_engine(draw: Drawer) -> Incident:
    keeps = draw.source.random() < 0.5
    return draw.make("engine_crash", draw.agent(), 60.0, keeps=keeps)


def hang_engine(draw: Drawer) -> Incident:
    return draw.make("engine_hang", draw.agent(), 60.0)


def fail_engine(draw: Drawer) -> Incident:
    call = draw.source.choice(("*", "create", "start", "stop", "remove", "list", "inspect", "pull"))
    return draw.make(
        "engine_fails", draw.agent(), 60.0, call=call, times=draw.source.randint(1, 12)
    )


def slow_engine(draw: Drawer) -> Incident:
    return draw.make("engine_slow", draw.agent(), 60.0, by=round(draw.source.uniform(0.1, 5.0), 2))


def slow_pulls(draw: Drawer) -> Incident:
    seconds = draw.source.choice((5.0, 60.0, 1e9))
    return draw.make("slow_pulls", draw.agent(), 120.0, pull_seconds=seconds)


def fill_disk(draw: Drawer) -> Incident:
    return draw.make("disk_full", draw.agent(), 60.0)


def delay_hints(draw: Drawer) -> Incident:
    return draw.make("late_hints", draw.agent(), 120.0, by=round(draw.source.uniform(0.5, 15.0), 2))


def hurt_container(draw: Drawer) -> Incident:
    how = draw.source.choice(
        ("crash", "crash", "exit", "oom", "ill", "stop_by_hand", "remove_by_hand", "lose")
    )
    return draw.make("container", draw.agent(), how=how, nth=draw.source.randrange(8))


# --- links and the store --------------------------------------------------------------------------


def cut_link(draw: Drawer) -> Incident:
    way = draw.source.choice(("both", "both", "to", "from"))
    return draw.make("cut", draw.agent(), 60.0, other=draw.source.choice(draw.managers), way=way)


def cut_off_host(draw: Drawer) -> Incident:
    return draw.make("isolate", draw.agent(), 90.0)


def cut_off_manager(draw: Drawer) -> Incident:
    return draw.make("isolate", draw.manager(), 45.0)


def slow_link(draw: Drawer) -> Incident:
    by = round(draw.source.uniform(0.1, 3.0), 2)
    return draw.make("slow", draw.agent(), 60.0, other=draw.source.choice(draw.managers), by=by)


def lose_store(draw: Drawer) -> Incident:
    return draw.make("store_away", "store", 30.0)


def hinder_store(draw: Drawer) -> Incident:
    how = draw.source.choice(("cut", "deaf", "slow", *3 * ("ghost",), *2 * ("lag",)))
    by = round(draw.source.uniform(0.1, 30.0 if how in ("ghost", "lag") else 1.5), 2)
    return draw.make("store_link", draw.manager(), 60.0, how=how, by=by)


def miss_history(draw: Drawer) -> Incident:
    """Cut a manager off while the others write what it cannot read again: it has to list."""
    manager = draw.source.choice(draw.managers)
    seconds = draw.source.uniform(5.0, 45.0)
    return draw.make("store_link", manager, seconds=seconds, how="behind", by=0.0)


def act_behind_the_leader(draw: Drawer) -> Sequence[Incident]:
    """Let the leader hear of tasks to be placed before it hears what became of the nodes."""
    by = round(draw.source.uniform(2.0, 10.0), 2)
    found = [draw.ask("remove", name=THIN)]  # so that all its tasks are to be placed
    draw.at += 1.0
    found.append(draw.make("store_link", "leader", seconds=2 * by, how="lag", by=by))
    for ask in (want_thin, *3 * (set_node, label_node)):
        draw.at += draw.source.uniform(0.0, by / 8)
        found.append(ask(draw))
    return found


def compact(draw: Drawer) -> Incident:
    return draw.make("compact", "store")


# --- clocks ---------------------------------------------------------------------------------------


def jump_clock(draw: Drawer) -> Incident:
    host = draw.manager() if draw.source.random() < 0.5 else draw.agent()
    by = draw.source.choice((-3600.0, 3600.0, -30.0, 30.0, -1.0, 1.0))
    return draw.make("clock_jump", host, 300.0, by=by)


# --- operators ------------------------------------------------------------------------------------


def want_service(draw: Drawer) -> Incident:
    return draw.ask("want", draw.service(draw.name()))


def want_thin(draw: Drawer) -> Incident:
    return draw.ask("want", draw.updated(Wish(name=THIN, replicas=REPLICAS_MAX, per_node=1)))


def scale_service(draw: Drawer) -> Incident:
    return draw.ask("scale", name=draw.name(), replicas=draw.source.randint(0, 12))


def remove_service(draw: Drawer) -> Incident:
    return draw.ask("remove", name=draw.name())


def steer_rollout(draw: Drawer) -> Incident:
    action = draw.source.choice(("pause", "resume", "promote", "rollback"))
    if action == "rollback":
        return draw.ask("rollback", name=draw.name())
    return draw.ask("steer", name=draw.name(), action=action)


def deploy_stack(draw: Drawer) -> Incident:
    stack = f"k{draw.source.randrange(STACKS)}"
    names = [f"c{number}" for number in range(STACK_SERVICES) if draw.source.random() < 0.7]
    wishes = [draw.service(name, stack=stack) for name in names]
    return draw.ask("deploy", *wishes, stack=stack, prune=draw.source.random() < 0.5)


def remove_stack(draw: Drawer) -> Incident:
    return draw.ask("remove_stack", stack=f"k{draw.source.randrange(STACKS)}")


def deploy_shop(draw: Drawer) -> Incident:
    wishes = drawn_shop(draw.source, SHOP)
    changes = [draw.updated(wish) if draw.source.random() < 0.7 else wish for wish in wishes]
    return draw.ask("deploy", *changes, stack=SHOP, prune=False)


def run_job(draw: Drawer) -> Incident:
    return draw.ask("run_job", name=f"{SHOP}_migrate")


def want_tick(draw: Drawer) -> Incident:
    return draw.ask("want", draw.updated(drawn_tick(draw.source)))


def steer_tick(draw: Drawer) -> Incident:
    name = tick_name(draw.source.choice(TICKS))
    what = draw.source.choice(("run_job", "suspend", "suspend", "remove"))
    if what == "suspend":
        return draw.ask(what, name=name, suspended=draw.source.random() < 0.3)
    return draw.ask(what, name=name)


def remove_shop(draw: Drawer) -> Incident:
    return draw.ask("remove_stack", stack=SHOP)


def set_node(draw: Drawer) -> Incident:
    availability = draw.source.choice(("active", "active", "drain", "pause"))
    deadline = draw.source.choice((0.0, 0.0, 20.0)) if availability == "drain" else 0.0
    return draw.ask("set_node", node=draw.agent(), availability=availability, deadline=deadline)


def limit_node(draw: Drawer) -> Incident:
    return draw.ask("limit_node", node=draw.agent(), slots=draw.source.choice((0, 0, 1, 3)))


def label_node(draw: Drawer) -> Incident:
    return draw.ask("label_node", node=draw.agent(), zone=draw.source.choice(ZONES))


def remove_node(draw: Drawer) -> Incident:
    return draw.ask("remove_node", node=draw.agent(), force=draw.source.random() < 0.8)


def rebalance(draw: Drawer) -> Incident:
    return draw.ask("rebalance", moves=draw.source.randint(1, 12))


# How often each kind comes, against the others.
KINDS: Sequence[tuple[Draw, float]] = (
    (kill_manager, 4),
    (kill_manager_in_mid_step, 3),
    (kill_manager_at_a_write, 5),
    (pause_manager, 4),
    (pause_manager_at_a_write, 4),
    (stop_manager, 2),
    (kill_agent, 4),
    (kill_agent_in_mid_step, 4),
    (pause_agent, 3),
    (lose_power, 3),
    (lose_power_at_many, 0.5),
    (crash_engine, 3),
    (hang_engine, 2),
    (fail_engine, 4),
    (slow_engine, 2),
    (slow_pulls, 2),
    (fill_disk, 1),
    (delay_hints, 1),
    (hurt_container, 10),
    (cut_link, 5),
    (cut_off_host, 3),
    (cut_off_manager, 3),
    (slow_link, 3),
    (lose_store, 2),
    (hinder_store, 9),
    (miss_history, 5),
    (act_behind_the_leader, 1.5),
    (compact, 2),
    (jump_clock, 3),
    (want_service, 7),
    (scale_service, 7),
    (remove_service, 2),
    (steer_rollout, 6),
    (deploy_stack, 3),
    (remove_stack, 1),
    (deploy_shop, 4),
    (run_job, 1.5),
    (remove_shop, 0.7),
    (want_tick, 3),
    (steer_tick, 3),
    (set_node, 5),
    (label_node, 2),
    (limit_node, 1.5),
    (remove_node, 1.5),
    (rebalance, 3),
)
