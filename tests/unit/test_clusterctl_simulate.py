"""Tasks and hosts on paper: what is read, refused, placed, counted and drawn."""

import json
import math
import struct
import zlib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import InvalidError
from cluster.model import Strategy
from clusterctl.cli import cli
from clusterctl.simulation import csv_rows, png, scene, summary
from clusterctl.simulation.packing import Packing, packed
from clusterctl.simulation.report import Bound, Report, plain, reported
from clusterctl.simulation.scene import Box, Label, Scene
from clusterctl.simulation.svg import svg
from clusterctl.simulation.tables import read_nodes, read_tasks
from tests.unit.test_clusterctl_commands import rows

NODES = "node,cpu,memory,zone\nn1,4,8GiB,a\nn2,4,8GiB,b\nn3,4,8GiB,b\n"
TASKS = "task,service,cpu,memory,replicas\nweb,shop,1,1GiB,3\ndb,,2,4GiB,\n"


def simulated(nodes: str, tasks: str, *, together: bool = False) -> Report:
    hosts, work = read_nodes("n", nodes), read_tasks("t", tasks)
    found = packed(hosts, work, strategy=Strategy.BINPACK, together=together)
    return reported(hosts, work, found)


def where(packing: Packing) -> dict[str, str]:
    return {placed.name: placed.node_id for placed in packing.placed}


# --- reading ----------------------------------------------------------------------------------


def test_hosts_are_read_with_their_labels_slots_and_resources() -> None:
    text = (
        "\ufeffname , memory,cpu,slots,zone,generic.gpu,disk-kind\r\n"
        'n1,8GiB,4,20,"a, b",2,ssd\r\n'
        "\r\n"
        "n2,1.5g,0.5,,,,\r\n"
    )
    first, second = read_nodes("n", text)
    assert (first.id, first.description.hostname) == ("n1", "n1")
    assert first.description.capacity.cpu_nanos == 4_000_000_000
    assert first.description.capacity.memory_bytes == 8 << 30
    assert first.description.capacity.generic == {"gpu": 2}
    assert first.spec.labels == {"zone": "a, b", "disk-kind": "ssd"}
    assert first.spec.task_slots == 20
    assert second.spec.labels == {}
    assert second.spec.task_slots == 0
    assert second.description.capacity.generic == {}


def test_tasks_are_read_with_all_that_they_ask_for() -> None:
    text = (
        "task,service,cpu,memory,replicas,constraint,order,priority,max_per_node,spread,generic.gpu\n"
        "late,s,1,1k,2,node.labels.a == b && any(node.id == x; node.id == y),2,-3,1,"
        "node.labels.zone && node.id,1\n"
        "early,,0,0,,,1.5,,,,\n"
    )
    early, late = read_tasks("t", text)
    assert (early.name, early.spec.name, early.spec.replicas, early.line) == (
        "early",
        "early",
        1,
        3,
    )
    assert early.names() == ["early"]
    assert late.names() == ["late.1", "late.2"]
    assert late.spec.priority == -3
    task = late.spec.task
    assert task.placement.constraints == (
        "node.labels.a == b",
        "any(node.id == x; node.id == y)",
    )
    assert task.placement.max_replicas_per_node == 1
    assert [each.key for each in task.placement.preferences] == ["node.labels.zone", "node.id"]
    assert task.reservations.generic == {"gpu": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["n:1: has no column 'node'", "n:1: has no column 'cpu'", "n:1: has no column 'memory'"]),
        ("node,cpu\nn1,1\n", ["n:1: has no column 'memory'"]),
        ("node,cpu,memory,cpu\n", ["n:1: has the column 'cpu' twice"]),
        ("node,name,cpu,memory\n", ["n:1: has the column 'node' twice"]),
        ("node,cpu,memory,\nn1,1,1g,\n", ["n:1: has a column without a name"]),
        ("node,cpu,memory\nn1,1\n", ["n:2: has 2 cells, the first row has 3"]),
        ("node,cpu,memory\n\nn1,many,1g\n", ["n:3: cpu: 'many' is no number of CPUs; write one such as 0.5 or 2"]),
        ("node,cpu,memory\nn1,nan,-1\n", [
            "n:2: cpu: 'nan' is no number of CPUs; write one such as 0.5 or 2",
            "n:2: memory: '-1' is no size; write one such as 64MiB, 512m or 1.5g",
        ]),
        ("node,cpu,memory\nn1,1,99999999999g\n", ["n:2: memory: '99999999999g' is too large"]),
        ("node,cpu,memory\nn1,,1g\n", ["n:2: cpu must not be empty"]),
        ("node,cpu,memory\nn1,1,1g\nn2,1,1g\nn1,1,1g\n", ["n:4: node 'n1' is named on line 2 too"]),
        ('node,cpu,memory\n"n1,1,1g\n', ["n:2: is no CSV: unexpected end of data"]),
        ('node,cpu,memory\n"n"1,1,1g\n', ["n:2: is no CSV: ',' expected after '\"'"]),
        ("node,cpu,memory,slots\nn1,1,1g,-1\n", ["n:2: slots: '-1' is no whole number from 0 up"]),
        (f"node,cpu,memory,slots\nn1,1,1g,{'9' * 9000}\n", ["n:2: slots: must be at most 9223372036854775807"]),
        ("node,cpu,memory,generic.1\nn1,1,1g,1\n", ["n:2: generic.1: must be a kind of at most 63 letters, digits, '-' and '_', beginning with a letter, is '1'"]),
        ("node,cpu,memory,a b\nn1,1,1g,x\n", ["n:1: a column that is no other is a label: 'a b' is no label name; write node.labels.NAME"]),
        ('node,cpu,memory\n"n\n1",1,1g\nn2,1,x\n', ["n:2: node: 'n\\n1' has signs that cannot be shown", "n:4: memory: 'x' is no size; write one such as 64MiB, 512m or 1.5g"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_hosts_is_told_with_its_line(text: str, said: list[str]) -> None:
    with pytest.raises(InvalidError) as refusal:
        read_nodes("n", text)
    assert str(refusal.value).splitlines() == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task,cpu,memory,replica\n", ["t:1: unknown column 'replica'; did you mean 'replicas'?"]),
        ("task,cpu,memory,zone\n", ["t:1: unknown column 'zone'; there are task, cpu, memory, service, replicas, constraint, order, priority, max_per_node, spread"]),
        ("task,cpu,memory,constraint\na,1,1g,node.id = x\n", ["t:2: constraint: constraint 'node.id = x': unknown operator '='; valid are ==, !=, in, not in, =~, exists, not exists, < and >; did you mean '=='?"]),
        ("task,cpu,memory,constraint\na,1,1g,node.id == x &&\n", ["t:2: constraint: constraint '': it does not begin with a key; valid are node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME"]),
        ("task,cpu,memory,order\na,1,1g,1\nb,1,1g,\nc,1,1g,x\n", ["t:4: order: 'x' is no number", "t:3: order must not be empty: other rows say when they come"]),
        ("task,cpu,memory,spread\na,1,1g,zone\n", ["t:2: spread: unknown key 'zone'; valid are node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME; did you mean 'node.labels.zone'?"]),
        ("task,cpu,memory,generic.gpu\na,1,1g,1000001\n", ["t:2: generic.gpu: must be at most 1000000, is 1000001"]),
        ("task,cpu,memory,replicas\na,1,1g,600000\nb,1,1g,600000\n", ["t:1: asks for 1200000 tasks; at most 1000000"]),
        ("task,cpu,memory,replicas\na.2,1,1g,\na,1,1g,3\na.4,1,1g,\na.02,1,1g,\na.1,1,1g,2\n", ["t:2: task 'a.2' is called like a replica of 'a' on line 3"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tasks_is_told_with_its_line(text: str, said: list[str]) -> None:
    with pytest.raises(InvalidError) as refusal:
        read_tasks("t", text)
    assert str(refusal.value).splitlines() == said


def test_problems_are_told_as_far_as_anybody_reads() -> None:
    text = "node,cpu,memory\n" + "".join(f"n{number},x,1g\n" for number in range(100))
    with pytest.raises(InvalidError) as refusal:
        read_nodes("n", text)
    lines = str(refusal.value).splitlines()
    assert len(lines) == csv_rows.PROBLEMS_TOLD_MAX + 1
    assert lines[-1] == "n: and 80 more"


@given(st.text(st.sampled_from('node,cpumory"\n\r 1g;\t\0é')))
def test_any_text_is_read_or_refused(text: str) -> None:
    said: list[str] = []
    try:
        read_nodes("f", "node,cpu,memory\n" + text)
        read_tasks("f", "task,cpu,memory\n" + text)
    except InvalidError as error:
        said = str(error).split("\nf:")
    assert all(part.removeprefix("f:")[0].isdigit() or "and" in part for part in said)


# --- placing ----------------------------------------------------------------------------------


def test_tasks_go_where_the_scheduler_puts_them() -> None:
    report = simulated(NODES, TASKS)
    places = where(report.packing)
    assert sorted(places) == ["db", "web.1", "web.2", "web.3"]
    assert report.tasks_total == 4
    assert not report.packing.left


def test_what_finds_no_place_is_told_with_its_row_and_the_reason() -> None:
    tasks = (
        "task,cpu,memory,replicas,constraint\n"
        "fits,1,1g,1,node.labels.zone == a\n"
        "huge,5,1g,2,\n"
        "nowhere,1,1g,1,node.labels.zone == c\n"
    )
    report = simulated(NODES, tasks)
    assert where(report.packing) == {"fits": "n1"}
    huge, nowhere = report.packing.left
    assert (huge.names, huge.work) == (("huge.1", "huge.2"), 1)
    assert "short of" in huge.why
    assert (nowhere.names, report.work[nowhere.work].line) == (("nowhere",), 4)
    assert "node.labels.zone == c" in nowhere.why


def test_an_earlier_row_is_placed_without_knowing_of_later_ones() -> None:
    """A small task that comes first takes the room that a large one would have needed."""
    nodes = "node,cpu,memory\nn1,4,4g\n"
    small_first = "task,cpu,memory,priority\nsmall,1,1g,0\nlarge,4,4g,9\n"
    assert where(simulated(nodes, small_first).packing) == {"small": "n1"}
    assert where(simulated(nodes, small_first, together=True).packing) == {"large": "n1"}


def test_rows_of_one_order_come_together() -> None:
    nodes = "node,cpu,memory\nn1,4,4g\n"
    tasks = "task,cpu,memory,priority,order\nsmall,1,1g,0,{}\nlarge,4,4g,9,{}\n"
    assert where(simulated(nodes, tasks.format(1, 1)).packing) == {"large": "n1"}
    assert where(simulated(nodes, tasks.format(1, 2)).packing) == {"small": "n1"}
    assert where(simulated(nodes, tasks.format(2, 1)).packing) == {"large": "n1"}


def test_replicas_of_several_rows_are_one_services() -> None:
    tasks = "task,service,cpu,memory,max_per_node\na,s,1,1g,1\nb,s,0.5,1g,1\nc,s,1,1g,1\n"
    assert len(set(where(simulated(NODES, tasks).packing).values())) == 3


def test_tables_without_rows_are_no_error() -> None:
    empty = simulated("node,cpu,memory\n", "task,cpu,memory\n")
    assert (empty.nodes_used, empty.bound, empty.gap_percent) == (0, Bound(), 0.0)
    lost = simulated("node,cpu,memory\n", "task,cpu,memory\na,1,1g\n")
    assert lost.packing.left[0].why == "no node fits: the cluster has no nodes"


# --- counting ---------------------------------------------------------------------------------

AMOUNTS = st.integers(0, 4)


@given(
    st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=5),
    st.lists(st.tuples(AMOUNTS, AMOUNTS), max_size=6),
)
def test_no_choice_of_nodes_below_the_bound_has_room(
    hosts: list[tuple[int, int]], tasks: list[tuple[int, int]]
) -> None:
    nodes = "".join(f"n{i},{cpu},{memory}g\n" for i, (cpu, memory) in enumerate(hosts))
    work = "".join(f"t{i},{cpu},{memory}g\n" for i, (cpu, memory) in enumerate(tasks))
    report = simulated(f"node,cpu,memory\n{nodes}", f"task,cpu,memory\n{work}")
    placed = [tasks[each.work] for each in report.packing.placed]
    needed = [sum(task[dimension] for task in placed) for dimension in (0, 1)]

    def has_room(count: int) -> bool:
        return all(
            any(sum(host[d] for host in some) >= needed[d] for some in combinations(hosts, count))
            for d in (0, 1)
        )

    fewest = next(count for count in range(len(hosts) + 1) if has_room(count))
    assert report.bound.nodes == max(fewest, 1 if placed else 0)
    assert report.bound.nodes <= report.nodes_used


def test_the_outcome_is_added_up() -> None:
    nodes = "node,cpu,memory,slots,generic.gpu\nn1,4,8g,3,2\nn2,4,8g,3,\nn3,4,8g,3,\n"
    tasks = "task,service,cpu,memory,replicas,generic.gpu\na,s,0.5,1g,4,\nb,,1,1g,1,1\nc,,9,9g,1,\n"
    report = simulated(nodes, tasks)
    found = plain(report)
    assert report.dimensions == ("cpu", "memory", "slots", "gpu")
    assert (found["nodes_total"], found["nodes_used"]) == (3, 3)
    assert (found["nodes_bound"], found["bound_by"], found["gap_percent"]) == (2, "slots", 50.0)
    assert (found["tasks_total"], found["tasks_placed"], found["tasks_unplaced"]) == (6, 5, 1)
    assert found["fill_percent"]["cpu"] == pytest.approx(100 * 3 / 12)
    assert found["fill_percent"]["slots"] == pytest.approx(100 * 5 / 9, abs=0.001)
    assert found["fill_percent"]["gpu"] == 50.0
    assert {each["task"]: each["service"] for each in found["placements"]} == {
        "a.1": "s", "a.2": "s", "a.3": "s", "a.4": "s", "b": "b",
    }  # fmt: skip
    (left,) = found["unplaced"]
    assert (left["tasks"], left["line"]) == (["c"], 4)


def test_a_gap_is_how_many_more_nodes_are_in_use_than_needed() -> None:
    nodes = "node,cpu,memory\n" + "".join(f"n{number},3,3g\n" for number in range(4))
    tasks = "task,cpu,memory\n" + "".join(f"t{number},2,2g\n" for number in range(3))
    report = simulated(nodes, tasks)
    assert (report.nodes_used, report.bound) == (3, Bound(2, "cpu"))
    assert report.gap_percent == pytest.approx(50.0)


def test_slots_without_a_limit_are_no_bound() -> None:
    nodes = "node,cpu,memory,slots\nn1,4,8g,1\nn2,4,8g,\n"
    report = simulated(nodes, "task,cpu,memory,replicas\na,0.1,1m,5\n")
    assert report.bound.nodes == 1
    assert report.capacity[report.nodes[1].id]["slots"] == math.inf
    assert report.fill_percent("slots") is None


def test_the_outcome_for_people_is_as_long_as_a_screen() -> None:
    nodes = "node,cpu,memory\n" + "".join(f"n{number},1,1g\n" for number in range(30))
    tasks = "task,cpu,memory\n" + "".join(
        f"t{number},{1 if number < 25 else 2},1g\n" for number in range(40)
    )
    lines = summary.told(simulated(nodes, tasks)).splitlines()
    assert lines[0].split() == ["Tasks:", "25", "placed", "of", "40"]
    assert lines[1].split() == ["Nodes:", "25", "in", "use", "of", "30"]
    assert "t25 (line 27): no node fits; " in "\n".join(lines)
    assert "and 5 more rows" in lines
    assert lines[-1] == "and 5 more"


# --- drawing ----------------------------------------------------------------------------------


def test_a_picture_has_a_tile_for_each_node_and_a_segment_for_each_service() -> None:
    report = simulated(NODES, TASKS)
    drawn = scene.scene(report, "heading")
    names = [label.text for label in drawn.labels]
    assert {"heading", "n1", "n2", "n3", "shop", "db"} <= set(names)
    segments = {box.title: box for box in drawn.boxes if box.title.endswith("%")}
    node = where(report.packing)["db"]
    assert segments[f"{node} cpu: db, 50.0 %"].width == pytest.approx(scene.TILE_WIDTH / 2)
    assert segments[f"{node} memory: db, 50.0 %"].width == pytest.approx(scene.TILE_WIDTH / 2)
    for box in drawn.boxes:
        assert 0 <= box.x <= box.x + box.width <= drawn.width + 1e-6
        assert 0 <= box.y <= box.y + box.height <= drawn.height


def test_segments_stand_side_by_side() -> None:
    report = simulated("node,cpu,memory\nn1,4,8g\n", "task,cpu,memory\na,1,1g\nb,2,2g\n")
    drawn = scene.scene(report, "")
    one, other = (box for box in drawn.boxes if box.title.startswith("n1 cpu: "))
    assert one.width == pytest.approx(scene.TILE_WIDTH / 4)
    assert other.x == pytest.approx(one.x + one.width)


def test_a_picture_of_very_many_nodes_has_an_end() -> None:
    count = scene.TILES_MAX + 5
    nodes = "node,cpu,memory\n" + "".join(f"n{number},1,1g\n" for number in range(count))
    drawn = scene.scene(simulated(nodes, "task,cpu,memory\nt,1,1g\n"), "")
    assert drawn.labels[-1].text == "and 5 more nodes"
    tiles = [box for box in drawn.boxes if box.title.endswith(" cpu")]
    assert len(tiles) == scene.TILES_MAX
    assert "n0" in tiles[0].title, "nodes in use come first"


def test_an_svg_is_xml_whatever_things_are_called() -> None:
    drawn = Scene(10, 10, (Box(1, 2, 3, 4, (255, 0, 16), "<&> \"'"),), (Label(0, 9, "a<b\0"),))
    root = ET.fromstring(svg(drawn))
    space = "{http://www.w3.org/2000/svg}"
    _, box = root.findall(f"{space}rect")
    assert (box.get("x"), box.get("fill")) == ("1.00", "#ff0010")
    assert box.findtext(f"{space}title") == "<&> \"'"
    assert root.findtext(f"{space}text") == "a<b "


def dots(picture: bytes) -> tuple[int, int, Callable[[int, int], tuple[int, ...]]]:
    """Read a PNG of the simplest kind: width, height, and the colour of each dot."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        kind, content = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", picture, at + 8 + length)
        assert check == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    data = zlib.decompress(chunks[b"IDAT"])
    assert len(data) == height * (1 + 3 * width)

    def dot(x: int, y: int) -> tuple[int, ...]:
        start = y * (1 + 3 * width) + 1 + 3 * x
        return tuple(data[start : start + 3])

    return width, height, dot


def test_a_png_has_every_box_in_its_place_and_letters_of_dots() -> None:
    red, ink, paper = (255, 0, 0), scene.INK, scene.PAPER
    boxes = (Box(2, 3, 4, 5, red), Box(18, 8, 9, 9, red), Box(-3, -2, 4, 3, red))  # two leave it
    width, height, dot = dots(png.png(Scene(20, 12, boxes, (Label(8, 8, "L1", 5),))))
    assert (width, height) == (20, 12)
    assert {(x, y) for x in range(20) for y in range(12) if dot(x, y) == red} == {
        *((x, y) for x in range(2, 6) for y in range(3, 8)),
        *((x, y) for x in range(18, 20) for y in range(8, 12)),
        (0, 0),
    }
    assert [
        "".join("#" if dot(x, y) == ink else "." for x in range(8, 15)) for y in range(3, 8)
    ] == ["#....#.", "#...##.", "#....#.", "#....#.", "###.###"]
    assert dot(1, 0) == paper


def test_every_letter_has_dots_of_its_own() -> None:
    assert all(len(rows) == 5 and set(rows) <= set("01234567") for rows in png._FONT.values())
    assert len({*png._FONT.values()}) >= len(png._FONT) - 1, "0 is no O, 1 is no I"


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "tasks.csv").write_text(TASKS)
    return tmp_path


def run(files: Path, *arguments: str, code: int = 0) -> Result:
    given = ["--nodes", str(files / "nodes.csv"), "--tasks", str(files / "tasks.csv")]
    result = CliRunner().invoke(cli, ["simulate", *given, *arguments], prog_name="clusterctl")
    assert result.exit_code == code, result.output
    return result


def test_the_command_needs_no_cluster_and_says_the_same_in_every_format(files: Path) -> None:
    text = run(files).stdout
    assert "4 placed of 4" in text
    found = rows(run(files, "--format", "json"))
    assert found["tasks_placed"] == 4
    assert run(files, "--format", "{{.NodesUsed}} {{.BoundBy}}").stdout == (
        f"{found['nodes_used']} cpu\n"
    )


def test_strategy_and_batch_reach_the_scheduler(files: Path) -> None:
    (files / "tasks.csv").write_text(
        "task,cpu,memory,priority\nsmall,0.1,1m,0\nmiddle,0.2,1m,0\nlarge,4,1m,1\n"
    )
    (files / "nodes.csv").write_text("node,cpu,memory\nn1,4,1g\nn2,3,1g\n")

    def used(*arguments: str) -> list[str]:
        found = json.loads(run(files, "--format", "json", *arguments).stdout)
        return [each["task"] + "@" + each["node"] for each in found["placements"]]

    assert used("--strategy", "spread") == ["small@n1", "middle@n2"]
    assert used("--strategy", "binpack") == ["small@n2", "middle@n2", "large@n1"]
    (files / "nodes.csv").write_text("node,cpu,memory\nn1,4,1g\n")
    assert used() == ["small@n1", "middle@n1"]
    assert used("--batch") == ["large@n1"]


@pytest.mark.parametrize(("name", "begins"), [("p.svg", b"<svg"), ("p.PNG", b"\x89PNG")])
def test_a_picture_is_written_where_it_was_asked_for(files: Path, name: str, begins: bytes) -> None:
    run(files, "--plot", str(files / name))
    assert (files / name).read_bytes().startswith(begins)


def test_bad_files_are_refused_in_a_line_each_and_nothing_is_drawn(files: Path) -> None:
    (files / "nodes.csv").write_text("node,cpu,memory\nn1,x,1g\n")
    result = run(files, "--plot", str(files / "p.svg"), code=1)
    assert result.stderr == (
        f"error: {files}/nodes.csv:2: cpu: 'x' is no number of CPUs; write one such as 0.5 or 2\n"
    )
    assert not (files / "p.svg").exists()
    (files / "nodes.csv").write_bytes(b"node,cpu,memory\nn\xff1,1,1g\n")
    assert f"{files}/nodes.csv:2: is no text" in run(files, code=1).stderr
    assert "ends in .svg or .png" in run(files, "--plot", "p.gif", code=2).stderr
    (files / "tasks.csv").unlink()
    assert "tasks.csv" in run(files, code=2).stderr


def test_the_example_is_sound_and_packs_tighter_together() -> None:
    folder = Path(__file__).parents[2] / "examples" / "simulate"
    nodes, tasks = ((folder / f"{name}.csv").read_text() for name in ("nodes", "tasks"))
    one_by_one = simulated(nodes, tasks)
    together = simulated(nodes, tasks, together=True)
    assert not one_by_one.packing.left
    assert not together.packing.left
    assert together.bound.nodes <= together.nodes_used <= one_by_one.nodes_used
