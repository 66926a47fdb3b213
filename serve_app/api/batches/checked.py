"""Orders of a batch, all checked before any is accepted: each becomes a resolved row with a key, or an error
with its row and its field.

A row's key is a hash of its resolved order, so it changes when the order, its style or its weights do. An
order without a seed of its own gets one from that key: the same file asks for the same pictures. Of equal
orders in one file each has a key of its own. Knows nothing of files and of the registry.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import uuid_utils
from pydantic import ValidationError

from serve_app.api.batches.orders import BatchDefaults, BatchOrder
from serve_app.api.problems import said_of
from serve_app.api.schemas import NO_SOURCES
from serve_app.catalog.resolve import Order
from serve_app.errors import InvalidField, InvalidRows, RowError
from serve_app.messages import BatchRow, Labels, Webhook
from serve_app.params import GenerationParams, SourceUse, summary_of

MOST_ERRORS = 100
"""Errors that are told of."""


class Resolve(Protocol):
    """`catalog.resolve.resolve` with all that it needs of this server."""

    def __call__(self, order: Order, *, draw: Callable[[int], int]) -> GenerationParams: ...


Sources = Callable[[BatchOrder], Mapping[str, SourceUse]]
"""What the pictures are that an order names, by field. Raises InvalidField."""


HookOf = Callable[[BatchOrder], Webhook | None]
"""Whom the job of an order calls. Raises InvalidField."""


@dataclass(frozen=True, slots=True)
class CheckedOrders:
    rows: list[BatchRow]
    loads: dict[str, tuple[int, float]]  # by model, its rows and their work in megapixel steps
    images: int


def checked(
    orders: Sequence[Any],
    defaults: Mapping[str, Any],
    resolve: Resolve,
    *,
    client: str,
    batch_id: str,
    sources: Sources = lambda _: NO_SOURCES,
    hook_of: HookOf = lambda _: None,
    where: Callable[[int], str] = lambda _: "",
    pointer: Callable[[int], str] | None = None,
) -> CheckedOrders:
    """`where(row)`: words that say where an order stands, as ` (line 7)`. `pointer(row)`: JSON pointer to an
    order. Raises InvalidRows with everything that is wrong; InvalidField for the defaults."""
    _check(defaults)
    rows: list[BatchRow] = []
    errors: list[RowError] = []
    wrong, images = 0, 0
    loads: dict[str, tuple[int, float]] = {}
    seen = Counter[bytes]()
    for row, fields in enumerate(orders, 1):
        try:
            made, params = _row(
                _merged(fields, defaults), resolve, sources, hook_of, client, batch_id, seen
            )
        except (ValidationError, InvalidField) as error:
            wrong += 1
            if len(errors) < MOST_ERRORS:
                start = pointer(row) if pointer else None
                errors += [
                    RowError(row, field, f"{detail}{where(row)}", allowed, _below(start, field))
                    for field, detail, allowed in _said(error)
                ]
            continue
        rows.append(made)
        rows_before, work_before = loads.get(params.model, (0, 0.0))
        loads[params.model] = rows_before + 1, work_before + params.work
        images += params.n
    if errors:
        raise InvalidRows(errors[:MOST_ERRORS], max(wrong, len(errors)))
    return CheckedOrders(rows, loads, images)


def _check(defaults: Mapping[str, Any]) -> None:
    try:
        BatchDefaults.model_validate(defaults)
    except ValidationError as error:
        told = [
            RowError(None, f"defaults.{field}", detail, allowed, _below("#/defaults", field))
            for field, detail, allowed in _said(error)
        ]
        raise InvalidRows(told[:MOST_ERRORS], len(told)) from error
    except InvalidField as error:
        detail = error.detail.removeprefix(f"{error.field}: ")
        raise InvalidField(f"defaults.{error.field}", detail, error.allowed) from error


def _merged(fields: Any, defaults: Mapping[str, Any]) -> Any:
    """An order's own way to say its size replaces the other way of the defaults."""
    if not isinstance(fields, dict):
        return fields  # pydantic says what is wrong
    own: dict[str, Any] = fields
    if not defaults:
        return own
    ways = ("size",) if own.keys() & {"width", "height"} else ("width", "height")
    hidden = ways if own.keys() & {"size", "width", "height"} else ()
    return {**{name: value for name, value in defaults.items() if name not in hidden}, **own}


def _row(
    fields: Any,
    resolve: Resolve,
    sources: Sources,
    hook_of: HookOf,
    client: str,
    batch_id: str,
    seen: Counter[bytes],
) -> tuple[BatchRow, GenerationParams]:
    body = BatchOrder.model_validate(fields)
    bounds: list[int] = []  # of a seed that is to be drawn

    def draw(below: int) -> int:
        bounds.append(below)
        return 0

    params = resolve(body.order(sources(body)), draw=draw)
    text = params.model_dump_json()
    base = hashlib.sha256((f"drawn {text}" if bounds else text).encode()).digest()
    key = hashlib.sha256(base + seen[base].to_bytes(4, "big")).digest()
    seen[base] += 1
    summary = summary_of(params)
    if bounds:
        seed = int.from_bytes(hashlib.sha256(key + b"seed").digest()[:8], "big") % bounds[0]
        # The field itself: inside a string of JSON a quote has a backslash before it.
        text = text.replace('"seed":0,', f'"seed":{seed},', 1)
        summary["seed"] = seed
    labels: Labels = {**body.labels(client), "batch_id": batch_id}
    if (hook := hook_of(body)) is not None:
        labels["webhook"] = hook
    row = BatchRow(
        job_id=str(uuid_utils.uuid7()),
        key=key[:16],
        name=body.name,
        params=text,
        summary=summary,
        labels=labels,
    )
    return row, params


def _said(
    error: ValidationError | InvalidField,
) -> Iterator[tuple[str, str, Sequence[object] | None]]:
    """Field, detail and what is allowed, of everything that is wrong."""
    if isinstance(error, InvalidField):
        yield error.field, error.detail.removeprefix(f"{error.field}: "), error.allowed
        return
    for found in error.errors(include_url=False, include_input=False, include_context=False):
        yield said_of(dict(found), BatchOrder)


def _below(start: str | None, field: str) -> str | None:
    """JSON pointer to a field of an order."""
    if start is None:
        return None
    names = [] if field == "body" else field.split(".")
    return "/".join([start, *(name.replace("~", "~0").replace("/", "~1") for name in names)])
