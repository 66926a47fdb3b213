"""Who may import whom, and other rules of the whole package, read from the source itself.

Knows modules as text and syntax; nothing of what they do.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "serve_app"

LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"object_address"}),
    frozenset({"errors", "messages", "metrics", "priorities", "logs", "config", "client", "starter"})
    | {"hook_events"},
    frozenset({"params", "encoding", "dhash", "secret_files"}),
    frozenset({"finishing"}),
    frozenset({"catalog"}),
    frozenset({"jobs", "engine", "artifacts", "delivery", "webhooks"}),
    frozenset({"api", "tasks"}),
    frozenset({"cluster"}),
    frozenset({"app"}),
    frozenset({"tools"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)  # fmt: skip
"""The rooms, folders and single modules, from the bottom up. A room imports rooms of lower levels only."""

FRAMEWORKS = frozenset({"ray", "fastapi", "starlette", "uvicorn", "sse_starlette", "httpx"})
TORCH = frozenset({"torch", "diffusers", "transformers", "accelerate"})
MODEL = "serve_app.engine.model"

LAZY_TORCH = {
    "serve_app/engine/build.py": "builds an engine; it times the import of torch, which takes seconds",
    "serve_app/cluster/checks.py": "asks `engine/model/checkpoint.py`, which imports no torch",
    "serve_app/finishing/upscale.py": "runs a network, when an effect that needs it is ordered",
    "serve_app/tools/model_import.py": "converts and draws, when somebody imports a model",
    "serve_app/tools/autotune.py": "counts model calls in processes that import torch themselves",
}
"""Outside `engine/model/` and `starter/`, these import torch or `engine/model/`, inside functions only."""

ENVIRONMENT = {
    "serve_app/config.py": "the settings",
    "serve_app/tools/haproxy.py": "Serve's variables for HAProxy, which Ray reads when it is imported",
    "serve_app/cluster/checks.py": "Serve's own switch for HAProxy, which decides who can reach the service",
    "serve_app/cluster/handles.py": "hands the stamp of a deploy on to the processes it starts",
    "serve_app/tools/own_ray.py": "sets Ray's variables before it starts Ray",
    "serve_app/tools/demo.py": "sets Ray's variables before it starts Ray",
    "serve_app/tools/dashboard.py": "sets Ray's variable for its token, which Ray itself reads",
    "serve_app/cli/serving.py": "the address of a dashboard, as Ray's own tools take it",
    "serve_app/cli/options.py": "the address and key of a client, who need not have the server's settings",
}
"""Modules that read the environment or write to it."""

BY_NAME = {
    "serve_app/cluster/ingress.py": "a module of Ray's that it calls private",
    "serve_app/tools/dashboard.py": "a module of Ray's, compiled and without types",
    "serve_app/tools/own_ray.py": "a module of Ray's that it calls private",
}
"""Modules that import another by its name as text."""

SAME_NAME = {
    # The registry's record, and what `client.py` shows of it: a client imports nothing of the server.
    "Job": {"serve_app/client.py", "serve_app/jobs/job.py"},
    # What a client shows of a batch of orders, and rows of one model call.
    "Batch": {"serve_app/client.py", "serve_app/engine/scheduler.py"},
    # Borders: the same four numbers; Grid: two meanings. Finishing and delivery never import each other.
    "Borders": {"serve_app/delivery/sprite.py", "serve_app/finishing/picture.py"},
    "Grid": {"serve_app/delivery/grid.py", "serve_app/finishing/grid.py"},
    # One for each network that the starter's recipe trains.
    "Run": {"serve_app/starter/autoencoder.py", "serve_app/starter/denoiser.py"},
}
"""Public classes that share their name with another."""


@dataclass(frozen=True)
class Import:
    module: str  # as dotted as it gets: `serve_app.jobs.job.Job` for a name taken from a module
    within_function: bool
    for_types_only: bool  # below `if TYPE_CHECKING`

    @property
    def room(self) -> str | None:
        """Of an import from this package."""
        package, *rest = self.module.split(".")
        return rest[0] if package == "serve_app" and rest and rest[0] != "__version__" else None

    def is_of(self, names: frozenset[str] | set[str]) -> bool:
        return any(self.module == name or self.module.startswith(name + ".") for name in names)


class Imports(ast.NodeVisitor):
    """Every import of a module, wherever in the file. `path`: of the file, from the project root."""

    def __init__(self, path: str) -> None:
        self.found: list[Import] = []
        self._folder = ".".join(Path(path).parent.parts)
        self._in_function = self._for_types = 0

    def visit_Import(self, node: ast.Import) -> None:
        self._add(*(alias.name for alias in node.names))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level <= 1, "an import from above the own folder is written in full"
        module = ".".join(filter(None, [self._folder if node.level else "", node.module]))
        self._add(*(f"{module}.{alias.name}" for alias in node.names))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._in_function += 1
        self.generic_visit(node)
        self._in_function -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        guarded = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        self._for_types += guarded
        self.generic_visit(node)
        self._for_types -= guarded

    def _add(self, *modules: str) -> None:
        self.found += [Import(m, self._in_function > 0, self._for_types > 0) for m in modules]


@cache
def sources() -> dict[str, ast.Module]:
    """Path from the project root -> syntax tree."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")
    }


def imports(below: str = "") -> Iterator[tuple[str, Import]]:
    """Of every file below `serve_app/<below>`."""
    for path, tree in sources().items():
        if path.startswith(f"serve_app/{below}"):
            visitor = Imports(path)
            visitor.visit(tree)
            yield from ((path, found) for found in visitor.found)


def room_of(path: str) -> str:
    return Path(path).parts[1].removesuffix(".py")


def level_of(room: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms)


# ---- who may import whom ----


def test_every_room_has_its_level() -> None:
    rooms = {room_of(path) for path in sources()} - {"__init__"}
    assert rooms <= frozenset.union(*LEVELS)
    assert all(not a & b for a, b in pairwise(LEVELS))


def test_no_room_imports_upwards_or_sideways() -> None:
    wrong = [
        f"{path} imports {found.module}"
        for path, found in imports()
        if found.room is not None
        and found.room != room_of(path)
        and level_of(found.room) >= level_of(room_of(path))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("jobs", {*FRAMEWORKS, *TORCH, "serve_app.config", "serve_app.catalog"}),
        ("engine", {*FRAMEWORKS, "sqlite3", "serve_app.config"}),
        ("finishing", {*FRAMEWORKS, "sqlite3", "serve_app.config"}),
        ("delivery", {*FRAMEWORKS, *TORCH, "sqlite3", "serve_app.config"}),
        ("api", {"ray", *TORCH, "sqlite3", "serve_app.jobs", "serve_app.engine"}),
        ("webhooks", {"ray", "fastapi", "starlette", *TORCH, "sqlite3", "serve_app.config"}),
        ("catalog", {*FRAMEWORKS, *TORCH, "sqlite3"}),
        ("tasks", {*FRAMEWORKS, *TORCH, "sqlite3", "serve_app.config", "serve_app.jobs.registry"}),
    ],
)  # fmt: skip
def test_a_room_does_not_know(room: str, forbidden: set[str]) -> None:
    """That they do not know each other follows from their levels."""
    if not (PACKAGE / room).is_dir():
        pytest.skip(f"there is no {room} yet")
    wrong = [f"{path} imports {f.module}" for path, f in imports(f"{room}/") if f.is_of(forbidden)]
    assert wrong == []


def test_torch_is_imported_by_the_engines_model_and_the_starter_only() -> None:
    """Others may for types, and those of LAZY_TORCH inside functions."""
    outside = [
        (path, found)
        for path, found in imports()
        if not path.startswith(("serve_app/engine/model/", "serve_app/starter/"))
        and found.is_of(TORCH | {MODEL})
        and not found.for_types_only
    ]
    assert {path for path, _ in outside} == LAZY_TORCH.keys()
    assert [path for path, found in outside if not found.within_function] == []


@pytest.mark.parametrize("module", ["serve_app.app", "serve_app.cluster.job_task"])
def test_what_a_job_task_imports_loads_no_torch(module: str) -> None:
    """Measured: a worker of 128 MB would become one of 600."""
    code = f"import sys, {module}; print(*sorted(sys.modules.keys() & {set(TORCH)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_import_is_written_as_one() -> None:
    """A module that is imported by its name as text is one that these tests do not see. But for BY_NAME."""
    by_name = {
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
    }
    assert by_name == BY_NAME.keys()


# ---- what is done in one place only ----


def test_ray_decorators_are_applied_in_app_only() -> None:
    """Nor called without the `@`, nor imported by themselves."""
    decorators = {"ray.remote", "serve.deployment", "serve.ingress"}
    used = {
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in decorators
    }
    assert used == {"serve_app/app.py"}
    theirs = frozenset({"ray.remote", "ray.serve.deployment", "ray.serve.ingress"})
    assert [path for path, found in imports() if found.is_of(theirs)] == []


def test_app_fits_on_two_screens() -> None:
    assert len((PACKAGE / "app.py").read_text().splitlines()) <= 150


def test_the_environment_is_used_in_config_only() -> None:
    """But for ENVIRONMENT, which says why."""

    def uses(tree: ast.Module) -> bool:
        return any(
            (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv"))
            or (isinstance(node, ast.keyword) and node.arg == "envvar")
            or (isinstance(node, ast.alias) and node.name in ("environ", "getenv", "putenv"))
            or (isinstance(node, ast.Name) and node.id == "BaseSettings")
            for node in ast.walk(tree)
        )

    assert {path for path, tree in sources().items() if uses(tree)} == ENVIRONMENT.keys()


# ---- what a reader may rely on ----


def test_every_module_says_what_it_does_and_what_it_does_not_know() -> None:
    """In two sentences at least."""
    missing = [
        path
        for path, tree in sources().items()
        if not path.endswith("__init__.py")
        and len(re.findall(r"[.?](?=\s|$)", ast.get_docstring(tree) or "")) < 2
    ]
    assert missing == []


def test_no_two_public_classes_have_one_name() -> None:
    """But for SAME_NAME."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named[node.name].add(path)
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == SAME_NAME


MESSAGES = sorted((PACKAGE / "messages").glob("[!_]*.py"))


@pytest.mark.parametrize("path", MESSAGES, ids=[path.name for path in MESSAGES])
def test_messages_are_shapes_only(path: Path) -> None:
    """Typed dicts, names of types, and the names of states: no function and no rule."""
    for node in sources()[str(path.relative_to(ROOT))].body:
        match node:
            case ast.ClassDef(bases=[ast.Name(id="TypedDict")]):
                assert all(isinstance(part, ast.AnnAssign | ast.Expr) for part in node.body)
            case ast.Assign(value=ast.BinOp(op=ast.BitOr())) | ast.Expr() | ast.ImportFrom():
                pass
            case ast.Assign(targets=[ast.Name(id="TERMINAL")]):
                pass
            case _:
                pytest.fail(f"line {node.lineno} is no shape: {ast.unparse(node)[:60]}")


def test_messages_have_one_door() -> None:
    """Which file of `messages/` a shape stands in is nobody else's business."""
    inside = frozenset(f"serve_app.messages.{path.stem}" for path in MESSAGES)
    wrong = [
        f"{path} imports {found.module}"
        for path, found in imports()
        if found.is_of(inside) and room_of(path) != "messages"
    ]
    assert wrong == []
