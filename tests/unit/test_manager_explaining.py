"""What people are told of a task beside each node's own verdict."""

from cluster.model import NodeId
from manager.control.explaining import FIXES_TOLD_MAX, Told, told
from scheduler import Explanation, Fix, FixKind, Reason, ReasonKind, Verdict

NOWHERE = NodeId("")
BUSY = Reason(ReasonKind.ROOM, missing=(("cpu_nanos", 500_000_000),))


def taker(name: str, **rank: float) -> Verdict:
    return Verdict(NodeId(name), name.upper(), rank=tuple(rank.items()))


def miss(name: str, *reasons: Reason) -> Verdict:
    return Verdict(NodeId(name), name.upper(), reasons)


def test_a_task_that_waits_is_told_the_nearest_miss_and_what_would_help() -> None:
    fixes = tuple(
        Fix(FixKind.FREE, f"N{number}", amounts=(("cpu_nanos", 500_000_000),))
        for number in range(9)
    )

    said = told(Explanation((), (miss("a", BUSY), miss("b", BUSY, BUSY)), fixes), NOWHERE)

    assert said.nearest == "A: short of 0.5 CPU"
    assert said.fixes == tuple(f"free 0.5 CPU on N{number}" for number in range(FIXES_TOLD_MAX))
    assert said.preference == ""


def test_the_first_term_that_differs_decides() -> None:
    verdicts = (
        taker("a", beyond=0, empty=0, leftover=0.125),
        taker("b", beyond=0, empty=0, leftover=0.5),
        taker("c", beyond=0, empty=1, leftover=0.1),
        miss("d", BUSY),
    )

    assert told(Explanation((), verdicts), NodeId("a")) == Told(
        preference="A comes before B: room left over, and how lopsidedly: 0.125 against 0.5"
    )
    assert told(Explanation((), verdicts), NOWHERE).preference.startswith("A comes before B")


def test_a_task_that_is_not_where_it_would_be_placed_now_is_told_so() -> None:
    verdicts = (
        taker("a", empty=0, leftover=0.125),
        taker("b", empty=0, leftover=0.5),
        taker("c", empty=1, leftover=0.1),
        miss("d", BUSY, Reason(ReasonKind.NODE, "paused")),
    )
    explanation = Explanation((), verdicts)

    assert told(explanation, NodeId("c")).preference == (
        "as nodes are now, A would come before C: empty node to be opened: 0 against 1"
    )
    assert told(explanation, NodeId("d")).preference == (
        "it would not be placed there now: short of 0.5 CPU; paused"
    )
    assert told(explanation, NodeId("gone")).preference.startswith("A comes before B")


def test_spread_and_unknown_terms_and_none_have_words_too() -> None:
    one = Explanation((), (taker("a", **{"spread 2": 1}), taker("b", **{"spread 2": 3})))
    other = Explanation((), (taker("a", novel=1), taker("b", novel=2)))
    none = Explanation((), (taker("a", tasks=1), taker("b", tasks=1)))

    assert told(one, NOWHERE).preference == (
        "A comes before B: replicas in its place by spread preference 2: 1 against 3"
    )
    assert told(other, NOWHERE).preference == "A comes before B: novel: 1 against 2"
    assert told(none, NOWHERE).preference == "A comes before B: they are equal but for their ids"
    alone = Explanation((), (taker("a"), miss("b", BUSY)))
    assert told(alone, NodeId("a")).preference == "A is the only node that takes it"


def test_a_demand_without_sense_has_nothing_more_to_be_told() -> None:
    assert told(Explanation(("asks for nothing on earth",)), NOWHERE) == Told()
    assert told(Explanation(), NOWHERE) == Told()
