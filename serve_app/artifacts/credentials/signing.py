"""Content credentials (C2PA) of a picture: what made it, signed, in the file itself.

Knows the library c2pa and our own record. Asks nobody on a network, not even for a time stamp.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serve_app import __version__
from serve_app.artifacts.comparison import record_of
from serve_app.artifacts.credentials.certificate import CHAIN, EXTRA, KEY
from serve_app.artifacts.inspection.container import read_container
from serve_app.artifacts.inspection.xmp import KEYWORD, read_xmp
from serve_app.errors import ConfigError

CODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
AI_MADE = "trainedAlgorithmicMedia"
SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    # A thumbnail of a noisy picture is larger than the picture.
    "builder": {"thumbnail": {"enabled": False}},
}


class Signer:
    """Signs with the certificate in a folder, as `make_certificate` or an authority made it. Raises
    ConfigError: there is none, or the extra is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            import c2pa
        except ImportError as error:
            raise ConfigError(EXTRA) from error
        try:
            chain, key = (folder / CHAIN).read_bytes(), (folder / KEY).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{error.filename}: {error.strerror}; `assets c2pa make-cert {folder}` makes one"
            ) from error
        self._c2pa = c2pa
        self._info = c2pa.C2paSignerInfo(b"es256", chain, key, None)  # None: no time stamp
        try:
            c2pa.Signer.from_info(self._info).close()
        except c2pa.C2paError as error:
            raise ConfigError(f"{folder / CHAIN} cannot sign: {error}") from error

    def sign(
        self,
        data: bytes,
        title: str,
        *,
        parent: bytes | None = None,
        parent_title: str = "",
        effects: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """The same picture with a manifest: its last change, since whoever writes the file anew drops it.
        `parent`: the picture that `effects` were applied to; left out: the record in `data` says all that was
        done. Raises ConfigError."""
        kind = f"image/{read_container(data).format}"
        # What a model made and nobody has signed yet begins here; all else is a change of something before.
        begins = is_ai_made(data) and (parent is None or not read_container(parent).c2pa_bytes)
        steps = effects_of(record_of(data)) if parent is None else []
        actions = [created(record_of(data))] if begins else []
        actions += [edited(effect) for effect in (*steps, *effects)]
        manifest = {
            "claim_generator_info": [{"name": "AI Asset Generator", "version": __version__}],
            "title": title,
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
        }
        signed = io.BytesIO()
        try:
            with self._c2pa.Context.from_dict(SETTINGS) as context:
                builder = self._c2pa.Builder(json.dumps(manifest), context)
                if not begins:
                    builder.set_intent(self._c2pa.C2paBuilderIntent.EDIT)
                    before = data if parent is None else parent
                    kind_before = f"image/{read_container(before).format}"
                    named = {"title": parent_title or title, "relationship": "parentOf"}
                    ingredient = json.dumps(named)
                    builder.add_ingredient(ingredient, kind_before, io.BytesIO(before))
                signer = self._c2pa.Signer.from_info(self._info)
                builder.sign(signer, kind, io.BytesIO(data), signed)
        except self._c2pa.C2paError as error:
            raise ConfigError(f"{title} cannot be signed: {error}") from error
        return signed.getvalue()


def is_ai_made(data: bytes) -> bool:
    """It says so by the IPTC's mark, or by a record of ours."""
    texts = read_container(data).texts
    xmp = read_xmp(texts[KEYWORD]) if KEYWORD in texts else None
    return bool(record_of(data)) or (xmp is not None and xmp.source_type == AI_MADE)


def effects_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All that was done since the picture was drawn, as its record says."""
    return [effect for step in record.get("finished", []) for effect in step["effects"]]


def created(record: Mapping[str, Any]) -> dict[str, Any]:
    params = record.get("params") or {}
    agent = {"name": params.get("model"), "version": params.get("model_revision")}
    action: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": CODES + AI_MADE}
    return action | ({"softwareAgent": agent} if all(agent.values()) else {})


def edited(effect: Mapping[str, Any]) -> dict[str, Any]:
    """By a program, without a model."""
    return {"action": "c2pa.edited", "parameters": {"name": str(effect["op"])}}
