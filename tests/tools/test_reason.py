"""Of a failed deployment one sentence is told: what the last error says."""

from __future__ import annotations

import traceback
from typing import Any

from serve_app.errors import ConfigError
from serve_app.tools.reason import reason, why_failed


def test_a_traceback_is_cut_down_to_its_last_error() -> None:
    """Here of two errors, one raised from the other, as Ray prints them."""
    try:
        try:
            raise OSError("the cause")
        except OSError as error:
            raise ConfigError("models.yaml:3: unknown key\nmodels.yaml:7: too many") from error
    except ConfigError:
        text = f"Deploying app 'assets' failed with exception:\n{traceback.format_exc()}"
    assert reason(text) == "models.yaml:3: unknown key\nmodels.yaml:7: too many"


def test_colours_and_the_name_of_a_worker_are_left_out() -> None:
    text = (
        "The deployment failed to start 3 times in a row. Error:\n"
        "\x1b[36mray::ServeReplica:assets:Ingress.initialize()\x1b[39m (pid=7, ip=127.0.0.1)\n"
        '  File "app.py", line 1, in f\n'
        "serve_app.errors.StoreHeld: held by process 12"
    )
    assert reason(text) == "held by process 12"


def test_a_message_without_an_error_is_told_as_it_is() -> None:
    assert reason("  1 replica has no node.\n") == "1 replica has no node."


def test_the_replica_that_failed_says_more_than_the_application() -> None:
    def app(replica: str, whole: str) -> dict[str, Any]:
        good = {"status": "HEALTHY", "message": ""}
        bad = {"status": "DEPLOY_FAILED", "message": replica}
        return {"message": whole, "deployments": {"Renderer": good, "Ingress": bad}}

    assert why_failed(app("ValueError: the cause", "Failed to update Ingress")) == "the cause"
    assert why_failed(app("", "Failed to update Ingress")) == "Failed to update Ingress"
    assert why_failed(app("", "")) != ""
