"""What routes take from a request besides its body: the service, the owner, and described parameters.

Knows names and descriptions; `api/headers.py` parses the values.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from serve_app.api.forwarded import root_of
from serve_app.api.headers import LONGEST_WAIT_S, client_name
from serve_app.api.replies import JOB_ID
from serve_app.api.service import JobService
from serve_app.api.shapes import PRINTABLE, shaped
from serve_app.secret_files import OWNER


# Async although they wait for nothing: FastAPI would run plain functions in a thread, at every request.
async def service_of(request: Request) -> JobService:
    return request.app.state.service


async def owner_of(request: Request) -> str:
    return request.state.owner


Service = Annotated[JobService, Depends(service_of)]
Owner = Annotated[str, Depends(owner_of)]
XClientId = Annotated[
    str | None,
    Header(
        description="Where no API keys are used: whom to count the request for, so that each client "
        "gets a fair share.",
        examples=["level-editor"],
        # Said, and not checked here: where there are keys, whatever stands in it is ignored.
        json_schema_extra={"pattern": f"^{OWNER.pattern}$"},
    ),
]


async def client_of(service: Service, owner: Owner, x_client_id: XClientId = None) -> str:
    keys = service.settings.api_keys_file is not None
    return client_name(x_client_id, owner, keys=keys)


async def links_of(request: Request) -> str:
    return root_of(request.scope)


Root = Annotated[str, Depends(links_of)]
"""Prefix of every link in the answer."""
Client = Annotated[str, Depends(client_of)]
"""Whose share of devices, of the line and of streams it takes."""

IdempotencyKey = Annotated[
    Annotated[str, *shaped(PRINTABLE)] | None,
    Header(
        description="Printable ASCII, yours to choose. The same key and body again answers with "
        "the same job as it is by then; another body is 422.",
        examples=["6f1c1a52-level3-potion"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(
        description=f"`wait=N` holds the answer until the job is final or N seconds are over, at most "
        f"{LONGEST_WAIT_S}.",
        examples=["wait=10"],
    ),
]
CancelAfter = Annotated[
    str | None,
    Header(
        description="Revoke the job if it is not done by then: seconds, or like `90s`, `1h30m`.",
        examples=["15m"],
    ),
]
JobId = Annotated[str, Path(description="From POST /v1/generate.", examples=[JOB_ID])]
Preview = Annotated[
    bool,
    Query(
        description="Also send small looks at what is being drawn, as `preview` events.",
        examples=[True],
    ),
]
