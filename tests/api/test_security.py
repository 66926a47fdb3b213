"""The door: hosts, keys, headers, and what /output gives away."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import pytest

from serve_app.api.keys import ApiKeys, add_key
from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError
from tests.api.harness import ORDER, UNKNOWN_ID, MemoryRegistry, assert_problem, make_app, serving


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
async def test_allowed_hosts_may_ask(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost:x", "", "::1"]
)
async def test_other_hosts_are_refused(client: httpx.AsyncClient, host: str) -> None:
    response = await client.get("/healthz", headers={"Host": host})
    assert_problem(response, 400, "host_not_allowed")


async def test_any_host_may_ask_where_keys_are_needed(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    add_key(tmp_path / "keys", "studio")
    app = make_app(registry, tmp_path, api_keys_file=tmp_path / "keys", allowed_hosts=["*"])
    async with serving(app) as client:
        response = await client.get("/healthz", headers={"Host": "assets.example"})
    assert response.status_code == 200


async def test_the_key_says_whose_job_it_is(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Both headers; and one owner's job does not exist for another."""
    ours, theirs = add_key(tmp_path / "keys", "ours"), add_key(tmp_path / "keys", "theirs")
    async with serving(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        bearer, other = {"Authorization": f"Bearer {ours}"}, {"X-API-Key": theirs}
        job = (await client.post("/v1/generate", json=ORDER, headers=bearer)).json()
        assert registry.jobs[job["job_id"]]["owner"] == "ours"
        assert (await client.get(job["urls"]["self"], headers=bearer)).status_code == 200
        missing = await client.get(job["urls"]["self"], headers=other)
        unknown = await client.get(f"/v1/jobs/{UNKNOWN_ID}", headers=other)
    assert_problem(missing, 404, "not_found")
    assert missing.json()["detail"] == unknown.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic d3Jvbmc="},
        {"X-API-Key": "wrong"},
        {"X-API-Key": hashlib.sha256(b"the hash is no key").hexdigest()},
    ],
)
@pytest.mark.parametrize("path", ["/v1/generate", f"/v1/jobs/{UNKNOWN_ID}", "/v1/styles"])
async def test_without_a_key_is_401(
    registry: MemoryRegistry, tmp_path: Path, headers: dict[str, str], path: str
) -> None:
    digest = hashlib.sha256(b"the hash is no key").hexdigest()
    (tmp_path / "keys").write_text(f"studio:{hashlib.sha256(b'right').hexdigest()}\nx:{digest}\n")
    async with serving(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        method = "POST" if path == "/v1/generate" else "GET"
        response = await client.request(method, path, headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_open_paths_need_no_key(registry: MemoryRegistry, tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "studio")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "a.png").write_bytes(b"png")
    async with serving(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/output/a.png"):
            assert (await client.get(path)).status_code == 200, path
        document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/v1/styles"]["get"]["security"]


async def test_the_documentation_needs_no_internet(client: httpx.AsyncClient) -> None:
    """Script, style sheet and icon come from the service itself, and nothing else may run there."""
    page = await client.get("/docs")
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        assert part.startswith("/docs/"), part
        assert (await client.get(part)).status_code == 200, part
    assert "http" not in page.headers["content-security-policy"]


async def test_keys_come_and_go_while_it_serves(registry: MemoryRegistry, tmp_path: Path) -> None:
    """A revoked key is refused at once; a file that cannot be read changes nothing."""
    path = tmp_path / "keys"
    first = add_key(path, "studio")
    async with serving(make_app(registry, tmp_path, api_keys_file=path)) as client:

        async def status(key: str) -> int:
            return (await client.get("/v1/styles", headers={"X-API-Key": key})).status_code

        second = add_key(path, "artist")
        assert (await status(first), await status(second)) == (200, 200)
        path.write_text(path.read_text().splitlines()[1] + "\n")
        assert (await status(first), await status(second)) == (401, 200)
        path.write_text("half a li")
        assert (await status(first), await status(second)) == (401, 200)
        path.unlink()
        assert await status(second) == 200
        third = add_key(path, "sound")
        path.write_text("half a li\n" + path.read_text())
        assert (await status(second), await status(third)) == (401, 200)
        path.write_text("# nobody works here any more\n")
        assert await status(third) == 401


def test_a_key_file_is_read_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys"
    key = add_key(path, "studio")
    path.write_text("# who may come in\n\n" + path.read_text().strip() + "  # the artists")
    second = add_key(path, "studio")
    keys = ApiKeys.load(path)
    assert (keys.owner_of(key), keys.owner_of(second)) == ("studio", "studio")
    assert keys.owner_of("") is None
    assert key not in path.read_text()


def test_a_new_key_file_is_private(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "studio")
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", ["studio", "studio:abc", f"a b:{'0' * 64}", f":{'0' * 64}"])
def test_a_wrong_line_is_named_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(f"# keys\n{line}\n")
    with pytest.raises(ConfigError) as raised:
        ApiKeys.load(tmp_path / "keys")
    assert "keys:2:" in raised.value.detail
    assert line not in raised.value.detail


@pytest.mark.parametrize("text", [None, "# nobody yet\n"])
def test_a_key_file_without_keys_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError):
        ApiKeys.load(tmp_path / "keys")


@pytest.mark.parametrize("owner", ["", "a:b", "a b", "x" * 65, "a\nb"])
def test_an_owner_fits_its_line(tmp_path: Path, owner: str) -> None:
    with pytest.raises(ConfigError):
        add_key(tmp_path / "keys", owner)
    assert not (tmp_path / "keys").exists()


async def test_every_answer_is_hardened_and_named(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/nowhere", "/v1/styles", "/output/x.png"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-request-id"]


OUTSIDE = [
    "/output/%2e%2e/pyproject.toml",
    "/output/..%2fpyproject.toml",
    "/output/%252e%252e/pyproject.toml",
    "/output/..%5cpyproject.toml",
    "/output/%2fetc/passwd",
    "/output//etc/passwd",
    "/output/a/%2e%2e/%2e%2e/pyproject.toml",
    "/output/pyproject.toml%00.png",
    "/output/a.png%00",
    "/output/%c0%ae%c0%ae/pyproject.toml",
    "/output/..%2fsecret.png",
    "/output/%2e%2e/secret.png",
    "/output/....//secret.png",
    "/output/" + "x" * 5000 + ".png",
    "/output/a.png/b.png",
    "/output/",
    "/output",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_nothing_outside_output_is_served(
    registry: MemoryRegistry, tmp_path: Path, path: str
) -> None:
    """Not even a file of an allowed kind next to it."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "a.png").write_bytes(b"png")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "pyproject.toml").write_bytes(b"secret")
    async with serving(make_app(registry, tmp_path)) as client:
        assert_problem(await client.get(path), 404, "not_found")


async def test_the_literal_path_of_the_issue_is_refused(registry: MemoryRegistry) -> None:
    """Clients resolve `..` themselves, so the app is called with what a raw socket would send."""
    app = make_app(registry, PROJECT_ROOT)
    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/output/../pyproject.toml",
        "raw_path": b"/output/../pyproject.toml",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 404


@pytest.mark.parametrize(
    "name", [".hidden.png", "a.png.tmp", "a.part", "a.html", "a.svg", "a", ".dir/a.png"]
)
async def test_only_finished_images_are_served(
    registry: MemoryRegistry, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "output" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    async with serving(make_app(registry, tmp_path)) as client:
        assert_problem(await client.get(f"/output/{name}"), 404, "not_found")


@pytest.mark.parametrize("target", ["../secret.png", "real.png"])
async def test_no_link_is_followed(registry: MemoryRegistry, tmp_path: Path, target: str) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (output / "real.png").write_bytes(b"png")
    (output / "link.png").symlink_to(target)
    (output / "day").symlink_to(output, target_is_directory=True)
    async with serving(make_app(registry, tmp_path)) as client:
        assert (await client.get("/output/real.png")).status_code == 200
        assert_problem(await client.get("/output/link.png"), 404, "not_found")
        assert_problem(await client.get("/output/day/real.png"), 404, "not_found")


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [("png", "image/png"), ("webp", "image/webp"), ("jpg", "image/jpeg")],
)
async def test_a_finished_file_is_served_for_ever(
    registry: MemoryRegistry, tmp_path: Path, suffix: str, media_type: str
) -> None:
    (tmp_path / "output" / "2026-11-22").mkdir(parents=True)
    (tmp_path / "output" / "2026-11-22" / f"icon.{suffix}").write_bytes(b"pixels")
    async with serving(make_app(registry, tmp_path)) as client:
        response = await client.get(f"/output/2026-11-22/icon.{suffix}")
        etag = {"If-None-Match": response.headers["etag"]}
        again = await client.get(f"/output/2026-11-22/icon.{suffix}", headers=etag)
        head = await client.head(f"/output/2026-11-22/icon.{suffix}")
        post = await client.post(f"/output/2026-11-22/icon.{suffix}", json={})
    assert response.content == b"pixels"
    assert response.headers["content-type"] == media_type
    assert "immutable" in response.headers["cache-control"]
    assert again.status_code == 304
    assert (head.status_code, head.content) == (200, b"")
    assert_problem(post, 405, "method_not_allowed")
