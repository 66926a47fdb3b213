"""The interface between engine and model, and the errors that end an engine."""

from __future__ import annotations

import inspect

from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.runner import DeviceLost, Runner, Stopped
from serve_app.errors import RenderError


def test_the_model_runner_has_every_method_of_the_interface() -> None:
    """With the same parameters, in the same sequence."""
    methods = [name for name in vars(Runner) if not name.startswith("_")]
    assert "denoise" in methods
    for name in methods:
        wanted, found = getattr(Runner, name), getattr(ModelRunner, name)
        if not isinstance(wanted, property):
            assert list(inspect.signature(found).parameters) == list(
                inspect.signature(wanted).parameters
            ), name


def test_the_end_of_an_engine_is_no_fault_of_a_job() -> None:
    """Both errors are retryable, under the code that the registry knows as an engine's end."""
    for error in (DeviceLost(), Stopped()):
        assert isinstance(error, RenderError)
        assert (error.code, error.retryable) == ("engine_stopped", True)
