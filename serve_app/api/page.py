"""The page in the browser: its files, read once, each with its type and how long it may be kept. All styles
are one file, and what shrinks is kept compressed as well.

Knows names, bytes and links; nothing of what the page does.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from posixpath import dirname, normpath

from starlette.responses import Response

from serve_app.api.headers import names_revision

FOLDER = Path(__file__).resolve().parent.parent / "web"
FRONT = "index.html"
MAIN = "main.js"
STYLE = "style.css"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".webmanifest": "application/manifest+json",
}
"""What is served, beside the front page. Whatever else lies in the folder is for its authors."""

DOCUMENTATION = re.compile(rb"^[ \t]*/\*\*(?:(?!\*/).)*\*/$", re.MULTILINE | re.DOTALL)
"""A fifth of the modules is for readers and for the type checker, and no browser needs it."""
REMARK = re.compile(rb"^[ \t]*//[^\n]*$|/\*\* @(?:(?!\*/)[^\n])*\*/ ?", re.MULTILINE)
"""The same of a line of its own, and of types within a line."""

FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)
"""In `Accept-Encoding`, unless with a weight of zero."""
IMPORT = re.compile(rb'^import (?:[^"\n]* from )?"([^"]+)";$', re.MULTILINE)
"""A module that is needed at once. Those that `import()` names are fetched when they are."""


@dataclass(frozen=True, slots=True)
class PageFile:
    body: bytes
    media_type: str

    @property
    def shrinks(self) -> bool:
        return not self.media_type.endswith("webp")


class WebPage:
    """Every file below `folder`. Their links hold `version`, a hash of all of them, so that a browser may
    keep each for ever and never mixes two versions."""

    def __init__(self, folder: Path = FOLDER) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in TYPES)
        names = {path: path.relative_to(folder).as_posix() for path in paths}
        styles = [path for path in paths if path.suffix == ".css"]
        self._files = {
            names[path]: PageFile(_served(path), TYPES[path.suffix])
            for path in paths
            if path not in styles
        }
        # A view has its own, and all come with one request, before which nothing can be seen.
        styles.sort(key=lambda path: (names[path] != STYLE, names[path]))
        whole = b"\n".join(path.read_bytes() for path in styles)
        self._files[STYLE] = PageFile(whole, TYPES[".css"])
        self._small = {
            name: gzip.compress(file.body, mtime=0)
            for name, file in self._files.items()
            if file.shrinks
        }
        self._front = (folder / FRONT).read_text(encoding="utf-8")
        # Without them a browser would find each module only when it has read the one before.
        self._preloads = "\n    ".join(
            f'<link rel="modulepreload" href="{{{{FILES}}}}/{name}" />' for name in self._at_once()
        )
        digest = hashlib.sha256(self._front.encode())
        for name, file in self._files.items():
            digest.update(f"\n{name} {len(file.body)}\n".encode() + file.body)
        self.version = digest.hexdigest()[:16]

    def front(self, root: str, if_none_match: str | None = None) -> Response:
        """The page itself. `root`: prefix of every link. Asked for again each time, since its links change
        with every version."""
        tag = hashlib.sha256(f"{self.version} {root}".encode()).hexdigest()[:16]
        headers = {"ETag": f'W/"{tag}"', "Cache-Control": ASK_AGAIN}
        if if_none_match and names_revision(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        text = self._front.replace("{{PRELOADS}}", self._preloads)
        for name, link in (("FILES", f"{root}/web/{self.version}"), ("ROOT", root)):
            text = text.replace(f"{{{{{name}}}}}", escape(link))
        return Response(text, headers=headers, media_type="text/html; charset=utf-8")

    def file(self, version: str, name: str, encodings: str = "") -> Response | None:
        """`encodings`: its `Accept-Encoding`. None: there is no such file, or no longer: of another version
        nothing is served, lest a page that was half loaded before a redeploy gets half of the new one."""
        file = self._files.get(name) if version == self.version else None
        if file is None:
            return None
        headers = {"Cache-Control": FOR_EVER}
        body = file.body
        if file.shrinks:
            headers["Vary"] = "Accept-Encoding"
            if GZIP.search(encodings):
                headers["Content-Encoding"] = "gzip"
                body = self._small[name]
        return Response(body, headers=headers, media_type=file.media_type)

    def _at_once(self) -> list[str]:
        """The modules without which nothing is shown: what `main.js` imports, and what those import."""
        found, left = set[str](), [MAIN]
        while left:
            name = left.pop()
            if name in found or name not in self._files:
                continue
            found.add(name)
            targets = IMPORT.findall(self._files[name].body)
            left += [
                normpath(f"{dirname(name)}/{target.decode()}").lstrip("/") for target in targets
            ]
        return sorted(found)


def _served(path: Path) -> bytes:
    """Without documentation, and with every line where it was, so that an error names the right one."""
    content = path.read_bytes()
    if path.suffix != ".js":
        return content
    content = DOCUMENTATION.sub(lambda found: b"\n" * found[0].count(b"\n"), content)
    return REMARK.sub(b"", content)
