"""The list of batches: its query.

Knows how it is written; `api/listing.py` has the cursor.
"""

from __future__ import annotations

from pydantic import Field

from serve_app.api.listing import ListQuery
from serve_app.api.shapes import Tag
from serve_app.messages import BatchFilter


class BatchQuery(ListQuery):
    """Which batches to list."""

    PATH = "/v1/batches"

    name: Tag | None = Field(default=None, description="Of this name.", examples=["potions"])

    def filter(self) -> BatchFilter:
        wanted = BatchFilter(**super().filter())
        if self.name is not None:
            wanted["name"] = self.name
        return wanted
