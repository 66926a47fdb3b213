"""The one error of the recipe. It knows nothing else."""

from __future__ import annotations


class RecipeError(Exception):
    """Something the person who runs the recipe can put right; its text says how."""
