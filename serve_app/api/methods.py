"""Which methods each path has: HEAD wherever there is GET, and 404 or 405 before a body is read.

Knows routes by their paths only; not what they do.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.forwarded import path_of


def heads(routes: Iterable[BaseRoute]) -> APIRouter:
    """HEAD for each of these routes that answers GET (RFC 9110). The description does not repeat them."""
    router = APIRouter(include_in_schema=False)
    for route in routes:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            router.add_api_route(route.path, route.endpoint, methods=["HEAD"])
    return router


class RouteGuard:
    """Refuses a path that no route has, and a method that its routes do not have. Inside it, a body is
    waited for only if a route wants it."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = list(routes)
        # To ask every route costs a sixth of an order.
        plain = (route.path for route in self._routes if isinstance(route, Route))
        self._known: dict[str, set[str] | None] = {path: None for path in plain if "{" not in path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = path_of(scope)
            methods = self._known.get(path) or self._methods(scope)
            if path in self._known:
                self._known[path] = methods
            if not methods:
                raise HTTPException(404)
            if scope["method"] not in methods:
                raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
        await self._app(scope, receive, send)

    def _methods(self, scope: Scope) -> set[str]:
        """All methods of the path; none: there is no such path."""
        found: set[str] = set()
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                if isinstance(route, Mount):  # of static files
                    found |= {"GET", "HEAD"}
                elif isinstance(route, Route):
                    found |= route.methods or set()
        return found
