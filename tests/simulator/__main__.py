"""``scripts/simulate``: run seeds, replay one, shorten what breaks it."""

import argparse
import contextlib
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

FAILURE = 1

HOURS_MAX = 1_000.0

EXAMPLES = """
examples:
  scripts/simulate                          an hour of storms and calms, by a seed of its own
  scripts/simulate --runs 20                twenty of them
  scripts/simulate --seed 7 --trace         all that happens, with the programs' logs
  scripts/simulate --seed 7 --shrink --save case.json
                                            which incidents it takes to break a promise
  scripts/simulate --replay case.json       just those once more
  scripts/simulate --plant all --runs 10    how soon each planted bug is found

It ends with 0 if all promises are kept (or all planted bugs found), with 1 if not.
"""


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
    parser = _parser()
    asked = parser.parse_args(arguments)
    scale = Scale(managers=asked.managers, agents=asked.agents, hours=asked.hours)
    bugs = _chosen(parser, asked.plant) if asked.plant else ()
    one = _one_case(parser, asked, scale)
    if one is None:
        return _planted(bugs, asked, scale) if bugs else _many(asked, scale)
    if len(bugs) > 1:
        parser.error("one run has one bug: name it, or leave out what asks for one run")
    with contextlib.ExitStack() as stack:
        for bug in bugs:
            stack.enter_context(planted(bug))
        return _one(one, asked)


def _one_case(
    parser: argparse.ArgumentParser, asked: argparse.Namespace, scale: Scale
) -> Case | None:
    """Return the one run that is asked for; None if there are to be many."""
    if asked.replay:
        try:
            return msgspec.json.decode(Path(asked.replay).read_bytes(), type=Case)
        except (OSError, msgspec.DecodeError) as error:
            parser.error(f"cannot replay {asked.replay}: {error}")
    looks_close = asked.trace or asked.shrink or asked.save
    if looks_close and (asked.seed is None or asked.runs > 1):
        parser.error("--trace, --shrink and --save look at one run: say which by --seed")
    if asked.seed is None or asked.runs > 1 or (asked.plant and not looks_close):
        return None
    return _case(asked.seed, scale)


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
    rate = 60 * hours / cpu
    print(f"{hours:.1f} h in {asked.runs} runs, {failed} failed; {rate:.1f} h a minute of one core")
    return FAILURE if failed else 0


def _planted(bugs: Sequence[Mutation], asked: argparse.Namespace, scale: Scale) -> int:
    """Plant bugs, one after the other, and see how soon each is found."""
    missed = 0
    for mutation in bugs:
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


def _chosen(parser: argparse.ArgumentParser, name: str) -> Sequence[Mutation]:
    chosen = [each for each in MUTATIONS if name in ("all", each.name)]
    if not chosen:
        names = ", ".join(each.name for each in MUTATIONS)
        parser.error(f"no bug is called '{name}'; there are: {names}")
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
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Run whole clusters under faults; replay one run, shorten what breaks it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="the first; otherwise any")
    parser.add_argument(
        "--runs", type=_at_least_one, default=1, help="so many seeds, one after the other"
    )
    parser.add_argument("--hours", type=_hours, default=1.0, help="simulated, of each run")
    parser.add_argument("--managers", type=_at_least_one, default=3, help="3 if not told")
    parser.add_argument("--agents", type=_at_least_one, default=20, help="20 if not told")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--shrink", action="store_true", help="find fewer incidents that break it")
    parser.add_argument("--save", help="write what breaks it to this file")
    parser.add_argument("--replay", help="run what was saved")
    parser.add_argument(
        "--plant", metavar="BUG", help="see in how long a planted bug is found; or all"
    )
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= HOURS_MAX:
        raise argparse.ArgumentTypeError(f"'{text}' is not more than 0 and at most {HOURS_MAX:g}")
    return hours


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
