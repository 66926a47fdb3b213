"""Everything that crosses a process border, as plain dicts.

Knows shapes, and which states are final; no rules. Dicts and not classes: the detached registry can be older
than the code that talks to it, and a pickled class would tie the two versions together.
"""

from serve_app.messages.attempts import Outcome, OutputFolder, Redraw, Ticket, WeightFiles
from serve_app.messages.batches import (
    Again,
    BatchFilter,
    BatchPage,
    BatchPlan,
    BatchReply,
    BatchRetry,
    BatchRow,
    BatchRowView,
    BatchSubmission,
    BatchView,
    FailedRow,
)
from serve_app.messages.jobs import (
    TERMINAL,
    ImageFile,
    JobError,
    JobView,
    Labels,
    PreviewImage,
    Prints,
    StoredFile,
    Submission,
    SubmitReply,
    Summary,
    Tombstone,
)
from serve_app.messages.questions import ChangesReply, Deployment, JobFilter, JobPage, WatchReply
from serve_app.messages.rendering import (
    Admitted,
    Preview,
    Progress,
    Rendered,
    RenderedImage,
    RenderEvent,
    RenderFailed,
    Report,
)

__all__ = [
    "TERMINAL",
    "Admitted",
    "Again",
    "BatchFilter",
    "BatchPage",
    "BatchPlan",
    "BatchReply",
    "BatchRetry",
    "BatchRow",
    "BatchRowView",
    "BatchSubmission",
    "BatchView",
    "ChangesReply",
    "Deployment",
    "FailedRow",
    "ImageFile",
    "JobError",
    "JobFilter",
    "JobPage",
    "JobView",
    "Labels",
    "Outcome",
    "OutputFolder",
    "Preview",
    "PreviewImage",
    "Prints",
    "Progress",
    "Redraw",
    "RenderEvent",
    "RenderFailed",
    "Rendered",
    "RenderedImage",
    "Report",
    "StoredFile",
    "Submission",
    "SubmitReply",
    "Summary",
    "Ticket",
    "Tombstone",
    "WatchReply",
    "WeightFiles",
]
