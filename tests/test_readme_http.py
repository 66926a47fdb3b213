"""The documents and the HTTP interface name the same routes, fields, headers, states, events and codes."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

from serve_app import errors
from serve_app.api import problems
from serve_app.api.replies import AsOrdered, JobStatusResponse, MetricsReply
from serve_app.api.schemas import GenerateRequest
from serve_app.artifacts.names import parse_name
from serve_app.engine import runner
from serve_app.finishing import picture
from serve_app.jobs.job import Status
from tests.documents import (
    DOCS,
    INSIDE,
    NOT_OURS,
    ROUTE,
    RUNNING,
    as_written,
    bare,
    defaults,
    each,
    interface,
    operations,
    parameters,
    sources,
    words,
)
from tests.markdown import ROOT, Document


def test_the_routes_are_those_of_the_app() -> None:
    assert {bare(name) for name in INSIDE.table("route").names if " " in name} == set(operations())


def test_the_query_parameters_are_those_of_the_route() -> None:
    for row in INSIDE.table("route").rows:
        named = {n[1:].partition("=")[0] for cell in row for n in cell.names if n.startswith("?")}
        assert named == parameters(operations()[bare(row[0].names[0])], "query"), row[0].text


@each(DOCS)
def test_a_route_that_is_named_exists(doc: Document) -> None:
    """Its method may be left out."""
    known = set(operations()) | {route.partition(" ")[2] for route in operations()}
    extra = {
        "/docs",
        "/output/",
        "/v1/",
    }  # the description itself, where files are, and the interface
    for name in filter(ROUTE.fullmatch, set(doc.names) - NOT_OURS - extra):
        assert bare(name) in known, name


def test_the_fields_are_those_of_an_order() -> None:
    fields = GenerateRequest.model_fields
    table = INSIDE.table("field")
    assert table.names == set(fields)
    for row in table.rows:
        for name, said in zip(row[0].names, defaults(row[1], len(row[0].names)), strict=True):
            if said == "required" or fields[name].is_required():
                assert (said == "required") == fields[name].is_required(), name
            elif row[1].names:
                assert said == as_written(fields[name].default), name
            else:
                assert not fields[name].default, name


@each(DOCS)
def test_a_job_that_is_shown_has_the_fields_of_a_job(doc: Document) -> None:
    for fence in doc.fences("json"):
        shown: dict[str, Any] = json.loads(fence)
        assert set(shown) <= set(JobStatusResponse.model_fields)
        assert set(shown["request"]) <= set(AsOrdered.model_fields)
        assert set(shown["metrics"]) <= set(MetricsReply.model_fields)
        for url in shown["result_urls"]:
            name = parse_name(url.rpartition("/")[2])
            assert name is not None
            assert url == f"/output/{name.path}"


def test_the_headers_are_those_of_the_interface() -> None:
    named = {re.split("[:=]", name)[0] for name in INSIDE.table("header").names}
    also = {name for row in INSIDE.table("header").rows for name in row[1].names}
    taken = {n for o in operations().values() for n in parameters(o, "header")}
    given = {
        name.lower()
        for operation in operations().values()
        for response in operation["responses"].values()
        for name in response.get("headers", {})
    }
    mentioned = {name.partition(":")[0].lower() for name in named | also}
    assert (taken | given) - {"prefer"} - mentioned == set()
    api = "\n".join(p.read_text().lower() for p in (ROOT / "serve_app/api").rglob("*.py"))
    for name in named:
        header = name.partition(":")[0].lower()
        assert header in api or header.replace("-", "_") in api, name


def test_the_states_are_those_of_a_job() -> None:
    assert INSIDE.table("state").names == set(Status)


def test_the_reasons_to_wait_are_those_of_a_job() -> None:
    """As its own description lists them."""
    fields = interface()["components"]["schemas"]["JobStatusResponse"]["properties"]
    known = set(re.findall(r"`(\w+)`", fields["waiting_for"]["description"]))
    (said,) = re.findall(
        r"`waiting_for` what holds\s+it: (.+?)\.\n", INSIDE.path.read_text(), re.DOTALL
    )
    assert set(re.findall(r"`(\w+)`", said)) == known
    trouble = [n for n in RUNNING.table("what you see").names if n.startswith("waiting_for")]
    assert {name.partition(": ")[2] for name in trouble} <= known


def test_the_events_are_those_of_a_stream() -> None:
    stream = (ROOT / "serve_app/api/streams/stream.py").read_text()
    assert INSIDE.table("event").names == set(re.findall(r'(?:_event\(|event=)"(\w+)"', stream))


def test_the_codes_are_those_of_the_errors() -> None:
    tables = [INSIDE.table("code of a request"), INSIDE.table("code of a failed or revoked job")]
    (unseen,) = [line for line in INSIDE.prose.splitlines() if "A client never sees" in line]
    named = set[str]().union(*(table.names for table in tables)) | (words(unseen) & codes())
    assert named == codes()
    for row in tables[0].rows:
        for code in row[0].names:
            assert status_of(code) in (None, int(row[1].text)), code


@functools.cache
def codes() -> set[str]:
    """Of every error class, and of every error that is made without one."""
    found = {kind.code for kind in error_classes()}
    found |= set(problems.CODES.values()) | set(problems.REFUSALS)
    calls = [
        node
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    for call in calls:
        given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        if ast.unparse(call.func) in ("refusal", "_problem"):
            given += call.args[:2]
        texts = [node.value for node in given if isinstance(node, ast.Constant)]
        found |= {
            text for text in texts if isinstance(text, str) and text.islower() and " " not in text
        }
    return found | {"deleted", "expired"}  # what is left of a job says which


def status_of(code: str) -> int | None:
    """None: it depends on who says it."""
    by_class = {kind.code: kind.status for kind in error_classes() if kind.status != 500}
    by_status = {code: status for status, code in problems.CODES.items()}
    return (by_class | by_status | problems.REFUSALS).get(code)


def error_classes() -> Iterator[type[errors.ServiceError]]:
    kinds = [errors.ServiceError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {runner.DeviceLost, picture.EffectFailed} < set(kinds)
    return (kind for kind in kinds if kind is not problems.Refused)
