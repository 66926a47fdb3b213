"""Every module of a room has its tests in the room's folder of the same name, in a file called after it.

Knows names of files only: whether the tests are good ones, nobody can read from that.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = ROOT / "serve_app", ROOT / "tests"
NO_ROOM = {"starter", "messages"}
"""The recipe of the starter is tested as a whole by `test_starter*.py`; messages are types."""

ELSEWHERE = {
    "engine/ensemble.py": "engine/model/test_several.py",
    "engine/late_models.py": "engine/model/test_several.py",
    "engine/model/weights.py": "engine/model/test_several.py",
    "api/dialects/a1111_bodies.py": "api/dialects/test_a1111.py",
    "api/dialects/a1111_lists.py": "api/dialects/test_a1111.py",
    "api/dialects/held.py": "api/dialects/test_openai.py",
    "api/dialects/openai_form.py": "api/dialects/test_openai.py",
    "api/dialects/openai_bodies.py": "api/dialects/test_openai.py",
    "api/dialects/openai_stream.py": "api/dialects/test_openai.py",
    "api/dialects/pictures.py": "api/dialects/test_openai.py",
    "api/dialects/wording.py": "api/dialects/test_openai.py",
    "api/batches/archive.py": "api/routes/test_batches.py",
    "api/batches/orders.py": "api/batches/test_checked.py",
    "api/batches/reading.py": "api/routes/test_batches.py",
    "api/inspection.py": "api/routes/test_inspect.py",
    "artifacts/copying.py": "tools/test_backup.py",
    "cli/keeping.py": "tools/test_backup.py",
    "tools/grafana.py": "monitoring/test_names.py",
    "jobs/store/copies.py": "tools/test_backup.py",
    "jobs/store/directory.py": "jobs/store/test_database.py",
    "jobs/store/pages.py": "jobs/store/test_redis.py",
    "jobs/store/redis_copies.py": "tools/test_backup.py",
    "jobs/store/redis_lease.py": "jobs/store/test_redis.py",
    "jobs/store/redis_scripts.py": "jobs/store/test_redis.py",
    "cluster/nodes.py": "cluster/test_redis.py",
    "cli/stores.py": "tools/test_store_copy.py",
    "tools/doctor_redis.py": "tools/test_doctor.py",
    "tools/findings.py": "tools/test_doctor.py",
    "artifacts/disk.py": "artifacts/test_folder.py",
    "api/streams/event_data.py": "api/test_replies.py",
    "artifacts/imprint.py": "artifacts/inspection/test_inspect.py",
    "artifacts/inspection/a1111.py": "artifacts/inspection/test_dialects.py",
    "artifacts/inspection/comfyui.py": "artifacts/inspection/test_dialects.py",
    "api/reproduction.py": "api/routes/test_reproduce.py",
    "artifacts/credentials/certificate.py": "artifacts/credentials/test_signing.py",
    "artifacts/credentials/reading.py": "artifacts/credentials/test_signing.py",
    "artifacts/inspection/container.py": "artifacts/inspection/test_inspect.py",
    "artifacts/inspection/exif.py": "artifacts/inspection/test_dialects.py",
    "artifacts/inspection/recipe.py": "artifacts/inspection/test_dialects.py",
    "artifacts/inspection/xmp.py": "artifacts/inspection/test_inspect.py",
    "catalog/file_hash.py": "catalog/test_revision.py",
    "catalog/embeddings.py": "engine/model/test_embeddings.py",
    "engine/model/batching.py": "engine/model/test_model_runner.py",
    "engine/model/driver.py": "engine/model/test_model_runner.py",
    "engine/model/drivers.py": "engine/model/dit/test_runner.py",
    "engine/model/dit/families.py": "catalog/test_families.py",
    "engine/model/dit/family.py": "engine/model/dit/test_runner.py",
    "engine/model/dit/trajectory.py": "engine/model/dit/test_runner.py",
    "catalog/loras.py": "engine/model/test_loras.py",
    "catalog/model_entry.py": "tools/test_model_import.py",
    "catalog/wording.py": "api/batches/test_checked.py",
    "cli/credentials.py": "cli/test_provenance.py",
    "cli/finishing.py": "cli/test_sheets.py",
    "cli/mirror.py": "cli/test_pulling.py",
    "cli/options.py": "cli/test_commands.py",
    "cli/printing.py": "cli/test_jobs.py",
    "cli/serving.py": "cluster/test_operator.py",
    "cluster/attempts.py": "cluster/test_launcher.py",
    "cluster/ingress.py": "cluster/test_service.py",
    "cluster/renderer.py": "cluster/test_lifecycle.py",
    "cluster/replica_port.py": "cluster/test_operator.py",
    "delivery/engines.py": "cli/test_pulling.py",
    "delivery/folder.py": "delivery/test_main.py",
    "delivery/formats/aseprite.py": "delivery/test_formats.py",
    "delivery/formats/css.py": "delivery/test_browser.py",
    "delivery/formats/texturepacker.py": "delivery/test_browser.py",
    "delivery/formats/unity.py": "delivery/test_formats.py",
    "engine/model/importing/configs.py": "engine/model/test_importing.py",
    "engine/model/importing/convert.py": "engine/model/test_importing.py",
    "engine/model/importing/merge.py": "tools/test_model_import.py",
    "engine/model/importing/header.py": "engine/model/test_importing.py",
    "engine/model/importing/kinds.py": "engine/model/test_importing.py",
    "engine/model/importing/tokenizer.py": "engine/model/test_importing.py",
    "finishing/backdrop.py": "finishing/test_cutout.py",
    "finishing/base.py": "finishing/test_effects.py",
    "finishing/grid.py": "finishing/test_pixelate.py",
    "finishing/looks.py": "finishing/test_main.py",
    "finishing/matte.py": "finishing/test_cutout.py",
    "finishing/nine_slice.py": "finishing/test_facts.py",
    "finishing/pivot.py": "finishing/test_facts.py",
    "finishing/shadow.py": "finishing/test_outline.py",
    "jobs/store/batch_tables.py": "jobs/store/test_batches.py",
    "jobs/limits.py": "jobs/test_registry.py",
    "jobs/hook_body.py": "jobs/store/test_outbox.py",
    "jobs/store/outbox_tables.py": "jobs/store/test_outbox.py",
    "tasks/assets.py": "tasks/test_work.py",
    "tasks/bodies.py": "tasks/test_work.py",
    "tasks/derive.py": "tasks/test_work.py",
    "tasks/reproduction.py": "api/routes/test_reproduce.py",
    "tasks/sheet.py": "api/routes/test_sheets.py",
    "tools/dashboard.py": "tools/test_deploy.py",
    "tools/demo.py": "cluster/test_operator.py",
    "tools/run.py": "cluster/test_operator.py",
}
"""Modules that are tested in another file, because they are used through what that file is about."""


def modules() -> set[Path]:
    """Of every room, from the package."""
    found = {path.relative_to(PACKAGE) for path in PACKAGE.glob("*/**/*.py")}
    return {path for path in found if path.name != "__init__.py" and path.parts[0] not in NO_ROOM}


def has_its_own(module: Path) -> bool:
    """`test_MODULE.py`, or several `test_MODULE_....py`, anywhere below the room's folder of tests."""
    name = f"test_{module.stem.strip('_')}"
    tests = (path.stem for path in (TESTS / module.parts[0]).rglob("test_*.py"))
    return any(test == name or test.startswith(f"{name}_") for test in tests)


def test_every_module_has_its_tests_or_says_where() -> None:
    assert {str(m) for m in modules() if not has_its_own(m)} - ELSEWHERE.keys() == set()


def test_what_is_said_to_be_there_is_there() -> None:
    assert [test for test in ELSEWHERE.values() if not (TESTS / test).is_file()] == []
