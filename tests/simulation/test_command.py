"""``scripts/simulate`` as its users have it."""

from pathlib import Path

import msgspec
import pytest

from tests.simulator.__main__ import Case, main
from tests.simulator.simulation import Scale, draw

SMALL = ("--hours", "0.2", "--agents", "5")


def test_what_breaks_is_shortened_kept_and_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.json"
    bug = ("--plant", "constraints-ignored")
    assert main(["--seed", "7", *SMALL, *bug, "--shrink", "--save", str(path)]) == 1
    told = capsys.readouterr().out
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    assert case.about.startswith("I6")
    assert case.about.split(":")[0] in told
    drawn = draw(7, Scale(agents=5, hours=0.2))
    assert sum(map(len, case.storms)) < sum(map(len, drawn))
    assert main(["--replay", str(path), *bug]) == 1
    assert "breaks I6" in capsys.readouterr().out
    assert main(["--replay", str(path)]) == 0


def test_many_runs_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--runs", "2", *SMALL]) == 0
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 3: ok")
    assert second.startswith("seed 4: ok")
    assert "in 2 runs, 0 failed" in total


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--replay", "/nowhere"], "cannot replay /nowhere"),
        (["--agents", "0"], "'0' is no whole number from 1 on"),
        (["--runs", "x"], "'x' is no whole number from 1 on"),
        (["--hours", "nan"], "'nan' is not more than 0"),
        (["--plant", "nothing"], "no bug is called 'nothing'"),
        (["--shrink"], "say which by --seed"),
        (["--seed", "1", "--runs", "2", "--trace"], "say which by --seed"),
        (["--seed", "1", "--plant", "all", "--trace"], "one run has one bug"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
