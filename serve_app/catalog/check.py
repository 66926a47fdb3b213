"""check_files: reads the models and styles that the settings name, and says all that is wrong at once.

Starts nothing and loads no weights. Knows no Serve config: `tools/lint.py` reads those.
"""

from __future__ import annotations

from serve_app.catalog.models import Models, load_models
from serve_app.catalog.pools import served_models
from serve_app.catalog.revision import model_folder
from serve_app.catalog.styles import load_styles, read_styles
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.errors import ConfigError, ServiceError


def check_files(settings: Settings) -> None:
    """Raises one ConfigError with a line for each mistake of both files, and for a served model that is not
    there. Styles are read even if the models are wrong, as far as they can be judged without them."""
    found: list[str] = []
    models: Models | None = None
    try:
        models = load_models(settings.path(settings.models_file))
        for spec in (models[name] for name in served_models(settings, models)):
            if spec.hub is None:
                model_folder(spec, PROJECT_ROOT)
    except ServiceError as error:
        found.append(error.detail)
    try:
        styles_file = settings.path(settings.styles_file)
        if models is None:
            read_styles(styles_file)
        else:
            load_styles(styles_file, models)
    except ConfigError as error:
        found.append(error.detail)
    if found:
        raise ConfigError("\n".join(found))
