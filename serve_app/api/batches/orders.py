"""What clients send for a batch as JSON: BatchRequest, with orders or with a matrix of them.

Knows the fields and their general limits; files of orders, and what a style or a model allows, are checked
elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve_app.api.schemas import GenerateRequest
from serve_app.api.shapes import Size, Tag
from serve_app.delivery.names import MAX_NAME
from serve_app.errors import InvalidField
from serve_app.hook_events import BATCH_HOOK_EVENTS
from serve_app.params import MAX_SEED

BatchHookEvent = Literal["queued", "started", "completed"]
MATRIX_AXIS = 10_000  # values along one axis
MATRIX_PROMPT = 65_536  # characters, with all that may stand in its places


class BatchOrder(GenerateRequest):
    """One order of a batch: as of POST /v1/generate, and perhaps with a name for its files."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a red potion", "name": "potion_red"}]}
    )

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_NAME,
        description="Of its files in the batch's archive. Left out: the prompt and the seed.",
        examples=["potion_red"],
    )
    dry_run: Literal[False] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=False, description="Said of the whole batch, not of one order.", examples=[False]
    )


class BatchDefaults(BatchOrder):
    """Fields that hold for every order of a batch which does not have them itself."""

    prompt: str = Field(
        default="", min_length=1, description="Of orders that have none.", examples=["a potion"]
    )


class Matrix(BaseModel):
    """Every prompt in every style, size and seed; prompts change slowest, seeds fastest."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    prompts: list[Annotated[str, Field(max_length=MATRIX_PROMPT)]] = Field(
        min_length=1,
        max_length=MATRIX_AXIS,
        description="`{red|blue}` stands for each of these in turn, `{color}` for each of the list of that "
        "name in `lists`; `{{` and `}}` are braces.",
        examples=[["a {red|blue} potion", "a {material} sword"]],
    )
    styles: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=MATRIX_AXIS,
        description="Values of `style_id`; left out: that of `defaults`.",
        examples=[["icon"]],
    )
    sizes: list[Size] | None = Field(
        default=None,
        min_length=1,
        max_length=MATRIX_AXIS,
        description="Like 128x128; left out: that of `defaults`.",
        examples=[["128x128"]],
    )
    seeds: list[Annotated[int, Field(ge=-1, le=MAX_SEED)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MATRIX_AXIS,
        description="-1 is drawn, another one each time; left out: that of `defaults`.",
        examples=[[1, 2, 3]],
    )
    lists: dict[str, list[str]] = Field(
        default={},
        description="What `{name}` in a prompt may stand for.",
        examples=[{"material": ["iron", "gold"]}],
    )


class BatchRequest(BaseModel):
    """Many orders that are accepted together, or not at all: `orders`, or a `matrix` of them."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "potions",
                    "defaults": {"style_id": "icon"},
                    "orders": [{"prompt": "a red potion", "seed": 7}, {"prompt": "a blue potion"}],
                },
                {
                    "name": "potions",
                    "defaults": {"style_id": "icon"},
                    "matrix": {"prompts": ["a {red|blue} potion"], "seeds": [1, 2]},
                },
            ]
        },
    )

    name: Tag | None = Field(
        default=None,
        description="The same name again: what is there already is not made again (`reuse`).",
        examples=["potions"],
    )
    # Not checked here: each order is, together with the defaults.
    defaults: SkipValidation[BatchDefaults] = Field(  # pyright: ignore[reportAssignmentType] - a plain dict
        default={},
        description="Fields of every order that does not have them itself.",
        examples=[{"style_id": "icon"}],
    )
    orders: list[SkipValidation[BatchOrder]] | None = Field(
        default=None,
        min_length=1,
        description="`limits.batch_orders` of GET /v1/capabilities at most.",
        examples=[[{"prompt": "a red potion", "seed": 7}]],
    )
    matrix: Matrix | None = Field(default=None, description="Instead of `orders`.", examples=[None])
    reuse: bool | None = Field(
        default=None,
        description="Make only what no batch of this name has made or makes. Left out: true, if the batch "
        "has a name.",
        examples=[True],
    )
    webhook: str | None = Field(
        default=None,
        max_length=10_000,
        description="An https URL that is called when all jobs of the batch have ended, or when "
        "`webhook_events_filter` says; again, if that comes about again after a retry. Left out: that of "
        "your key, if it has one. `defaults.webhook` is called for each job.",
        examples=[None],
    )
    webhook_events_filter: list[BatchHookEvent] | None = Field(
        default=None,
        min_length=1,
        max_length=len(BATCH_HOOK_EVENTS),
        description="What `webhook` is called for: `queued`, `started` (the first job has begun), "
        "`completed` (all have ended). Left out: `completed`.",
        examples=[None],
    )
    dry_run: bool = Field(
        default=False,
        description="Order nothing: say how many jobs it would be, what would be reused and how long it "
        "would take.",
        examples=[False],
    )

    @field_validator("defaults", mode="before")
    @classmethod
    def _is_an_object(cls, defaults: Any) -> Any:
        if not isinstance(defaults, dict):
            raise PydanticCustomError("object", "Input should be an object")
        return defaults  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _one_way_to_say_what(self) -> BatchRequest:
        if (self.orders is None) == (self.matrix is None):
            raise InvalidField("orders", "Give either orders or a matrix.")
        return self
