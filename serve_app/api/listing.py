"""Lists: their query and their cursor; and the list of jobs, a page as clients get it.

Knows how they are written; asks nobody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from serve_app.api.changes import MOST_STARS
from serve_app.api.replies import JOB_ID, JobStatusResponse, Status
from serve_app.api.shapes import Tag
from serve_app.errors import InvalidParameter
from serve_app.messages import JobFilter

MAX_PAGE = 100
"""Jobs. A page of this size takes at most 50 ms from a store of a million jobs with a cold cache."""


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*")
_LOST_PLUS = re.compile(r"(?<=[0-9]) (?=[0-9]{2}:?[0-9]{2}$)")


def _dated(value: Any) -> Any:
    """Pydantic takes a bare number for seconds since 1970."""
    if isinstance(value, str) and not _DATE.fullmatch(value):
        raise ValueError("Write it like 2026-11-22T16:00:00Z")
    # In a query, a plus that was not written as %2B is a space.
    return _LOST_PLUS.sub("+", value) if isinstance(value, str) else value


Moment = Annotated[datetime, BeforeValidator(_dated)]


_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Its words, as the search takes them: each once, letters and digits only."""
    return list(dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", text).lower())))


class ListQuery(BaseModel):
    """Which page of a list. A cursor goes with the filters it came from."""

    model_config = ConfigDict(extra="forbid")
    PATH: ClassVar[str]

    status: list[Status] = Field(
        default=[], max_length=6, description="Any of these.", examples=[["SUCCESS"]]
    )
    created_after: Moment | None = Field(
        default=None,
        description="Ordered at this moment or later, RFC 3339.",
        examples=["2026-11-22T16:00:00Z"],
    )
    created_before: Moment | None = Field(
        default=None, description="Ordered before, RFC 3339.", examples=["2026-11-23T00:00:00Z"]
    )
    limit: int = Field(
        default=100, ge=1, le=MAX_PAGE, description="Most of them on a page.", examples=[100]
    )
    cursor: str | None = Field(
        default=None,
        max_length=200,
        description="From `next` or `previous` of another page; it goes with the same filters.",
    )

    def filter(self) -> Mapping[str, Any]:
        """What is wanted, apart from the page, as the registry takes it."""
        wanted: dict[str, Any] = {}
        if self.status:
            wanted["statuses"] = sorted(set(self.status))
        if self.created_after is not None:
            wanted["created_after"] = _seconds(self.created_after)
        if self.created_before is not None:
            wanted["created_before"] = _seconds(self.created_before)
        return wanted

    def bounds(self, owner: str) -> tuple[int | None, int | None]:
        """Numbers, (before, after): one of them is set if there is a cursor. Raises
        InvalidParameter unless the cursor was made for this owner and these filters."""
        if self.cursor is None:
            return None, None
        try:
            data = base64.urlsafe_b64decode(self.cursor.encode() + b"==")
        except ValueError:
            data = b""
        way, number, mark = data[:1], data[1:9], data[9:]
        if way not in (b"b", b"a") or mark != self._mark(owner, way + number):
            raise InvalidParameter(
                "cursor",
                "not one of this list",
                ["`next` or `previous` of a page, filters and all"],
            )
        place = int.from_bytes(number, "big", signed=True)
        return (place, None) if way == b"b" else (None, place)

    def path(
        self, owner: str, way: Literal["before", "after"], number: int | None, root: str = ""
    ) -> str | None:
        """Path of the page `before` or `after` this number; None without a number. `root`: its
        prefix."""
        if number is None:
            return None
        start = way[:1].encode() + number.to_bytes(8, "big", signed=True)
        cursor = base64.urlsafe_b64encode(start + self._mark(owner, start)).rstrip(b"=").decode()
        query = self.model_dump(mode="json", exclude={"cursor"}, exclude_defaults=True)
        return f"{root}{self.PATH}?" + urlencode(query | {"cursor": cursor}, doseq=True)

    def _mark(self, owner: str, start: bytes) -> bytes:
        """Checksum that ties a cursor to owner and filters. It needs no secret: a forged cursor shows
        nothing but what is the owner's own."""
        used_for = json.dumps([owner, self.filter()], sort_keys=True).encode()
        return hashlib.sha256(start + used_for).digest()[:9]


class JobQuery(ListQuery):
    """Which jobs to list."""

    PATH = "/v1/jobs"

    style_id: str | None = Field(
        default=None, max_length=100, description="Of this style.", examples=["icon"]
    )
    model: str | None = Field(
        default=None,
        max_length=100,
        description="Drawn by this model. What was finished or packed of its pictures is not of it.",
        examples=["starter"],
    )
    tag: Tag | None = Field(default=None, description="With this tag.", examples=["level-3"])
    batch_id: str | None = Field(
        default=None,
        max_length=100,
        description="Of this batch, those that it reuses too.",
        examples=[JOB_ID],
    )
    q: str | None = Field(
        default=None,
        max_length=200,
        description="With all these words in the prompt, or in that of the job it was derived from, in any "
        "order. A word finds longer ones that begin so; case and accents make no difference.",
        examples=["red pot"],
    )
    starred: bool | None = Field(
        default=None, description="With an image that is starred, or is not.", examples=[True]
    )
    rejected: bool | None = Field(
        default=None, description="With an image that is rejected, or is not.", examples=[False]
    )
    rating: int | None = Field(
        default=None,
        ge=1,
        le=MOST_STARS,
        description="With an image of so many stars or more. What is asked of stars, rejection and rating "
        "must be true of one and the same image.",
        examples=[4],
    )

    @field_validator("q")
    @classmethod
    def _has_words(cls, text: str | None) -> str | None:
        if text is not None and not words_of(text):
            raise PydanticCustomError("no_words", "Needs at least one letter or digit")
        return text

    def filter(self) -> JobFilter:
        wanted = JobFilter(**super().filter())
        if self.style_id is not None:
            wanted["style_id"] = self.style_id
        if self.model is not None:
            wanted["model"] = self.model
        if self.tag is not None:
            wanted["tag"] = self.tag
        if self.batch_id is not None:
            wanted["batch_id"] = self.batch_id
        if self.q is not None:
            wanted["words"] = words_of(self.q)
        if self.starred is not None:
            wanted["starred"] = self.starred
        if self.rejected is not None:
            wanted["rejected"] = self.rejected
        if self.rating is not None:
            wanted["rating"] = self.rating
        return wanted


class JobList(BaseModel):
    """A page, newest first. A page may be short although there are more: go on while there is a `next`."""

    next: str | None = Field(
        description="Path of the page with older jobs; null: this is the last.",
        examples=["/v1/jobs?cursor=YgAGQx1uZ2F0aW9u"],
    )
    previous: str | None = Field(description="Path of the page with newer jobs.", examples=[None])
    results: list[JobStatusResponse] = Field(
        description=f"Jobs as GET /v1/jobs/{JOB_ID} shows them."
    )


def _seconds(moment: datetime) -> float:
    """Unix seconds. A time without an offset is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
