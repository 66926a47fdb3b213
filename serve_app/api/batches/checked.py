"""Orders of a batch, all checked before any is accepted: each becomes a resolved row with a key, or an error
with its row and its field.

A row's key is a hash of its resolved order, so it changes when the order, its style or its weights do. An
order without a seed of its own gets one from that key: the same file asks for the same pictures. Of equal
orders in one file each has a key of its own. Orders that differ in nothing but their words and their seed
share what was resolved for the first of them. Knows nothing of files and of the registry.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import uuid_utils
from pydantic import ValidationError
from pydantic_core import to_json

from serve_app.api.batches.orders import BatchDefaults, BatchOrder
from serve_app.api.problems import said_of
from serve_app.api.schemas import NO_SOURCES, NOT_DRAWN
from serve_app.catalog.resolve import Order
from serve_app.errors import InvalidField, InvalidRows, RowError
from serve_app.messages import BatchRow, Labels, Summary, Webhook
from serve_app.params import GenerationParams, SourceUse, summary_of

MOST_ERRORS = 100
"""Errors that are told of."""
MOST_KINDS = 1000
"""Kinds of orders that are remembered while a batch is checked."""
WORDS = frozenset({"prompt", "negative_prompt", "seed"})
NOT_OF_A_KIND = NOT_DRAWN - {"size"} | WORDS
"""Fields in which orders of one kind may differ: `reworded` takes the one half, and nothing the other."""


class Resolve(Protocol):
    """`catalog.resolve.resolve` with all that it needs of this server."""

    def __call__(self, order: Order, *, draw: Callable[[int], int]) -> GenerationParams: ...


class Reword(Protocol):
    """`catalog.wording.reworded` with all that it needs of this server."""

    def __call__(
        self,
        params: GenerationParams,
        prompt: str,
        negative_prompt: str,
        seed: int | None,
        *,
        draw: Callable[[int], int],
    ) -> dict[str, Any]: ...


Sources = Callable[[BatchOrder], Mapping[str, SourceUse]]
"""What the pictures are that an order names, by field. Raises InvalidField."""


HookOf = Callable[[BatchOrder], Webhook | None]
"""Whom the job of an order calls. Raises InvalidField."""


@dataclass(frozen=True, slots=True)
class CheckedOrders:
    rows: list[BatchRow]
    loads: dict[str, tuple[int, float]]  # by model, its rows and their work in megapixel steps
    images: int


@dataclass(frozen=True, slots=True)
class OrderKind:
    """What orders share that differ in their words and in their seed only. `fields`: the params as JSON has
    them."""

    params: GenerationParams
    fields: dict[str, Any]
    summary: Summary
    work: float

    @classmethod
    def of(cls, params: GenerationParams) -> OrderKind:
        return cls(params, params.model_dump(mode="json"), summary_of(params), params.work)


@dataclass(frozen=True, slots=True)
class WrongKind:
    """Why an order of a kind was refused, whatever its words: to find out 10,000 times takes minutes."""

    error: InvalidField
    prompt_chars: int
    negative_prompt: str

    def holds_for(self, body: BatchOrder) -> bool:
        """Longer words may be wrong themselves, and that would be told instead."""
        same = body.negative_prompt == self.negative_prompt
        return same and len(body.prompt) <= self.prompt_chars


def checked(
    orders: Sequence[Any],
    defaults: Mapping[str, Any],
    resolve: Resolve,
    reword: Reword,
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
    making = Checking(resolve, reword, sources, hook_of, client, batch_id)
    rows: list[BatchRow] = []
    errors: list[RowError] = []
    wrong, images = 0, 0
    loads: dict[str, tuple[int, float]] = {}
    for row, fields in enumerate(orders, 1):
        try:
            made, kind = making.row(_merged(fields, defaults))
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
        rows_before, work_before = loads.get(kind.params.model, (0, 0.0))
        loads[kind.params.model] = rows_before + 1, work_before + kind.work
        images += kind.params.n
    if errors:
        raise InvalidRows(errors[:MOST_ERRORS], max(wrong, len(errors)))
    return CheckedOrders(rows, loads, images)


class Checking:
    """Makes the rows of one batch. Equal labels of rows that follow each other are one object: they are sent
    once then."""

    def __init__(
        self,
        resolve: Resolve,
        reword: Reword,
        sources: Sources,
        hook_of: HookOf,
        client: str,
        batch_id: str,
    ) -> None:
        self._resolve, self._reword = resolve, reword
        self._sources, self._hook_of = sources, hook_of
        self._client, self._batch_id = client, batch_id
        self._kinds: dict[str, OrderKind] = {}
        self._wrong: dict[str, WrongKind] = {}
        self._seen = Counter[bytes]()
        self._labels: Labels | None = None  # of the row before

    def row(self, fields: Any) -> tuple[BatchRow, OrderKind]:
        """Raises ValidationError, InvalidField."""
        body = BatchOrder.model_validate(fields)
        bounds: list[int] = []  # of a seed that is to be drawn

        def draw(below: int) -> int:
            bounds.append(below)
            return 0

        text, kind = self._resolved(body, fields, draw)
        base = hashlib.sha256((f"drawn {text}" if bounds else text).encode()).digest()
        key = hashlib.sha256(base + self._seen[base].to_bytes(4, "big")).digest()
        self._seen[base] += 1
        seed = body.seed
        if bounds:
            seed = int.from_bytes(hashlib.sha256(key + b"seed").digest()[:8], "big") % bounds[0]
            # The field itself: inside a string of JSON a quote has a backslash before it.
            text = text.replace('"seed":0,', f'"seed":{seed},', 1)
        assert seed is not None
        row = BatchRow(
            job_id=str(uuid_utils.uuid7()),
            key=key[:16],
            name=body.name,
            params=text,
            summary={**kind.summary, "seed": seed},
            labels=self._labels_of(body),
        )
        return row, kind

    def _resolved(
        self, body: BatchOrder, fields: dict[str, Any], draw: Callable[[int], int]
    ) -> tuple[str, OrderKind]:
        """Its params as JSON, always the same for the same order."""
        # As text, which tells 1, 1.0 and true apart; what a dict compares does not.
        name = repr({field: fields[field] for field in fields if field not in NOT_OF_A_KIND})
        if (kind := self._kinds.get(name)) is not None:
            words = self._reword(
                kind.params, body.prompt, body.negative_prompt, body.seed, draw=draw
            )
            return to_json({**kind.fields, **words}).decode(), kind
        if (wrong := self._wrong.get(name)) is not None and wrong.holds_for(body):
            raise wrong.error.with_traceback(None)
        try:
            params = self._resolve(body.order(self._sources(body)), draw=draw)
        except InvalidField as error:
            if error.field not in WORDS and len(self._wrong) < MOST_KINDS:
                self._wrong[name] = WrongKind(error, len(body.prompt), body.negative_prompt)
            raise
        kind = OrderKind.of(params)
        if len(self._kinds) < MOST_KINDS:
            self._kinds[name] = kind
        return params.model_dump_json(), kind

    def _labels_of(self, body: BatchOrder) -> Labels:
        labels: Labels = {**body.labels(self._client), "batch_id": self._batch_id}
        if (hook := self._hook_of(body)) is not None:
            labels["webhook"] = hook
        if self._labels is None or labels["metadata"] or labels != self._labels:
            self._labels = labels  # 1 equals true, so metadata are never shared
        return self._labels


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
