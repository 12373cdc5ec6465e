"""``scripts/simulate``: run seeds, replay one, shorten what breaks it."""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.simulator.incidents import Incident
from tests.simulator.mutations import MUTATIONS, Mutation, planted
from tests.simulator.shrink import shrunk
from tests.simulator.simulation import Outcome, Scale, draw, simulate

FAILURE, USAGE = 1, 2


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A run that can be repeated: what ``--save`` writes and ``--replay`` reads.

    Attributes:
        about: what it showed.
    """

    seed: int
    managers: int
    agents: int
    storms: list[list[Incident]]
    about: str = ""

    @property
    def scale(self) -> Scale:
        return Scale(managers=self.managers, agents=self.agents)


def main(arguments: Sequence[str]) -> int:
    asked = _parser().parse_args(arguments)
    if asked.replay:
        case = msgspec.json.decode(Path(asked.replay).read_bytes(), type=Case)
        return _one(case, asked)
    scale = Scale(managers=asked.managers, agents=asked.agents, hours=asked.hours)
    if asked.plant:
        return _planted(asked, scale)
    if asked.seed is not None and asked.runs == 1:
        return _one(_case(asked.seed, scale), asked)
    return _many(asked, scale)


def _case(seed: int, scale: Scale) -> Case:
    return Case(seed=seed, managers=scale.managers, agents=scale.agents, storms=draw(seed, scale))


def _one(case: Case, asked: argparse.Namespace) -> int:
    outcome, cpu_seconds = _timed(case, with_logs=asked.trace)
    if asked.trace:
        print(outcome.trace, end="")
    if outcome.breach is None:
        print(_summary(outcome, cpu_seconds))
        return 0
    if asked.shrink:
        storms = shrunk(case.seed, case.scale, case.storms, outcome.breach, say=_say)
        case = msgspec.structs.replace(case, storms=storms, about=str(outcome.breach))
        for incident in (each for storm in storms for each in storm):
            print(incident)
    _tell(case, outcome)
    if asked.save:
        about = msgspec.structs.replace(case, about=case.about or str(outcome.breach))
        Path(asked.save).write_bytes(msgspec.json.format(msgspec.json.encode(about)) + b"\n")
    return FAILURE


def _many(asked: argparse.Namespace, scale: Scale) -> int:
    first = random.SystemRandom().randrange(10**9) if asked.seed is None else asked.seed
    failed = 0
    simulated = cpu = 0.0
    for seed in range(first, first + asked.runs):
        case = _case(seed, scale)
        outcome, cpu_seconds = _timed(case, with_logs=False)
        simulated += outcome.seconds
        cpu += cpu_seconds
        print(_summary(outcome, cpu_seconds), flush=True)
        if outcome.breach is not None:
            failed += 1
            _tell(case, outcome)
    hours = simulated / 3600
    print(
        f"{hours:.1f} hours in {asked.runs} runs, {failed} failed; {60 * hours / cpu:.1f} hours a"
    )
    print("minute of one core")
    return FAILURE if failed else 0


def _planted(asked: argparse.Namespace, scale: Scale) -> int:
    """Plant bugs, one after the other, and see how soon each is found."""
    missed = 0
    for mutation in _chosen(asked.plant):
        first = mutation.seed if asked.seed is None else asked.seed
        hours = 0.0
        found = "NOT FOUND"
        for seed in range(first, first + asked.runs):
            with planted(mutation):
                outcome = simulate(seed, scale, with_trace=False)
            hours += outcome.seconds / 3600
            if outcome.breach is not None:
                found = f"{outcome.breach.invariant} by seed {seed}"
                break
        else:
            missed += 1
        print(f"{mutation.name:20} {found:20} {hours:6.2f} h  {mutation.about}", flush=True)
    return FAILURE if missed else 0


def _chosen(name: str) -> Sequence[Mutation]:
    chosen = [each for each in MUTATIONS if name in ("all", each.name)]
    if not chosen:
        names = ", ".join(each.name for each in MUTATIONS)
        raise SystemExit(f"no bug is called '{name}'; there are: {names}")
    return chosen


def _timed(case: Case, *, with_logs: bool) -> tuple[Outcome, float]:
    began_at = time.process_time()
    outcome = simulate(
        case.seed, case.scale, case.storms, with_trace=with_logs, with_logs=with_logs
    )
    return outcome, time.process_time() - began_at


def _tell(case: Case, outcome: Outcome) -> None:
    """Tell what broke, with what led to it: replayed once more, to have what programs logged."""
    again = simulate(case.seed, case.scale, case.storms, with_logs=True)
    breach = again.breach or outcome.breach
    print("\nthe story:")
    for event in again.story:
        print(f"  {event}")
    print(f"\nseed {case.seed} breaks {breach}")


def _summary(outcome: Outcome, cpu_seconds: float) -> str:
    rate = outcome.seconds / 60 / cpu_seconds
    an_hour = 3600 * outcome.incidents / outcome.seconds
    verdict = "ok" if outcome.breach is None else f"BREACH {outcome.breach.invariant}"
    return (
        f"seed {outcome.seed}: {verdict}; {outcome.seconds / 3600:.2f} h, {outcome.incidents}"
        f" incidents ({an_hour:.0f} an hour), {outcome.acknowledged} requests done,"
        f" {outcome.refused} refused, {outcome.commits} commits; slowest calm"
        f" {max(outcome.calms, default=0):.0f} s; {rate:.1f} h a minute"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first; otherwise any")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds, one after the other")
    parser.add_argument("--hours", type=float, default=1.0, help="simulated, of each run")
    parser.add_argument("--managers", type=int, default=3)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--shrink", action="store_true", help="find fewer incidents that break it")
    parser.add_argument("--save", help="write what breaks it to this file")
    parser.add_argument("--replay", help="run what was saved")
    parser.add_argument(
        "--plant", metavar="BUG", help="see in how long a planted bug is found; or all"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
