"""Routes of the page in the browser. They need no key: the page is no secret, and what it shows it asks for
with the key of whoever sits before it.

Knows paths; `api/page.py` has the files.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.exceptions import HTTPException

from serve_app.api.page import WebPage
from serve_app.api.routes.inputs import Root

router = APIRouter(include_in_schema=False)


def _page_of(request: Request) -> WebPage:
    return request.app.state.page


@router.get("/")
async def front(
    request: Request, root: Root, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    return _page_of(request).front(root, if_none_match)


@router.get("/web/{version}/{name:path}")
async def file(
    version: str, name: str, request: Request, accept_encoding: Annotated[str, Header()] = ""
) -> Response:
    found = _page_of(request).file(version, name, accept_encoding)
    if found is None:
        raise HTTPException(404, "No such file, or it is of another version: load the page again.")
    return found
