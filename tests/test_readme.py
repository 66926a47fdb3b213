"""The documentation is true: what it names exists, what exists is named, and its commands can be given."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer

from serve_app import cli, errors
from serve_app.api import problems
from serve_app.api.asgi import create_app
from serve_app.api.registry_client import RegistryClient
from serve_app.api.replies import AsOrdered, JobStatusResponse, MetricsReply
from serve_app.api.schemas import GenerateRequest
from serve_app.artifacts.names import parse_name
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.config import Settings
from serve_app.engine import runner
from serve_app.finishing import picture
from serve_app.jobs.job import Status
from tests.api.harness import site
from tests.documents import ROOT, Cell, Document, commands
from tests.jobs.harness import World

README = Document(ROOT / "README.md")
INSIDE = Document(ROOT / "serve_app/README.md")
RUNNING = Document(ROOT / "configs/README.md")
FIGURES = Document(ROOT / "tests/benchmarks/README.md")
DOCS = [README, INSIDE, RUNNING, FIGURES]
MOST_WORDS = 900  # of the front page: three minutes

PATH = re.compile(r"[\w.-]+(/[\w.-]+)*(\.(py|md|ya?ml|toml|txt|svg|png|sh)|/)|\.ci/\w+|Makefile")
COMMAND = re.compile(r"(\.venv/bin/)?(assets|make|python) .*")
ROUTE = re.compile(r"((GET|POST|DELETE) )?/([a-z0-9]+|v1/\S*|output/\S*)/?")
NOT_OURS = {
    *("~/.ray/auth_token", "/tmp/ray/session_latest/logs", "serve run", "serve status"),
    *("RAY_AUTH_MODE=token", "export RAY_AUTH_MODE=token", "import_path", "runtime_env"),
    *("ray start --metrics-export-port=PORT", "registry.lock", "jobs.db-wal", "jobs.db-shm"),
    *("/metrics", "/tmp/ray/prom_metrics_service_discovery.json", "file_sd_configs"),
    *("/tmp/ray/ray_current_cluster", "--dashboard-host", "gcs_server.out"),
    *("serve/controller_*.log", "serve/replica_*.log", "worker-*-PID.err"),
}
"""Names of Ray, of Serve and of files that SQLite makes."""


def each(docs: list[Document]) -> Any:
    ids = [str(doc.path.relative_to(ROOT)) for doc in docs]
    return pytest.mark.parametrize("doc", docs, ids=ids)


# ---- links, files and names ----


@each([*DOCS, Document(ROOT / "serve_app/starter/CARD.md")])
def test_links_lead_somewhere_and_pictures_are_pictures(doc: Document) -> None:
    for link in doc.links:
        if link.startswith("https://"):  # what it leads to is not ours, and cannot be asked here
            continue
        file, _, anchor = link.partition("#")
        target = (doc.path.parent / file).resolve() if file else doc.path
        assert target.exists(), link
        if target.suffix == ".png":
            assert target.read_bytes().startswith(b"\x89PNG\r\n"), link
        elif target.suffix == ".svg":
            assert ET.parse(target).getroot().tag.endswith("}svg"), link
        if anchor:
            assert anchor in Document(target).anchors, link


@each([README, INSIDE, RUNNING, FIGURES])
def test_a_list_of_contents_names_every_section(doc: Document) -> None:
    sections = re.findall(r"^## (.+)$", doc.path.read_text(), re.MULTILINE)
    assert re.findall(r"^- \[(.+)\]\(#", doc.path.read_text(), re.MULTILINE) == sections


@each(DOCS)
def test_a_file_that_is_named_exists(doc: Document) -> None:
    named = {name for name in doc.names if PATH.fullmatch(name)}
    assert named
    missing = {
        name for name in named if not any((at / name).exists() for at in (ROOT, doc.path.parent))
    }
    assert missing <= {".state/"}  # the service makes it


@each(DOCS)
def test_a_name_is_one_of_the_code(doc: Document) -> None:
    """Every word in backticks, unless another test looks closer at what it is."""
    closer = (PATH, COMMAND, ROUTE)
    for name in set(doc.names) - NOT_OURS:
        if not any(kind.fullmatch(name) for kind in closer):
            assert not words(name) - words_of_the_code(), name


def test_a_file_that_a_config_names_exists() -> None:
    for path in (ROOT / "Makefile", ROOT / "serve_config.yaml", *ROOT.glob("configs/*.yaml")):
        for name in re.findall(r"serve_app/[\w/]+(?:\.\w+)?", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


def words(text: str) -> set[str]:
    """Headers are written with `-` and read with `_`; case says nothing either."""
    return {w.lower().replace("-", "_") for w in re.findall(r"[A-Za-z][\w-]{2,}", text)}


@cache
def words_of_the_code() -> set[str]:
    files = [
        *sources(),
        ROOT / "Makefile",
        ROOT / "serve_config.yaml",
        *ROOT.glob("configs/*.yaml"),
    ]
    found = words("\n".join(path.read_text() for path in files))
    return found | {f"ray_{name}{end}" for name in found for end in ("", "_total")}


def sources() -> list[Path]:
    return sorted((ROOT / "serve_app").rglob("*.py"))


def test_the_tree_has_a_line_for_every_file() -> None:
    (tree,) = INSIDE.fences("text")
    folders, listed = list[str](), list[str]()
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, said = line.strip().partition(" ")
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert said.strip(), f"{name} is not explained"
            listed.append("".join(folders) + name)
    there = [str(p.relative_to(INSIDE.path.parent)) for p in sources() if p.name != "__init__.py"]
    assert sorted(listed) == sorted(there)


def test_a_word_of_the_glossary_is_used_in_the_code() -> None:
    code = "\n".join(path.read_text() for path in sources())
    for row in INSIDE.table("word").rows:
        assert re.search(rf"(?i)\b{row[0].text}(s|es)?\b", code), row[0].text


# ---- the HTTP interface ----


class Nobody:
    """A transport that is never used."""

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any:
        raise NotImplementedError

    async def introduce(self) -> None: ...

    async def readiness(self) -> str | None: ...


@cache
def interface() -> dict[str, Any]:
    """The OpenAPI description."""
    settings = Settings()
    models = load_models(settings.path(settings.models_file))
    app = create_app(
        settings,
        RegistryClient(Nobody()),
        styles=load_styles(settings.path(settings.styles_file), models),
        models=models,
        active=models.default,
        revision_of=lambda name: name,
    )
    return app.openapi()


@cache
def operations() -> dict[str, dict[str, Any]]:
    """By `METHOD /path`; the parts of a path have no names here."""
    return {
        f"{method.upper()} {bare(path)}": operation
        for path, methods in interface()["paths"].items()
        for method, operation in methods.items()
    }


def bare(path: str) -> str:
    return re.sub(r"\{.*?\}", "{}", path)


def parameters(operation: dict[str, Any], where: str) -> set[str]:
    return {p["name"].lower() for p in operation.get("parameters", []) if p["in"] == where}


def test_the_routes_are_those_of_the_app() -> None:
    assert {bare(name) for name in INSIDE.table("route").names if " " in name} == set(operations())


def test_the_query_parameters_are_those_of_the_route() -> None:
    for row in INSIDE.table("route").rows:
        named = {n[1:].partition("=")[0] for cell in row for n in cell.names if n.startswith("?")}
        assert named == parameters(operations()[bare(row[0].names[0])], "query"), row[0].text


@each(DOCS)
def test_a_route_that_is_named_exists(doc: Document) -> None:
    """Its method may be left out."""
    known = set(operations()) | {route.partition(" ")[2] for route in operations()}
    extra = {"/docs", "/output/"}  # the description itself, and where files are
    for name in filter(ROUTE.fullmatch, set(doc.names) - NOT_OURS - extra):
        assert bare(name) in known, name


def test_the_fields_are_those_of_an_order() -> None:
    fields = GenerateRequest.model_fields
    table = INSIDE.table("field")
    assert table.names == set(fields)
    for row in table.rows:
        for name, said in zip(row[0].names, defaults(row[1], len(row[0].names)), strict=True):
            if said == "required" or fields[name].is_required():
                assert (said == "required") == fields[name].is_required(), name
            elif row[1].names:
                assert said == as_written(fields[name].default), name
            else:
                assert not fields[name].default, name


@each(DOCS)
def test_a_job_that_is_shown_has_the_fields_of_a_job(doc: Document) -> None:
    for fence in doc.fences("json"):
        shown: dict[str, Any] = json.loads(fence)
        assert set(shown) <= set(JobStatusResponse.model_fields)
        assert set(shown["request"]) <= set(AsOrdered.model_fields)
        assert set(shown["metrics"]) <= set(MetricsReply.model_fields)
        for url in shown["result_urls"]:
            name = parse_name(url.rpartition("/")[2])
            assert name is not None
            assert url == f"/output/{name.path}"


def test_the_headers_are_those_of_the_interface() -> None:
    named = {re.split("[:=]", name)[0] for name in INSIDE.table("header").names}
    also = {name for row in INSIDE.table("header").rows for name in row[1].names}
    taken = {n for o in operations().values() for n in parameters(o, "header")}
    given = {
        name.lower()
        for operation in operations().values()
        for response in operation["responses"].values()
        for name in response.get("headers", {})
    }
    mentioned = {name.partition(":")[0].lower() for name in named | also}
    assert (taken | given) - {"prefer"} - mentioned == set()
    api = "\n".join(p.read_text().lower() for p in (ROOT / "serve_app/api").rglob("*.py"))
    for name in named:
        header = name.partition(":")[0].lower()
        assert header in api or header.replace("-", "_") in api, name


def test_the_states_are_those_of_a_job() -> None:
    assert INSIDE.table("state").names == set(Status)


def test_the_reasons_to_wait_are_those_of_a_job() -> None:
    """As its own description lists them."""
    fields = interface()["components"]["schemas"]["JobStatusResponse"]["properties"]
    known = set(re.findall(r"`(\w+)`", fields["waiting_for"]["description"]))
    (said,) = re.findall(
        r"`waiting_for` what holds\s+it: (.+?)\.\n", INSIDE.path.read_text(), re.DOTALL
    )
    assert set(re.findall(r"`(\w+)`", said)) == known
    trouble = [n for n in RUNNING.table("what you see").names if n.startswith("waiting_for")]
    assert {name.partition(": ")[2] for name in trouble} <= known


def test_the_events_are_those_of_a_stream() -> None:
    stream = (ROOT / "serve_app/api/streams/stream.py").read_text()
    assert INSIDE.table("event").names == set(re.findall(r'_event\("(\w+)"', stream))


def test_the_codes_are_those_of_the_errors() -> None:
    tables = [INSIDE.table("code of a request"), INSIDE.table("code of a failed or revoked job")]
    (unseen,) = [line for line in INSIDE.prose.splitlines() if "A client never sees" in line]
    named = set[str]().union(*(table.names for table in tables)) | (words(unseen) & codes())
    assert named == codes()
    for row in tables[0].rows:
        for code in row[0].names:
            assert status_of(code) in (None, int(row[1].text)), code


def codes() -> set[str]:
    """Of every error class, and of every error that is made without one."""
    found = {kind.code for kind in error_classes()}
    found |= set(problems.CODES.values()) | set(problems.REFUSALS)
    calls = [
        node
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    for call in calls:
        given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        if ast.unparse(call.func) in ("_refused", "_problem"):
            given += call.args[:2]
        texts = [node.value for node in given if isinstance(node, ast.Constant)]
        found |= {
            text for text in texts if isinstance(text, str) and text.islower() and " " not in text
        }
    return found | {"deleted", "expired"}  # what is left of a job says which


def status_of(code: str) -> int | None:
    """None: it depends on who says it."""
    by_class = {kind.code: kind.status for kind in error_classes() if kind.status != 500}
    by_status = {code: status for status, code in problems.CODES.items()}
    return (by_class | by_status | problems.REFUSALS).get(code)


def error_classes() -> Iterator[type[errors.ServiceError]]:
    kinds = [errors.ServiceError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {runner.DeviceLost, picture.EffectFailed} < set(kinds)
    return (kind for kind in kinds if kind is not problems.Refused)


# ---- running it ----


def test_the_settings_are_those_there_are() -> None:
    fields = Settings.model_fields
    table = RUNNING.table("setting")
    assert table.names == set(fields)
    for row in table.rows:
        for name, said in zip(row[0].names, defaults(row[1], len(row[0].names)), strict=True):
            assert said == as_written(fields[name].default), name


def defaults(cell: Cell, many: int) -> list[str]:
    """One each, or one for all. A list is a single one."""
    if len(cell.names) == many:
        return list(cell.names)
    return [", ".join(cell.names) or cell.text] * many


def as_written(default: Any) -> str:
    if default in (None, {}, []):
        return "none"
    if isinstance(default, list):
        return ", ".join(map(str, default))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) or '""'


def test_the_metrics_are_those_that_are_exported() -> None:
    """Ray puts `ray_` before a name and `_total` behind a counter's."""
    exported: dict[str, set[str]] = {}
    for part in ast.parse((ROOT / "serve_app/metrics.py").read_text()).body:
        made = [node for node in ast.walk(part) if isinstance(node, ast.Call)]
        shared = set(re.findall(r"keys = \('(\w+)',\)", ast.unparse(part)))
        for kind, name, keys in filter(None, map(metric_of, made)):
            end = "_total" if kind == "Counter" else ""
            exported[f"ray_{name}{end}"] = (keys | shared) - {"application"}
    rows = RUNNING.table("metric").rows
    assert {row[0].names[0]: set(row[1].names) for row in rows} == exported


def metric_of(call: ast.Call) -> tuple[str, str, set[str]] | None:
    """Kind, name, and the tags it has beside those of its class."""
    kind = ast.unparse(call.func)
    if kind not in ("Counter", "Gauge", "Histogram"):
        return None
    return (
        kind,
        ast.literal_eval(call.args[0]),
        set(re.findall(r"'(\w+)'", ast.unparse(call.args[-1]))),
    )


# ---- commands ----


def command_tree(command: Any = None, name: str = "assets") -> dict[str, Any]:
    command = command or typer.main.get_command(cli.app)
    inner = {
        full: found
        for part, child in getattr(command, "commands", {}).items()
        for full, found in command_tree(child, f"{name} {part}").items()
    }
    alone = not inner or command.invoke_without_command
    return inner | ({name: command} if alone and name != "assets" else {})


def given_commands() -> list[str]:
    """Of every shell fence, and every command in backticks; without where the environment lies."""
    fences = [line for doc in DOCS for fence in doc.fences("sh") for line in commands(fence)]
    names = [name for doc in DOCS for name in doc.names if COMMAND.fullmatch(name)]
    return [line.replace(".venv/bin/", "") for line in fences + names]


@pytest.mark.parametrize("line", sorted(set(given_commands())))
def test_a_command_can_be_given(line: str) -> None:
    program, *args = shlex.split(line)
    checks = {
        "assets": check_assets,
        "make": check_make,
        "python": check_python,
        "curl": check_curl,
    }
    if program in checks:
        checks[program](args)
    elif program == "serve":
        assert args == ["status"] or (ROOT / args[1]).is_file()
    else:
        assert program in ("ray", "export", "cp", "mkdir"), "an unknown program"


def check_assets(args: list[str]) -> None:
    """Parses as the command line does, and runs nothing."""
    if args[0].startswith("--"):
        assert args == ["--help"] or set(args) <= options_of(typer.main.get_command(cli.app))
        return
    name, many = next(
        (n, n.count(" ")) for n in command_tree() if f"assets {' '.join(args)} ".startswith(f"{n} ")
    )
    missing = [] if len(args) > many else ["x"] * arguments_of(command_tree()[name])
    with command_tree()[name].make_context(name, args[many:] + missing) as context:
        assert not context.args


def options_of(command: Any) -> set[str]:
    return {name for p in command.params for name in p.opts if name.startswith("-")}


def arguments_of(command: Any) -> int:
    return sum(not p.opts[0].startswith("-") and p.required for p in command.params)


def check_make(args: list[str]) -> None:
    assert set(args) <= make_targets()


def make_targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(phony.split())


def check_python(args: list[str]) -> None:
    if args[0] == "-c":
        compile(args[1], "fence", "exec")
        return
    assert args[0] == "-m"
    spec = importlib.util.find_spec(args[1])
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    for option in (arg for arg in args[2:] if arg.startswith("--")):
        assert f'"{option}"' in text, option


def check_curl(args: list[str]) -> None:
    (url,) = [arg for arg in args if arg.startswith("localhost:8000/")]
    body = args[args.index("-d") + 1] if "-d" in args else None
    path = re.sub("[A-Z_]{2,}", "{}", urlsplit(f"//{url}").path)
    assert f"{'GET' if body is None else 'POST'} {path}" in operations()
    if body is not None:
        GenerateRequest.model_validate_json(body)
        assert "content-type: application/json" in args


def test_every_command_and_every_option_is_named() -> None:
    lines = given_commands()
    text = "\n".join(doc.path.read_text() for doc in DOCS)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert options_of(typer.main.get_command(cli.app)) <= named
    for name, command in command_tree().items():
        assert any(f"{line} ".startswith(f"{name} ") for line in lines), name
        assert options_of(command) <= named | {"--n"}  # which is `-n`


def test_every_target_of_make_is_named() -> None:
    named = {line.split()[1] for line in given_commands() if line.startswith("make ")}
    assert named == make_targets()


@each(DOCS)
def test_fences_are_of_a_kind_that_is_looked_at(doc: Document) -> None:
    assert doc.languages <= {"sh", "python", "json", "text"}
    for fence in doc.fences("python"):
        compile(fence, str(doc.path), "exec")


# ---- the front page ----


def test_the_front_page_is_read_in_three_minutes() -> None:
    assert len(README.prose.split()) <= MOST_WORDS


def test_the_life_of_a_job_has_the_same_steps_everywhere() -> None:
    """In both texts, and as numbers in the picture."""
    steps = README.steps()
    assert INSIDE.steps() == steps
    picture = (ROOT / "serve_app/architecture.svg").read_text()
    numbers = re.findall(r'class="number"[^>]*>(\d+)<', picture)
    assert sorted(map(int, numbers)) == list(range(1, len(steps) + 1))


def test_what_the_front_page_says_of_speed_was_measured() -> None:
    ratio = re.compile(r"\b[\d.]*\dx\b")
    said = set(ratio.findall(README.prose))
    assert said
    assert said <= set(ratio.findall(FIGURES.path.read_text()))


RATIO = re.compile(r"\(\S+\) against \((\S+)\), (.+?): ([\d.]+)x \[([\d.]+), ([\d.]+)\];")
MEASURES = {
    "median latency": "p50",
    "short orders' p95": "short p95",
    "images per second": "throughput",
}


def test_the_figures_are_the_measured_ones_rounded() -> None:
    measured = {
        (section.partition("\n")[0], base, measure): figures
        for section in (FIGURES.path.parent / "results/engine.md").read_text().split("### ")[1:]
        for base, measure, *figures in RATIO.findall(section)
    }
    compared = 0
    for table in FIGURES.tables:
        trace = table.head[0].partition(",")[0]
        for row in table.rows if trace in ("mixed", "uniform") else ():
            base, load = row[0].text.strip("(").split("), ")
            at = "burst-64" if load == "64 at once" else f"{trace}-{load.removeprefix('load ')}"
            for head, cell in zip(table.head[1:], row[1:], strict=True):
                if head in MEASURES:
                    figures = measured[at, base, MEASURES[head]]
                    for said, exact in zip(re.findall(r"[\d.]+", cell.text), figures, strict=True):
                        places = len(said.partition(".")[2])
                        off = abs(float(said) - float(exact))
                        assert off < 0.501 * 10**-places, (row[0].text, head)
                        compared += 1
    assert compared > 90


# ---- what is there to be copied does what it says ----


async def test_a_backup_of_a_store_in_use_is_taken_up_by_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had ended stays so; what waited is drawn."""
    (fence,) = [text for text in RUNNING.fences("sh") if "VACUUM" in text]
    monkeypatch.chdir(tmp_path)
    async with World(tmp_path) as world:
        done, waiting = await world.submit(), await world.submit()
        await world.draw(done)
        make_folder, copy, _ = commands(fence)
        (tmp_path / shlex.split(make_folder)[-1]).mkdir()
        exec(shlex.split(copy)[2].replace(".state", "state"), {})
    restored = tmp_path / "restored"
    (restored / "state").mkdir(parents=True)
    (tmp_path / "backup/jobs.db").rename(restored / "state/jobs.db")
    async with World(restored) as world:
        assert await world.status(done) == "SUCCESS"
        await world.draw_next()
        assert await world.status(waiting) == "SUCCESS"


def test_the_lines_of_the_python_client_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They order, wait, fetch and list, at a service of this process; only the address is another."""
    (lines,) = README.fences("python")
    assert len(lines.splitlines()) == 10
    monkeypatch.chdir(tmp_path)
    with site(tmp_path) as service:
        drawing = service.portal.start_task_soon(service.world.draw_next)
        exec(lines.replace("http://127.0.0.1:8000", service.url), {})
    (picture,) = Path("pictures").iterdir()
    assert drawing.result() in picture.name
    printed = capsys.readouterr().out
    assert "SUCCESS 1.0" in printed
    assert str(picture) in printed
    assert "a castle" in printed
