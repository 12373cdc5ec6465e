"""Where a watch stands after each of etcd's answers, the misleading ones included."""

import pytest

from manager.store.etcd import etcd_pb2 as pb
from manager.store.etcd.endpoint import CallFailedError
from manager.store.etcd.watch import Cursor
from manager.store.etcd.wire import Outcome
from manager.store.interface import CompactedError, Removed


def answer(
    header: int, *revisions: int, fragment: bool = False, **fields: object
) -> pb.WatchResponse:
    return pb.WatchResponse(
        header=pb.ResponseHeader(revision=header),
        events=[
            pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=b"k%d" % n, mod_revision=revision))
            for n, revision in enumerate(revisions)
        ],
        fragment=fragment,
        **fields,  # type: ignore[arg-type]
    )


def test_the_position_is_the_last_event_while_the_header_runs_ahead() -> None:
    cursor = Cursor(10)

    batch = cursor.take(answer(5000, 11, 12))

    assert batch is not None
    assert batch.revision == cursor.revision == 12
    assert list(batch.events) == [Removed("k0", 11), Removed("k1", 12)]


def test_a_sign_of_progress_moves_the_position_to_the_header() -> None:
    cursor = Cursor(10)
    batch = cursor.take(answer(20))
    assert batch is not None
    assert (batch.revision, list(batch.events), cursor.revision) == (20, [], 20)


def test_no_progress_is_no_batch() -> None:
    cursor = Cursor(10)
    assert cursor.take(answer(10)) is None
    assert cursor.take(answer(9)) is None
    assert cursor.revision == 10


def test_the_confirmation_of_a_watch_is_no_progress() -> None:
    cursor = Cursor(10)
    assert cursor.take(answer(5000, created=True)) is None
    assert cursor.revision == 10


def test_what_was_delivered_is_left_out_and_tells_no_progress() -> None:
    cursor = Cursor(10)

    assert cursor.take(answer(5000, 9, 10)) is None
    batch = cursor.take(answer(5000, 10, 11))

    assert batch is not None
    assert list(batch.events) == [Removed("k1", 11)]


def test_fragments_make_one_batch() -> None:
    cursor = Cursor(10)
    assert cursor.take(answer(30, 11, fragment=True)) is None
    assert cursor.revision == 10
    batch = cursor.take(answer(30, 11, 12))
    assert batch is not None
    assert [event.mod_revision for event in batch.events] == [11, 11, 12]


def test_half_an_answer_is_forgotten_with_its_stream() -> None:
    cursor = Cursor(10)
    cursor.take(answer(30, 11, fragment=True))
    cursor.restart()
    batch = cursor.take(answer(30, 11))
    assert batch is not None
    assert len(batch.events) == 1


def test_a_watch_that_etcd_ends_for_compaction_is_over() -> None:
    with pytest.raises(CompactedError, match="after revision 10"):
        Cursor(10).take(answer(50, canceled=True, compact_revision=40))


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("etcdserver: no leader", Outcome.NOT_DONE),
        ("etcdserver: permission denied", Outcome.TOKEN_EXPIRED),
        ("rpc error: code = Unauthenticated desc = invalid auth token", Outcome.TOKEN_EXPIRED),
    ],
)
def test_a_watch_that_etcd_ends_otherwise_can_go_on(reason: str, outcome: Outcome) -> None:
    with pytest.raises(CallFailedError) as failure:
        Cursor(10).take(answer(50, canceled=True, cancel_reason=reason))
    assert failure.value.outcome is outcome
