"""FAMILIES: the parts that a family names are those of its pipeline, and each has a driver."""

from __future__ import annotations

import inspect
from typing import get_args

import diffusers
import pytest

from serve_app.catalog.families import ANY_PIPELINES, FAMILIES, TRANSFORMERS, UNETS, FamilyName
from serve_app.engine.model.checkpoint import ALLOWED
from serve_app.engine.model.dit.families import CLASSES


def test_every_name_has_facts_and_a_driver() -> None:
    """Those of UNets share one; each transformer has a class of its own."""
    assert tuple(FAMILIES) == get_args(FamilyName) == (*UNETS, *TRANSFORMERS, "any")
    assert set(CLASSES) == set(TRANSFORMERS)


@pytest.mark.parametrize("family", [*UNETS, *TRANSFORMERS])
def test_parts_are_those_of_the_pipeline(family: FamilyName) -> None:
    """All that it asks for is loaded, or named as what never is."""
    facts = FAMILIES[family]
    pipeline = getattr(diffusers, facts.pipeline)
    wanted, _ = pipeline._get_signature_keys(pipeline)
    assert {*facts.networks, *facts.plain, *facts.absent} == set(wanted)
    assert set(facts.optional) <= {*facts.networks, *facts.plain}


def test_every_allowed_class_exists() -> None:
    """A misspelled one would refuse whatever checkpoint names it."""
    assert all(hasattr(diffusers, name) for name in ALLOWED["diffusers"])


@pytest.mark.parametrize("name", ANY_PIPELINES)
def test_a_pipeline_that_may_be_named_takes_what_it_is_given(name: str) -> None:
    """It stops after each step, and is told size, steps, guidance and seed."""
    accepted = set(inspect.signature(getattr(diffusers, name).__call__).parameters)
    needed = {"prompt", "width", "height", "num_inference_steps", "guidance_scale", "generator"}
    assert needed | {"output_type", "callback_on_step_end"} <= accepted
    assert isinstance(getattr(diffusers, name).num_timesteps, property)
