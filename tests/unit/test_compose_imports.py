"""What a file takes in from others: ``extends`` and ``include``."""

import pytest

from cluster.compose import ComposeError, Project, Source, load


def loaded(files: dict[str, str], **environment: str) -> Project:
    """Load /app/compose.yaml, where *files* are all that there is."""

    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    return load(
        [Source("compose.yaml", files["/app/compose.yaml"])],
        environment=environment,
        directory="/app",
        read=read,
        project="demo",
    )


def problems(files: dict[str, str]) -> list[str]:
    with pytest.raises(ComposeError) as caught:
        loaded(files)
    return [str(problem) for problem in caught.value.problems]


# --- extends ----------------------------------------------------------------------------------


def test_a_service_extends_another_of_the_same_file() -> None:
    project = loaded(
        {
            "/app/compose.yaml": """
services:
  base: {image: base, environment: {A: 1, B: 2}, command: [a], cap_add: [CHOWN]}
  middle: {extends: base, environment: {B: 3}, cap_add: [KILL]}
  web: {extends: {service: middle}, image: web, command: [b], cap_add: !override [FOWNER]}
"""
        }
    )
    web = project.services[2].task.container
    assert web.image == "web"
    assert web.environment == {"A": "1", "B": "3"}
    assert web.command == ("b",)
    assert web.cap_add == ("FOWNER",)
    assert project.services[1].task.container.cap_add == ("CHOWN", "KILL")


def test_a_service_extends_one_of_another_file_whose_paths_start_there() -> None:
    project = loaded(
        {
            "/app/compose.yaml": "services: {web: {extends: {file: lib/base.yaml, service: x}}}",
            "/app/lib/base.yaml": """
services:
  x:
    extends: {service: y}
    env_file: x.env
    volumes: ["./data:/data"]
  y: {extends: {file: ../other.yaml, service: z}, user: $NAME}
  broken: {image: [x]}
""",
            "/app/other.yaml": "services: {z: {image: z}}",
            "/app/lib/x.env": "A=1",
        },
        NAME="me",
    )
    web = project.services[0].task.container
    assert (web.image, web.user, web.environment) == ("z", "me", {"A": "1"})
    assert web.mounts[0].source == "/app/lib/data"


def test_a_bad_value_of_a_base_is_told_where_it_stands() -> None:
    (problem,) = problems(
        {
            "/app/compose.yaml": "services: {web: {extends: {file: b.yaml, service: x}}}",
            "/app/b.yaml": "services:\n  x:\n    image: x\n    cpus: many\n",
        }
    )
    assert problem.startswith("/app/b.yaml:4:11: services.web.cpus: 'many' is no number of CPUs")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {extends: b, image: a}",
         "1:25: services.a.extends.service: there is no service 'b' in compose.yaml"),
        ("weg: {image: a}, a: {extends: web, image: a}",
         "1:42: services.a.extends.service: there is no service 'web' in compose.yaml; did you mean 'weg'?"),
        ("a: {extends: {file: no.yaml, service: x}, image: a}",
         "1:32: services.a.extends.file: there is no file /app/no.yaml"),
        ("a: {extends: {file: empty.yaml, service: x}, image: a}",
         "1:53: services.a.extends.service: there is no service 'x' in /app/empty.yaml"),
        ("a: {extends: {}, image: a}", "1:25: services.a.extends: expected a service"),
        ("a: {extends: {srv: x, service: a}, image: a}",
         "1:26: services.a.extends.srv: unknown key; did you mean 'service'?"),
        ("a: {extends: [x], image: a}",
         "1:25: services.a.extends: expected a map of file, service, found a list"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended(text: str, expected: str) -> None:
    files = {"/app/compose.yaml": f"services: {{{text}}}", "/app/empty.yaml": ""}
    assert expected in [line.removeprefix("compose.yaml:") for line in problems(files)]


def test_services_cannot_extend_each_other_in_a_circle() -> None:
    text = "services:\n  a: {image: a, extends: b}\n  b: {image: b, extends: a}\n"
    assert problems({"/app/compose.yaml": text}) == [
        "compose.yaml:2:26: services.a.extends: a service cannot extend itself: a -> b -> a",
        "compose.yaml:3:26: services.b.extends: a service cannot extend itself: b -> a -> b",
    ]


def test_a_chain_of_services_is_bounded() -> None:
    links = "".join(f"  s{n}: {{image: x, extends: s{n + 1}}}\n" for n in range(500))
    found = problems({"/app/compose.yaml": f"services:\n{links}  s500: {{image: x}}\n"})
    assert "more than 20 deep" in found[0]


# --- include ----------------------------------------------------------------------------------


def test_an_included_file_has_a_folder_and_variables_of_its_own() -> None:
    project = loaded(
        {
            "/app/compose.yaml": """
include: [db/compose.yaml]
services: {web: {image: "web$TAG", networks: [back]}}
""",
            "/app/db/compose.yaml": """
services:
  db: {image: "db$TAG-$OUTER", volumes: ["./init:/init", "data:/data"], networks: [back]}
networks: {back: }
volumes: {data: }
""",
            "/app/db/.env": "TAG=:1\nOUTER=inner",
        },
        OUTER="outer",
    )
    containers = {spec.name: spec.task.container for spec in project.services}
    assert containers["demo_db"].image == "db:1-outer"
    assert containers["demo_web"].image == "web"
    assert [m.source for m in containers["demo_db"].mounts] == ["/app/db/init", "demo_data"]
    assert [w.message for w in project.warnings if "TAG" in w.message] == [
        "variable TAG is not set; it is empty here"
    ]


def test_an_include_says_where_its_files_are() -> None:
    project = loaded(
        {
            "/app/compose.yaml": """
include:
  - path: [x/a.yaml, x/b.yaml]
    project_directory: home
    env_file: [one.env, two.env]
services: {web: {image: web}}
""",
            "/app/x/a.yaml": "services: {a: {image: a, user: x, volumes: ['./d:/d']}}",
            "/app/x/b.yaml": "services: {a: {user: $WHO}}",
            "/app/one.env": "WHO=one",
            "/app/two.env": "WHO=two",
        }
    )
    (_, a) = sorted(project.services, key=lambda spec: spec.name, reverse=True)
    assert a.task.container.user == "two"
    assert a.task.container.mounts[0].source == "/app/home/d"


def test_the_same_definition_may_come_by_two_ways() -> None:
    project = loaded(
        {
            "/app/compose.yaml": "include: [a.yaml, b.yaml]\nservices: {web: {image: web}}",
            "/app/a.yaml": "include: [common.yaml]\nservices: {a: {image: a}}",
            "/app/b.yaml": "include: [common.yaml]\nservices: {b: {image: b}}",
            "/app/common.yaml": "services: {c: {image: c}}",
        }
    )
    assert sorted(spec.name for spec in project.services) == [
        "demo_a",
        "demo_b",
        "demo_c",
        "demo_web",
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/app/compose.yaml": "include: [a.yaml]\nservices: {a: {image: b}}",
          "/app/a.yaml": "services: {a: {image: a}}"},
         "compose.yaml:2:12: services.a: is also defined by the included /app/a.yaml:1:12"),
        ({"/app/compose.yaml": "include: [no.yaml]\nservices: {a: {image: b}}"},
         "compose.yaml:1:11: include[0]: there is no file /app/no.yaml"),
        ({"/app/compose.yaml": "include: no.yaml\nservices: {a: {image: b}}"},
         "compose.yaml:1:10: include: expected a list, found 'no.yaml'"),
        ({"/app/compose.yaml": "include: [{file: x}]\nservices: {a: {image: b}}"},
         "compose.yaml:1:12: include[0].file: unknown key; did you mean 'env_file'?"),
        ({"/app/compose.yaml": "include: [{path: a.yaml, env_file: no.env}]\nservices: {a: {image: b}}",
          "/app/a.yaml": ""},
         "compose.yaml:1:11: include[0]: there is no file /app/no.env"),
        ({"/app/compose.yaml": "include: [{path: []}]\nservices: {a: {image: b}}"},
         "compose.yaml:1:11: include[0]: expected 1 path or more, nested at most 20 deep"),
        ({"/app/compose.yaml": "include: [a.yaml]\nservices: {a: {image: b}}",
          "/app/a.yaml": "include: [a.yaml]"},
         "/app/a.yaml:1:11: include[0]: a file cannot include itself: compose.yaml -> /app/a.yaml -> /app/a.yaml"),
        ({"/app/compose.yaml": "include: [a.yaml]\nservices: {a: {image: b}}",
          "/app/a.yaml": "services: {x: {imag: y, image: x}}"},
         "/app/a.yaml:1:16: services.x.imag: unknown key; did you mean 'image'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_included(files: dict[str, str], expected: str) -> None:
    assert expected in problems(files)


def test_files_that_include_each_other_twice_are_bounded() -> None:
    files = {
        f"/app/f{n}.yaml": f"include: [f{n + 1}.yaml, f{n + 1}.yaml]\nservices: {{}}"
        for n in range(19)
    }
    files["/app/compose.yaml"] = "include: [f0.yaml]\nservices: {a: {image: a}}"
    files["/app/f19.yaml"] = "services: {}"
    assert any("more than 200 files" in line for line in problems(files))
