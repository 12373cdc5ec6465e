"""The parts of scripts/ that decide something."""

import io
import json
import re
import subprocess
import tarfile
import time
import tomllib
from pathlib import Path

import pytest

from scripts.lib import environment, test
from scripts.lib.image import Image, archive, find_busybox, is_static
from scripts.lib.machine import TO_TEST, Tool, missing
from scripts.lib.steps import TREE, ScriptError, Steps, run_quietly


def test_an_image_is_a_function_of_what_it_is_made_of() -> None:
    image = Image(tag="a:1", command=["/bin/x"], files={"/bin/x": "#!/bin/sh\n", "/etc/d/y": "y"})
    first = archive([image], find_busybox())
    time.sleep(1.1)  # a time stamp of the file format would show
    assert archive([image], find_busybox()) == first

    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        layer = tar.extractfile(entry["Layers"][0])
        assert layer is not None
        with tarfile.open(fileobj=layer) as root:
            assert root.getmember("bin/x").mode == 0o755
            assert root.getmember("etc/d/y").mode == 0o644
            assert root.getmember("etc/d").isdir()
            assert root.getmember("bin/sh").linkname == "busybox"
    assert entry["RepoTags"] == ["a:1"]


def test_two_images_share_an_archive_and_a_layer_that_is_the_same() -> None:
    images = [Image(tag=f"a:{n}", command=["/bin/x"]) for n in (1, 2)]
    with tarfile.open(fileobj=io.BytesIO(archive(images, find_busybox()))) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        names = tar.getnames()
    assert [entry["RepoTags"] for entry in manifest] == [["a:1"], ["a:2"]]
    assert len(names) == len(set(names))


def test_only_a_static_busybox_will_do() -> None:
    assert is_static(find_busybox())
    assert not is_static(Path("/bin/ls"))
    assert not is_static(Path(__file__))


def test_a_missing_tool_is_told_from_one_that_is_there() -> None:
    absent = Tool("no-such-command", ("no-such-package",))
    assert missing([Tool("sh", ("dash",)), absent]) == [absent]
    assert len({tool.command for tool in TO_TEST}) == len(TO_TEST)


def test_every_package_of_the_environment_has_its_exact_version() -> None:
    lines = [line for line in environment.LOCK.read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.+]*", line) for line in lines)
    locked = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    asked = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
    ]
    assert {re.split(r"[><=]", name)[0].lower() for name in asked} <= locked


def test_a_failing_command_is_told_with_its_last_words() -> None:
    with pytest.raises(ScriptError, match=r"exit code 3: sh -c .*\nfor a reason"):
        run_quietly(["sh", "-c", "echo for a reason; exit 3"])
    with pytest.raises(ScriptError, match="there is no command 'no-such-command'"):
        run_quietly(["no-such-command"])


def test_steps_are_listed_with_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    with steps.step("first") as step:
        step.note = "went well"
    assert re.search(r"0\.0 s  first \(went well\)\n", capsys.readouterr().out)
    assert steps.table().splitlines() == ["  first     0.0 s", "  all       0.0 s"]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("===== 3 passed in 0.12s =====", {"passed": 3}),
        (
            "= 1 failed, 12 passed, 2 skipped in 61.02s (0:01:01) =",
            {"failed": 1, "passed": 12, "skipped": 2},
        ),
        ("\x1b[31m===== \x1b[31m\x1b[1m2 errors\x1b[0m in 0.1s =====", {"error": 2}),
        ("===== FAILURES =====", {}),
        ("===== test session starts =====", {}),
    ],
)
def test_the_summary_of_pytest_is_read(line: str, counts: dict[str, int]) -> None:
    found = test.SUMMARY.match(line)
    assert test.counted(found["summary"] if found else "") == counts


def test_what_follows_two_dashes_is_for_pytest() -> None:
    assert test.split(["unit", "--", "-k", "x"]) == (["unit"], ["-k", "x"])
    assert test.split(["unit"]) == (["unit"], [])


@pytest.mark.parametrize("script", ["setup", "test", "quickstart", "install", "dockerd-local"])
def test_every_script_tells_what_it_does_from_anywhere(script: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(TREE / "scripts" / script)
    told = subprocess.run([link, "--help"], cwd="/", capture_output=True, text=True, check=True)
    assert f"usage: scripts/{script}" in told.stdout
