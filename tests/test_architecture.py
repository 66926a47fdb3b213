"""Who may know whom: the directions of DESIGN section 3, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "serve_app"
HEAVY = {"torch", "diffusers", "transformers"}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def names_in(folder: str) -> dict[str, set[str]]:
    return {str(p.relative_to(ROOT)): imports(p) for p in (PACKAGE / folder).rglob("*.py")}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("jobs", {"ray", "torch", "diffusers", "fastapi", "starlette", "serve_app.engine",
                  "serve_app.api", "serve_app.config"}),
        ("engine", {"ray", "fastapi", "starlette", "serve_app.jobs", "serve_app.api",
                    "serve_app.config"}),
        ("api", {"ray", "torch", "diffusers", "sqlite3", "serve_app.jobs", "serve_app.engine"}),
    ],
)  # fmt: skip
def test_a_folder_does_not_know(folder: str, forbidden: set[str]) -> None:
    for path, modules in names_in(folder).items():
        bad = {m for m in modules for f in forbidden if m == f or m.startswith(f + ".")}
        assert not bad, f"{path} imports {bad}"


def test_ray_decorators_are_applied_in_app_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "app.py" or path.parent != PACKAGE:
            text = path.read_text()
            assert "@ray.remote" not in text, path
            assert "@serve." not in text, path


def test_the_environment_is_read_in_config_only() -> None:
    """Serve's own switch, which the bind check asks for, and Ray's at start are the exceptions."""
    allowed = {"config.py", "cluster.py", "demo.py"}
    for path in PACKAGE.rglob("*.py"):
        if path.name not in allowed and "starter" not in path.parts:
            assert "os.environ" not in path.read_text(), path
            assert "getenv" not in path.read_text(), path


@pytest.mark.parametrize(
    "module", ["serve_app.jobs.attempt", "serve_app.artifacts", "serve_app.app"]
)
def test_what_a_job_task_imports_never_loads_torch(module: str) -> None:
    """A worker of 128 MB must not become one of 600."""
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_module_says_what_it_does_and_what_it_does_not_know() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
