"""FAMILIES: the parts that a family names are those of its pipeline, and each has a driver."""

from __future__ import annotations

from typing import get_args

import diffusers
import pytest

from serve_app.catalog.families import FAMILIES, TRANSFORMERS, UNETS, FamilyName
from serve_app.engine.model.checkpoint import ALLOWED
from serve_app.engine.model.dit.families import CLASSES


def test_every_name_has_facts_and_a_driver() -> None:
    """Those of UNets share one; each transformer has a class of its own."""
    assert tuple(FAMILIES) == get_args(FamilyName) == (*UNETS, *TRANSFORMERS)
    assert set(CLASSES) == set(TRANSFORMERS)


@pytest.mark.parametrize("family", get_args(FamilyName))
def test_parts_are_those_of_the_pipeline(family: FamilyName) -> None:
    """All that it asks for is loaded, or named as what never is."""
    facts = FAMILIES[family]
    pipeline = getattr(diffusers, facts.pipeline)
    wanted, _ = pipeline._get_signature_keys(pipeline)
    assert {*facts.networks, *facts.plain, *facts.absent} == wanted - {"self"}
    assert set(facts.optional) <= {*facts.networks, *facts.plain}


def test_every_allowed_class_exists() -> None:
    """A misspelled one would refuse whatever checkpoint names it."""
    assert all(hasattr(diffusers, name) for name in ALLOWED["diffusers"])
