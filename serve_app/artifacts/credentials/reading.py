"""What the content credentials (C2PA) in a picture say, and whether the signature holds.

Knows the library c2pa. Files come from strangers: nothing that they name is fetched.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_MANIFEST = 8 * 2**20
"""Bytes of a manifest that is still read."""
_SHOWN = 50  # actions, and problems
_UNTRUSTED = "signingCredential.untrusted"
"""Of every certificate whose root nobody has named: no fault of the file."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`state`: invalid (changed since, or badly signed), valid (the signature holds, whoever made it),
    trusted (and its root is one of the reader's). `signed_by`: the organisation, by its own word. `actions`:
    name, with the last part of the IPTC's code where one is given. `problems`: codes of the specification."""

    state: str
    signed_by: str = ""
    generator: str = ""
    title: str = ""
    actions: tuple[str, ...] = ()
    ingredients: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read_credentials(data: bytes, format: str, anchors: str = "") -> Credentials | None:
    """`format`: png, webp or jpeg. `anchors`: PEM of roots that are trusted. None: the extra `c2pa` is not
    installed, so they cannot be read."""
    try:
        import c2pa
    except ImportError:
        return None
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(f"image/{format}", io.BytesIO(data), context=context) as reader,
        ):
            return _told(json.loads(reader.json()))
    except c2pa.C2paError as error:
        return Credentials("invalid", problems=(str(error)[:200],))


def _told(store: Mapping[str, Any]) -> Credentials:
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    generators = manifest.get("claim_generator_info") or [{}]
    problems = [
        one["code"] for one in store.get("validation_status", []) if one["code"] != _UNTRUSTED
    ]
    return Credentials(
        state=str(store.get("validation_state", "invalid")).lower(),
        signed_by=_text((manifest.get("signature_info") or {}).get("issuer")),
        generator=_text(generators[0].get("name")),
        title=_text(manifest.get("title")),
        actions=tuple(_action(action) for action in actions[:_SHOWN]),
        ingredients=tuple(
            _text(one.get("title")) for one in manifest.get("ingredients", [])[:_SHOWN]
        ),
        problems=tuple(dict.fromkeys(map(_text, problems)))[:_SHOWN],
    )


def _action(action: Mapping[str, Any]) -> str:
    name = _text(action.get("action"))
    source = _text(action.get("digitalSourceType")).rpartition("/")[2]
    what = source or _text((action.get("parameters") or {}).get("name"))
    return f"{name} ({what})" if what else name


def _text(value: Any) -> str:
    return str(value or "")[:200]
