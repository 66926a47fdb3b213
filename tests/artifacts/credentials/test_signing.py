"""Content credentials, written here and read back by the library of the C2PA's reference implementation."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from PIL import Image

from serve_app.artifacts.credentials.certificate import CHAIN, KEY, ROOT, make_certificate
from serve_app.artifacts.credentials.reading import read_credentials
from serve_app.artifacts.credentials.signing import Signer
from serve_app.artifacts.inspection.inspect import inspect
from serve_app.artifacts.png import exif_of, with_metadata
from serve_app.errors import ConfigError
from serve_app.finishing.picture import Picture
from serve_app.finishing.png import read_png, write_png
from serve_app.tasks.assets import asset_of
from tests.factories import JOB_ID, params, rendered_image

CREATED = "c2pa.created (trainedAlgorithmicMedia)"
MAX = 2**24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificate")
    make_certificate(made, "Studio Nord", 30)
    return made


@pytest.fixture(scope="module")
def signer(folder: Path) -> Signer:
    return Signer(folder)


def noisy() -> bytes:
    pixels = np.random.default_rng(5).integers(0, 255, (256, 256, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def drawn() -> bytes:
    return with_metadata(rendered_image(data=noisy()), params(), JOB_ID, 1)


def finished(kind: str) -> bytes:
    """Flipped, as a job stores it."""
    asset = asset_of(drawn(), [{"op": "flip"}], "png", {})
    if kind == "png":
        return write_png(asset.picture, asset.texts)
    buffer = io.BytesIO()
    asset.picture.to_image().save(
        buffer,
        kind.upper(),
        lossless=True,
        exif=exif_of(asset.texts),
        xmp=asset.texts["XML:com.adobe.xmp"].encode(),
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_the_library_reads_what_made_the_picture(folder: Path, signer: Signer, kind: str) -> None:
    """Trusted with our root, valid without; no thumbnail, so a noisy picture grows by kilobytes only. Pixels
    and texts stay the same."""
    data = finished(kind)
    signed = signer.sign(data, "key.png")
    assert len(signed) - len(data) < 8_000
    roots = {"trust": {"user_anchors": (folder / ROOT).read_text()}}
    with c2pa.Reader(
        f"image/{kind}", io.BytesIO(signed), context=c2pa.Context.from_dict(roots)
    ) as reader:
        assert reader.get_validation_state() == "Trusted"
        manifest: Any = reader.get_active_manifest()
    (assertion,) = manifest["assertions"]
    first, second = assertion["data"]["actions"]
    assert first["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert first["softwareAgent"] == {"name": "tiny", "version": "0" * 12}
    assert second == {"action": "c2pa.edited", "parameters": {"name": "flip"}}
    found = inspect(signed, MAX)
    assert found.c2pa is not None
    assert found.c2pa.credentials is not None
    said = found.c2pa.credentials
    assert (said.state, said.signed_by, said.title) == ("valid", "Studio Nord", "key.png")
    assert said.actions == (CREATED, "c2pa.edited (flip)")
    assert said.problems == ()
    before = inspect(data, MAX)
    assert found.imprint == before.imprint
    assert found.recipe == before.recipe


def test_a_picture_that_was_signed_becomes_the_parent(signer: Signer) -> None:
    """Of a picture that nobody has signed it is not said that a model made it."""
    signed = signer.sign(drawn(), "first.png")
    picture, texts = read_png(signed)
    made = write_png(picture, texts)  # which has no manifest any more
    again = signer.sign(
        made, "second.png", parent=signed, parent_title="first.png", effects=[{"op": "trim"}]
    )
    said = read_credentials(again, "png")
    assert said is not None
    assert said.state == "valid"
    assert said.actions == ("c2pa.opened", "c2pa.edited (trim)")
    assert said.ingredients == ("first.png",)
    plain = write_png(Picture.from_image(Image.new("RGB", (8, 8), "red")), {})
    said = read_credentials(signer.sign(plain, "photo.png", parent=plain, effects=[]), "png")
    assert said is not None
    assert said.actions == ("c2pa.opened",)


def test_what_was_changed_since_is_invalid(signer: Signer) -> None:
    """Any byte of the picture; and no broken manifest stops the reader."""
    signed = signer.sign(drawn(), "key.png")
    states = set[str]()
    for at in (*range(40, 3000, 97), len(signed) // 2, len(signed) - 20):
        broken = bytearray(signed)
        broken[at] ^= 0x55
        said = read_credentials(bytes(broken), "png")
        assert said is not None
        states.add(said.state)
        if at > 3100:  # behind the manifest, which holds some bytes of padding
            assert said.state == "invalid"
            assert said.problems == ("assertion.dataHash.mismatch",)
    assert states == {"invalid", "valid"}
    for end in range(100, 4000, 301):
        said = read_credentials(signed[:end], "png")
        assert said is not None
        assert said.state == "invalid"


class Listener(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def listener() -> Generator[tuple[str, list[str]]]:
    """An address of this machine, and what was asked for there."""
    Listener.asked = []
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/m.c2pa", Listener.asked
        server.shutdown()
        thread.join()


def test_a_manifest_elsewhere_is_named_and_never_fetched(
    folder: Path, listener: tuple[str, list[str]]
) -> None:
    """The library would fetch it."""
    url, asked = listener
    chain, key = (folder / CHAIN).read_bytes(), (folder / KEY).read_bytes()
    info = c2pa.C2paSignerInfo(b"es256", chain, key, None)
    signed = io.BytesIO()
    actions = [{"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/x"}]
    manifest = {
        "title": "x",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }
    with c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}}) as context:
        builder = c2pa.Builder(json.dumps(manifest), context)
        builder.set_no_embed()
        builder.set_remote_url(url)
        builder.sign(c2pa.Signer.from_info(info), "image/png", io.BytesIO(noisy()), signed)
    with pytest.raises(c2pa.C2paError):
        c2pa.Reader("image/png", io.BytesIO(signed.getvalue()))
    assert asked == ["/m.c2pa"]
    found = inspect(signed.getvalue(), MAX)
    said = read_credentials(signed.getvalue(), "png")
    assert said is not None
    assert said.state == "invalid"
    assert asked == ["/m.c2pa"]
    assert found.c2pa is not None
    assert found.c2pa.remote_url == url


def test_a_certificate_is_renewed_below_its_root(tmp_path: Path) -> None:
    make_certificate(tmp_path, "Studio Nord", 30)
    root, chain = (tmp_path / ROOT).read_text(), (tmp_path / CHAIN).read_text()
    make_certificate(tmp_path, "Studio Nord", 30)
    assert (tmp_path / ROOT).read_text() == root
    assert (tmp_path / CHAIN).read_text() != chain
    assert (tmp_path / KEY).stat().st_mode & 0o077 == 0
    said = read_credentials(Signer(tmp_path).sign(drawn(), "x.png"), "png", root)
    assert said is not None
    assert said.state == "trusted"


def test_what_cannot_sign_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="assets c2pa make-cert"):
        Signer(tmp_path)
    (tmp_path / CHAIN).write_text("no certificate")
    (tmp_path / KEY).write_text("no key")
    with pytest.raises(ConfigError, match="cannot sign"):
        Signer(tmp_path)
    (tmp_path / ROOT).write_text("no certificate")
    with pytest.raises(ConfigError, match="cannot be read"):
        make_certificate(tmp_path, "Studio Nord", 30)
    with pytest.raises(ConfigError, match="1 to 64"):
        make_certificate(tmp_path / "new", "", 30)
