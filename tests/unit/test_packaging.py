"""The configuration templates say what the programs take, and what they take unasked."""

import re
from pathlib import Path

import msgspec
import pytest

from agent.settings import AgentSettings
from cluster.settings import load
from clusterctl.settings import ENDPOINT_DEFAULT, read
from manager.config import ManagerSettings
from scripts.lib.steps import TREE

PACKAGING = TREE / "packaging"


@pytest.mark.parametrize(("role", "kind"), [("manager", ManagerSettings), ("agent", AgentSettings)])
def test_a_template_has_every_key_with_its_default(
    role: str, kind: type[msgspec.Struct], tmp_path: Path
) -> None:
    template = (PACKAGING / f"{role}.yaml").read_text()
    uncommented = re.sub(r"^# (?=[a-z_]+: \S*$)", "", template, flags=re.MULTILINE)
    keys = re.findall(r"^([a-z_]+):", uncommented, flags=re.MULTILINE)
    assert sorted(keys) == sorted(field.name for field in msgspec.structs.fields(kind))

    for text in (template, uncommented):
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        assert load(kind, role, ["--config", str(path)], {}) == kind()


def test_the_client_s_template_names_the_default_cluster() -> None:
    configuration = read(PACKAGING / "client.yaml")
    assert configuration.context(configuration.current).endpoints == (ENDPOINT_DEFAULT,)
