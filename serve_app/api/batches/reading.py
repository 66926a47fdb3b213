"""From a body to orders: JSON, JSON lines or CSV, all as plain fields with the place where each stands.

Knows media types and what a batch says of itself; not what an order may hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from pydantic import ValidationError

from serve_app.api.batches.files import FileRow, rows_of_csv, rows_of_lines
from serve_app.api.batches.matrix import orders_of
from serve_app.api.batches.orders import BatchRequest
from serve_app.api.problems import said_of
from serve_app.errors import BadRequest, InvalidField, InvalidParameter, InvalidRows, RowError

JSON, CSV = "application/json", "text/csv"
LINES = ("application/x-ndjson", "application/jsonl")
MEDIA_TYPES = (JSON, CSV, *LINES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the query says of a batch whose body is no JSON. None: nothing."""

    name: str | None = None
    reuse: bool | None = None
    dry_run: bool | None = None
    webhook: str | None = None
    webhook_events_filter: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch:
    """`where(row)`: words that say where an order stands. `pointer(row)`: JSON pointer to it."""

    name: str | None
    reuse: bool
    dry_run: bool
    orders: list[Any]
    defaults: dict[str, Any]
    where: Callable[[int], str]
    pointer: Callable[[int], str] | None = None
    webhook: str | None = None
    webhook_events_filter: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a batch may say. `orders`: of it; `order_bytes`: one order, and so the defaults, as JSON;
    `prompt_chars`: a prompt that a matrix makes."""

    orders: int
    order_bytes: int
    prompt_chars: int


def read(data: bytes, media_type: str, said: Said, bounds: Bounds) -> ReadBatch:
    """Raises BadRequest, InvalidField, InvalidRows."""
    most = bounds.orders
    if media_type == JSON:
        for parameter in fields(Said):
            if getattr(said, parameter.name) is not None:
                raise InvalidParameter(parameter.name, "A JSON body says this itself.")
        return _of_json(data, bounds)
    rows = (rows_of_csv if media_type == CSV else rows_of_lines)(data, most)
    if not rows:
        raise InvalidField("orders", "there is no order in the body", [f"1 to {most}"])
    return ReadBatch(
        name=said.name,
        reuse=_reuses(said.reuse, said.name, InvalidParameter),
        dry_run=bool(said.dry_run),
        orders=[row.fields for row in rows],
        defaults={},
        where=_line_of(rows),
        webhook=said.webhook,
        webhook_events_filter=said.webhook_events_filter,
    )


def _of_json(data: bytes, bounds: Bounds) -> ReadBatch:
    try:
        body = BatchRequest.model_validate(json.loads(data))
        size = len(json.dumps(body.defaults))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        told = [
            RowError(None, field, detail, allowed, f"#/{field.replace('.', '/')}")
            for field, detail, allowed in (said_of(dict(one), BatchRequest) for one in found)
        ]
        raise InvalidRows(told[:100], len(told)) from error
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON (at {error.pos})."
        raise BadRequest(detail, code="invalid_json") from error
    except UnicodeDecodeError as error:
        detail = f"The body is not UTF-8 (at byte {error.start})."
        raise BadRequest(detail, code="invalid_json") from error
    except (ValueError, RecursionError) as error:
        detail = "The body is nested too deep, or a number has too many digits."
        raise BadRequest(detail, code="invalid_json") from error
    if size > bounds.order_bytes:  # 10,000 orders would have them
        text = f"{size} bytes as JSON, at most {bounds.order_bytes} are allowed, as in one order"
        raise InvalidField("defaults", text)
    if body.matrix is not None:
        orders: list[Any] = [*orders_of(body.matrix, bounds.orders, bounds.prompt_chars)]
    else:
        assert body.orders is not None
        orders = [*body.orders]
        if len(orders) > bounds.orders:
            raise InvalidField("orders", f"{len(orders)} orders", [f"1 to {bounds.orders}"])
    return ReadBatch(
        name=body.name,
        reuse=_reuses(body.reuse, body.name, InvalidField),
        dry_run=body.dry_run,
        orders=orders,
        defaults=cast(dict[str, Any], body.defaults),
        where=lambda _: "",
        pointer=(lambda row: f"#/orders/{row - 1}") if body.matrix is None else None,
        webhook=body.webhook,
        webhook_events_filter=body.webhook_events_filter,
    )


def _reuses(reuse: bool | None, name: str | None, wrong: type[InvalidField]) -> bool:
    if reuse and name is None:
        raise wrong("name", "is needed to find what was made before", ["a name of the batch"])
    return name is not None if reuse is None else reuse


def _line_of(rows: list[FileRow]) -> Callable[[int], str]:
    return lambda row: f" (line {rows[row - 1].line})"
