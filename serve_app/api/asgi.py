"""create_app: the HTTP interface around any RegistryClient.

Knows how the parts are put together; no Ray, no torch, no SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cache, partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from serve_app import __version__
from serve_app.api import problems, security
from serve_app.api.audit import Audit
from serve_app.api.batches.reading import MEDIA_TYPES as BATCH_MEDIA_TYPES
from serve_app.api.batches.service import BatchService
from serve_app.api.catalog import Catalog
from serve_app.api.cors import Cors
from serve_app.api.dialects import a1111, openai
from serve_app.api.dialects.wording import InDialect
from serve_app.api.forwarded import Forwarded
from serve_app.api.inspection import MEDIA_TYPES
from serve_app.api.job_texts import JobTexts
from serve_app.api.keys import KeyFile
from serve_app.api.methods import RouteGuard, heads
from serve_app.api.once import HeaderGuard
from serve_app.api.openapi import describe
from serve_app.api.output import files_of
from serve_app.api.page import WebPage
from serve_app.api.registry_client import RegistryClient
from serve_app.api.routes import (
    batches,
    catalog,
    events,
    files,
    health,
    inspect,
    jobs,
    page,
    quota,
    sheets,
    uploads,
    webhooks,
)
from serve_app.api.service import JobService
from serve_app.api.sheets import BODY_BYTES
from serve_app.api.shortcuts import OrderShortcut, PollShortcut
from serve_app.api.slow_readers import SlowReaders
from serve_app.api.sources import sources_again
from serve_app.api.streams.batches import BatchWatching
from serve_app.api.streams.watching import Watching
from serve_app.api.thumbnails import Thumbnails
from serve_app.api.unread import UnreadBodies
from serve_app.api.uploads import SourcePictures
from serve_app.api.view import LocalView, follow
from serve_app.api.webhooks import Hooks
from serve_app.artifacts.folder import output_at
from serve_app.catalog.models import Models
from serve_app.catalog.resolve import resolve
from serve_app.catalog.styles import Styles, refuse_unknown_palettes
from serve_app.catalog.wording import NO_VOCABULARIES, reworded
from serve_app.config import Settings
from serve_app.errors import ModelError, Unavailable
from serve_app.finishing.base import Weights, weights_in
from serve_app.finishing.palette_files import load_palettes
from serve_app.starter.vocabulary import Vocabulary

OWN = (jobs, batches, sheets, events, files, uploads, inspect, webhooks, quota, catalog, health)
DIALECTS = {"openai": openai, "a1111": a1111}


def create_app(
    settings: Settings,
    registry: RegistryClient,
    *,
    styles: Styles,
    models: Models,
    active: str,
    served: Sequence[str] = (),
    revision_of: Callable[[str], str],
    vocabularies: Mapping[str, Vocabulary] = NO_VOCABULARIES,
    dashboard: str | None = None,
) -> FastAPI:
    """`active`: name of the model of orders that name none; `served`: all that are served, where there are
    more. `revision_of`: model name -> hash of its weights. `vocabularies`: what models were taught, if their
    weights say so. `dashboard`: address of Ray's.

    Raises ConfigError if the file of API keys, a palette, or what a style says of one is wrong.
    """
    keys = None
    if settings.api_keys_file is not None:
        keys = KeyFile(settings.path(settings.api_keys_file))
    palettes = load_palettes(settings.path(settings.palettes_dir))
    weights = weights_of(settings)
    refuse_unknown_palettes(styles, palettes, weights)
    view = LocalView(settings.cached_jobs)
    served = served or [active]
    # Each order needs it, hashing takes seconds, and weights do not change while they serve.
    revision_of = _readable(cache(revision_of))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        following = asyncio.create_task(follow(registry, view))
        yield
        following.cancel()
        await asyncio.wait([following])

    app = FastAPIOffline(
        static_url="/docs/static",
        title="Game asset generator",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would go to whatever Host the client claims
    )
    output = output_at(settings.output_address)
    files = files_of(output.storage, redirects=settings.output_redirect)
    resolved = partial(
        resolve,
        styles=styles,
        models=models,
        active=active,
        served=served,
        revision_of=revision_of,
        limits=settings,
        vocabularies=vocabularies,
        palettes=palettes,
        weights=weights,
        finished={},
    )
    worded_anew = partial(
        reworded,
        styles=styles,
        models=models,
        vocabularies=vocabularies,
        most=settings.max_prompt_chars,
    )
    watching, hooks = Watching(view, registry, settings.max_streams), Hooks(settings)
    app.state.batch_watching = BatchWatching(view, registry, watching.seats)
    pictures = SourcePictures(settings, output.uploads)
    app.state.service = service = JobService(
        settings=settings,
        registry=registry,
        view=view,
        texts=JobTexts(view),
        watching=watching,
        hooks=hooks,
        revision_of=revision_of,
        palettes=palettes,
        weights=weights,
        catalog=Catalog(
            settings,
            styles,
            models,
            served,
            revision_of,
            palettes,
            weights,
            dashboard,
            vocabularies,
        ),
        files=files,
        thumbnails=Thumbnails(files, settings.max_pixels),
        pictures=pictures,
        resolve=resolved,
    )
    app.state.batches = BatchService(
        settings,
        registry,
        resolved,
        worded_anew,
        service.sources,
        partial(sources_again, pictures=pictures),
        served,
        revision_of,
        hooks,
    )
    routes = list(app.routes)  # of /docs
    dialects = [DIALECTS[name] for name in settings.dialects]
    own = [part.router for part in OWN]
    own += [router for part in dialects for router in part.ROUTERS]
    if settings.page:
        app.state.page = WebPage()
        own.append(page.router)
    for router in (*own, heads([*routes, *(route for part in own for route in part.routes)])):
        app.include_router(router)
        routes += router.routes
    app.openapi = cache(partial(describe, app, keys=keys is not None))
    problems.install(app)
    # The last one added is the outermost.
    app.add_middleware(OrderShortcut, service=service)
    app.add_middleware(
        security.BodyGuard,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_s,
        others={
            inspect.PATH: security.BodyRule(settings.max_upload_bytes, MEDIA_TYPES, optional=False),
            uploads.PATH: security.BodyRule(settings.max_upload_bytes, MEDIA_TYPES, optional=False),
            batches.PATH: security.BodyRule(
                settings.max_batch_bytes, BATCH_MEDIA_TYPES, optional=False
            ),
            sheets.PATH: security.BodyRule(max(settings.max_body_bytes, BODY_BYTES)),
            **{
                path: security.BodyRule(settings.max_upload_bytes, media_types, optional=False)
                for part in dialects
                for path, media_types in part.DIALECT.large.items()
            },
        },
    )
    app.add_middleware(RouteGuard, routes=routes)
    app.add_middleware(Audit)
    app.add_middleware(PollShortcut, service=service)
    app.add_middleware(security.KeyGuard, keys=keys)
    app.add_middleware(security.HostGuard, allowed=settings.allowed_hosts)
    app.add_middleware(HeaderGuard)
    app.add_middleware(security.Answers)
    if dialects:
        app.add_middleware(InDialect, dialects=[part.DIALECT for part in dialects])
    if settings.cors_origins:  # outside of `Answers`: a page may read why it was refused
        app.add_middleware(Cors, origins=settings.cors_origins)
    app.add_middleware(UnreadBodies)
    app.add_middleware(SlowReaders)
    app.add_middleware(security.Doorstep, files_origin=files.origin)
    app.add_middleware(Forwarded, trusted=settings.trusted_proxies)
    return app


def _readable(revision_of: Callable[[str], str]) -> Callable[[str], str]:
    """The same, but weights that are gone since they were deployed are told without their path."""

    def revision(name: str) -> str:
        try:
            return revision_of(name)
        except ModelError as error:
            raise Unavailable(
                f"The weights of {name} cannot be read on this server now."
            ) from error

    return revision


def weights_of(settings: Settings) -> Weights:
    """What effects find on this node that ask a learned model."""
    paths = (settings.matting_file, settings.upscalers_dir)
    return weights_in(*(None if path is None else settings.path(path) for path in paths))
