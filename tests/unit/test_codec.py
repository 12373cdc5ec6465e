"""Every model type survives the way over the wire, and mirrors its message."""

import typing
from enum import Enum

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import codec, model, resources
from cluster.api.v1 import types_pb2
from cluster.errors import InvalidError

STRUCTS = [
    kind
    for module in (model, resources)
    for kind in vars(module).values()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__.startswith(module.__name__)
    and kind not in (model.Object, model.Value)
]
# Each type has its own test and most contain others: a few examples of each go a long way.
few = settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow], deadline=None)
INTS = st.integers(-(2**31), 2**31 - 1)


def values_of(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    hint = getattr(hint, "__supertype__", hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if arguments and type(None) in arguments:
        return st.none() | values_of(arguments[0])
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values_of(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = typing.get_type_hints(hint)
        return st.builds(hint, **{name: values_of(part) for name, part in fields.items()})
    return {
        str: st.text(max_size=8),
        int: INTS,
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
    }[hint]


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@few
@given(data=st.data())
def test_any_value_comes_back_as_it_was(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    value = data.draw(values_of(kind))
    message = codec.converter(kind).encode(value)
    read = type(message).FromString(message.SerializeToString())
    assert codec.from_wire(read, kind) == value


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@few
@given(data=st.data())
def test_any_value_survives_being_stored(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    value = data.draw(values_of(kind))
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


def test_a_newer_enum_value_is_refused_and_named() -> None:
    with pytest.raises(InvalidError, match="TaskState 99"):
        codec.from_wire(
            types_pb2.TaskStatus(state=types_pb2.TaskState.ValueType(99)), model.TaskStatus
        )


def test_a_number_beyond_its_field_is_refused() -> None:
    with pytest.raises(InvalidError, match="Resources"):
        codec.to_wire(resources.Resources(cpu_nanos=2**63), types_pb2.Resources)


def test_an_enum_that_is_left_out_takes_the_default_of_its_field() -> None:
    container = codec.from_wire(types_pb2.ContainerSpec(image="app"), model.ContainerSpec)
    assert container.pull_policy is model.PullPolicy.MISSING
    assert codec.from_wire(types_pb2.RestartPolicy(), model.RestartPolicy) == model.RestartPolicy()
    placement = codec.from_wire(types_pb2.Placement(), model.Placement)
    assert placement.strategy is None
    with pytest.raises(InvalidError, match="Mount is incomplete"):
        codec.from_wire(types_pb2.Mount(target="/data"), model.Mount)


def test_a_part_that_is_left_out_takes_the_default_of_its_field() -> None:
    task = types_pb2.TaskSpec(container=types_pb2.ContainerSpec(image="app"))
    spec = codec.from_wire(types_pb2.ServiceSpec(name="web", task=task), model.ServiceSpec)
    assert spec.budget == model.DisruptionBudget()
    assert spec.update == model.UpdateConfig()
    with pytest.raises(InvalidError, match="ServiceSpec is incomplete"):
        codec.from_wire(types_pb2.ServiceSpec(name="web"), model.ServiceSpec)


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (b'{"id":"n","spec":{"labels":{"a":"b"}},"description":{"capacity":{}}}', model.Node),
        (b'{"id":"s","spec":{"name":"a","task":{"container":{"image":"a"}}}}', model.Service),
        (b'{"id":"t","service_id":"s","spec_version":1}', model.Task),
        (b'{"id":"c","spec":{"task_history_limit":3,"of_tomorrow":[1]}}', model.Cluster),
    ],
)
def test_what_another_version_stored_is_read(stored: bytes, kind: type[msgspec.Struct]) -> None:
    assert isinstance(msgspec.json.decode(stored, type=kind), kind)
