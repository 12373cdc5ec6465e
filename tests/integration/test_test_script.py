"""``scripts/test`` says the truth about what it ran."""

import sys
from pathlib import Path

from scripts.lib import test


def test_a_part_with_a_skipped_test_or_a_failed_one_fails(tmp_path: Path) -> None:
    parts = {
        "fine": "def test_it(): pass",
        "skips": "import pytest\ndef test_it(): pytest.skip('no reason')",
        "fails": "def test_it(): assert False",
        "empty": "def no_test(): pass",
    }
    outcomes = {}
    for name, code in parts.items():
        folder = tmp_path / "tests" / name
        folder.mkdir(parents=True)
        (folder / "test_it.py").write_text(code)
        part = test.Part(name, parallel=False, what="")
        outcomes[name] = test.run_pytest(part, [], tmp_path, Path(sys.executable)).passed
    assert outcomes == {"fine": True, "skips": False, "fails": False, "empty": False}
