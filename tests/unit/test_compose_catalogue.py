"""The catalogue, the specification and the documentation say the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.compose import ComposeError, Source, load
from cluster.compose.catalogue import SECTIONS, SERVICE, TOP, Key, Support, as_markdown

KEYS = Path(__file__).parent / "data" / "compose" / "keys.yaml"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/compose.yaml"))
PAGE = Path(__file__).parents[2] / "docs" / "compose.md"


def test_the_catalogue_has_every_key_of_the_specification_and_no_other() -> None:
    specified = {
        place: set(keys.split()) for place, keys in yaml.safe_load(KEYS.read_text()).items()
    }
    assert {section.title: set(section.keys) for section in SECTIONS} == specified


def test_the_documentation_has_the_tables_of_the_catalogue() -> None:
    assert as_markdown() in PAGE.read_text(), (
        "put the output of this below '## Every key' of docs/compose.md: "
        "python -c 'from cluster.compose.catalogue import as_markdown; print(as_markdown())'"
    )


def test_the_examples_of_the_documentation_are_sound() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        project = load([Source("f", example)], environment={}, directory="/", read=str, project="p")
        assert project.warnings == ()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_the_examples_are_sound(file: Path) -> None:
    source = Source(file.name, file.read_text())
    project = load([source], environment={}, directory="/", read=str, project="p")
    assert project.services
    assert project.warnings == ()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_what_is_not_honoured_has_a_reason(section: Any) -> None:
    for name, key in section.keys.items():
        if key.support in (Support.REFUSED, Support.IGNORED):
            assert key.note, name


@pytest.mark.parametrize(
    ("name", "key"),
    [(n, k) for n, k in SERVICE.keys.items() if k.support in (Support.REFUSED, Support.IGNORED)],
)
def test_a_key_that_is_not_honoured_is_never_dropped_in_silence(name: str, key: Key) -> None:
    text = f"services:\n  web:\n    image: web\n    {name}: {{a: b}}\n"
    source = Source("f", text)
    arguments: Any = {"environment": {}, "directory": "/", "read": open, "project": "demo"}
    if key.support is Support.REFUSED:
        with pytest.raises(ComposeError, match=rf"^f:4:5: services\.web\.{name}: not supported: "):
            load([source], **arguments)
    else:
        (warning,) = load([source], **arguments).warnings
        assert str(warning) == f"f:4:5: services.web.{name}: ignored: {key.note}"


@pytest.mark.parametrize("value", ["", "[]", "{}"])
def test_a_key_that_asks_for_nothing_is_passed_over(value: str) -> None:
    keys = "\n".join(
        f"    {name}: {value}"
        for name, key in SERVICE.keys.items()
        if key.support in (Support.REFUSED, Support.IGNORED)
    )
    text = f"services:\n  web:\n    image: web\n{keys}\n    x-mine: [1]\n"
    project = load([Source("f", text)], environment={}, directory="/", read=open, project="demo")  # type: ignore[arg-type]
    assert project.warnings == ()


def test_harmless_values_are_passed_over() -> None:
    for name, key in SERVICE.keys.items():
        for value in key.harmless:
            text = f"services: {{web: {{image: web, {name}: {value}}}}}"
            project = load(
                [Source("f", text)], environment={}, directory="/", read=str, project="demo"
            )
            assert project.warnings == ()


def test_every_place_of_the_specification_is_a_section() -> None:
    assert TOP in SECTIONS
    assert len({section.title for section in SECTIONS}) == len(SECTIONS)
