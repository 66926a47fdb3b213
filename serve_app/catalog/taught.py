"""What a model was taught to draw, where its weights say so, and what an order should know of that.

Knows the vocabulary beside the weights of the starter; most models have none, and nothing is said of them.
"""

from __future__ import annotations

from pathlib import Path

from serve_app.catalog.models import ModelSpec
from serve_app.catalog.revision import model_folder
from serve_app.errors import ModelError
from serve_app.params import GenerationParams
from serve_app.starter.vocabulary import FILE, Vocabulary, VocabularyError


def vocabulary_of(spec: ModelSpec, root: Path) -> Vocabulary | None:
    """None: the weights do not say. Raises ModelError for a vocabulary that cannot be read."""
    if spec.hub is not None or not (model_folder(spec, root) / FILE).exists():
        return None
    try:
        return Vocabulary.load(model_folder(spec, root))
    except VocabularyError as error:
        raise ModelError(f"model {spec.name!r}: {error}") from error


def not_taught_notes(params: GenerationParams) -> list[str]:
    """As notes of an image."""
    return [f"not_taught: {params.not_taught}"] if params.not_taught else []
