"""The page's files over HTTP: who may fetch them, how long they may be kept, and what they may do there."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.page import FOLDER, FRONT, TYPES, WebPage
from serve_app.api.security import PAGE_POLICY
from tests.api.harness import LocalTransport, assert_problem, keys_of, make_app, serving
from tests.api.test_forwarded import PREFIX, below

MOST_SCRIPT = 150_000
"""Bytes of all modules, as they are served."""
IMPORT = re.compile(r'^import (?:[^"\n]* from )?"([^"]+)";$', re.MULTILINE)
LATER = re.compile(r'\bimport\("([^"]+)"\)')
LINK = re.compile(r'(?:href|src)="([^"]*/web/[^"]+)"')
HTML_OF_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
)


COMMENT = re.compile(r"/\*.*?\*/|(?m:^|\s)//[^\n]*", re.DOTALL)


def modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(FOLDER.rglob("*.js")):
        yield path, path.read_text()


async def links(client: httpx.AsyncClient, path: str = "/") -> list[str]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return LINK.findall(response.text)


async def test_the_page_and_all_it_links_to_is_there(client: httpx.AsyncClient) -> None:
    found = await links(client)
    assert len(found) > 20
    assert sum(link.endswith(".css") for link in found) == 1
    for link in found:
        response = await client.get(link)
        assert response.status_code == 200, link
        assert response.headers["content-type"] == TYPES[Path(link).suffix]
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (await client.head(link)).status_code == 200


async def test_a_page_that_is_known_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get("/", headers={"If-None-Match": '"other"'})).status_code == 200
    head = await client.head("/")
    assert (head.status_code, head.content) == (200, b"")


async def test_the_policy_lets_no_script_in_but_the_pages_own(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers.get_list("content-security-policy") == [PAGE_POLICY]
    assert "unsafe" not in PAGE_POLICY
    assert "require-trusted-types-for 'script'" in PAGE_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", response.text)


async def test_the_page_needs_no_key_and_shows_nothing_without(
    transport: LocalTransport, tmp_path: Path
) -> None:
    keys_of(tmp_path / "keys", "studio")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        for link in ["/", *await links(client)]:
            assert (await client.get(link)).status_code == 200
        assert_problem(await client.get("/v1/jobs"), 401, "unauthorized")


@pytest.mark.parametrize("typed", ["/", ""])
async def test_links_have_the_prefix(transport: LocalTransport, typed: str) -> None:
    app = make_app(transport)
    async with app.router.lifespan_context(app), below(app, ("127.0.0.1", 1), PREFIX) as client:
        text = (await client.get(PREFIX + typed)).text
        assert f'<meta name="root" content="{PREFIX}" />' in text
        found = LINK.findall(text)
        assert found
        for link in found:
            assert link.startswith(f"{PREFIX}/web/")
            assert (await client.get(link)).status_code == 200


async def test_a_prefix_is_text(transport: LocalTransport) -> None:
    """It comes from a config or from a trusted proxy, and still nothing of it becomes markup."""
    front = WebPage().front('/"><script>x</script>')
    assert b"<script>x" not in front.body


async def test_nothing_else_of_the_folder_is_served(client: httpx.AsyncClient) -> None:
    files = f"/web/{WebPage().version}"
    assert (await client.get(f"{files}/main.js")).status_code == 200
    for name in (
        "tsconfig.json",
        FRONT,
        "types.d.ts",
        "../app.py",
        "%2e%2e/app.py",
        "lib",
        "lib/",
        "",
    ):
        assert (await client.get(f"{files}/{name}")).status_code == 404, name


async def test_files_of_another_version_are_gone(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/web/0123456789abcdef/main.js"), 404, "not_found")


async def test_the_version_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / FRONT).write_text("{{FILES}}")
    (tmp_path / "a.js").write_text("1")
    before = WebPage(tmp_path)
    assert WebPage(tmp_path).version == before.version
    (tmp_path / "a.js").write_text("2")
    after = WebPage(tmp_path)
    assert after.version != before.version
    assert after.front("").headers["etag"] != before.front("").headers["etag"]


async def test_a_service_without_the_page(transport: LocalTransport) -> None:
    async with serving(make_app(transport, page=False)) as client:
        for path in ("/", f"/web/{WebPage().version}/main.js"):
            assert_problem(await client.get(path), 404, "not_found")


def test_every_import_is_a_file_that_is_there() -> None:
    """With its suffix, since nothing rewrites it. Types are imported in comments only."""
    found = 0
    for path, text in modules():
        for target in [*IMPORT.findall(text), *LATER.findall(COMMENT.sub("", text))]:
            assert target.startswith(("./", "../")), f"{path}: {target}"
            assert (path.parent / target).resolve().is_file(), f"{path}: {target}"
            found += 1
    assert found > 50


def test_no_module_makes_html_of_text() -> None:
    wrong = {path.name: HTML_OF_TEXT.findall(text) for path, text in modules()}
    assert {name: found for name, found in wrong.items() if found} == {}


async def test_the_page_is_small(client: httpx.AsyncClient) -> None:
    files = f"/web/{WebPage().version}"
    names = [path.relative_to(FOLDER).as_posix() for path, _ in modules()]
    sizes = [len((await client.get(f"{files}/{name}")).content) for name in names]
    assert sum(sizes) <= MOST_SCRIPT


async def test_what_is_seen_first_is_loaded_first(client: httpx.AsyncClient) -> None:
    """What the first look needs, and nothing else, is linked from the page."""
    linked = {link.split("/", 3)[3] for link in await links(client) if link.endswith(".js")}
    assert {"main.js", "order/order.js", "gallery/gallery.js", "lib/store.js"} <= linked
    names = {path.relative_to(FOLDER).as_posix(): text for path, text in modules()}
    later = names.keys() - linked
    assert {"later.js", "picture/picture.js", "mask/mask.js"} <= later
    assert len(linked) + len(later) == len(names)


async def test_styles_come_as_one_file(client: httpx.AsyncClient) -> None:
    (link,) = [link for link in await links(client) if link.endswith(".css")]
    whole = (await client.get(link)).text
    for path in FOLDER.rglob("*.css"):
        assert path.read_text() in whole
    assert whole.startswith((FOLDER / "style.css").read_text())


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("br;q=1, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, br", None),
        ("gzip ; q=0.0", None),
        ("identity", None),
        ("", None),
    ],
)
async def test_what_shrinks_is_sent_small(
    client: httpx.AsyncClient, accepted: str, encoding: str | None
) -> None:
    files = f"/web/{WebPage().version}"
    headers = {"Accept-Encoding": accepted}
    whole = (await client.get(f"{files}/texts.js")).content
    async with client.stream("GET", f"{files}/texts.js", headers=headers) as response:
        assert response.headers.get("content-encoding") == encoding
        assert response.headers["vary"] == "Accept-Encoding"
        sent = b"".join([part async for part in response.aiter_raw()])
    assert (gzip.decompress(sent) if encoding else sent) == whole
    assert (len(sent) < len(whole) / 2) == (encoding is not None)
    picture = await client.get(f"{files}/samples/icon.webp", headers=headers)
    assert "content-encoding" not in picture.headers


def test_what_is_served_lacks_documentation_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / FRONT).touch()
    lines = [
        "/** @type {x} */ (y).z();",
        "/**",
        " * What it is.",
        " */",
        "a = `/** no */`; // kept",
        "  /** @param {x} y */",
        "b = `//${1}`;",
        "  // why",
    ]
    (tmp_path / "a.js").write_text("\n".join(lines))
    page = WebPage(tmp_path)
    served = page.file(page.version, "a.js")
    assert served is not None
    assert bytes(served.body).decode().split("\n") == [
        *("(y).z();", "", "", "", lines[4], "", lines[6], "")
    ]


def test_no_module_is_served_with_other_code_than_it_has() -> None:
    page = WebPage()
    for path, text in modules():
        served = page.file(page.version, path.relative_to(FOLDER).as_posix())
        assert served is not None
        code = [
            "".join(COMMENT.sub("", one).split()) for one in (text, bytes(served.body).decode())
        ]
        assert code[0] == code[1], path


def test_every_module_says_what_it_is() -> None:
    for path, text in modules():
        assert text.startswith("/**"), path


def test_words_that_people_read_are_in_one_file() -> None:
    """Whoever translates the page reads `texts.js` alone."""
    sentence = re.compile(r"""["'`]([A-Z][a-z]+ [a-z]+ [a-z ]+)[."'`]""")
    wrong: dict[str, Any] = {
        path.name: found
        for path, text in modules()
        if path.name != "texts.js"
        and (found := sentence.findall(re.sub(r"/\*.*?\*/|//.*", "", text, flags=re.S)))
    }
    assert wrong == {}
