"""The documents hold together: links lead somewhere, what is named exists, and the front page is short."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import cache

from tests.documents import (
    COMMAND,
    DOCS,
    FIGURES,
    INSIDE,
    NOT_OURS,
    PATH,
    README,
    ROUTE,
    RUNNING,
    each,
    sources,
    words,
)
from tests.markdown import ROOT, Document

MOST_WORDS = 900  # of the front page: three minutes


# ---- links, files and names ----


@each([*DOCS, Document(ROOT / "serve_app/starter/CARD.md")])
def test_links_lead_somewhere_and_pictures_are_pictures(doc: Document) -> None:
    for link in doc.links:
        if link.startswith("https://"):  # what it leads to is not ours, and cannot be asked here
            continue
        file, _, anchor = link.partition("#")
        target = (doc.path.parent / file).resolve() if file else doc.path
        assert target.exists(), link
        if target.suffix == ".png":
            assert target.read_bytes().startswith(b"\x89PNG\r\n"), link
        elif target.suffix == ".svg":
            assert ET.parse(target).getroot().tag.endswith("}svg"), link
        if anchor:
            assert anchor in Document(target).anchors, link


@each([README, INSIDE, RUNNING, FIGURES])
def test_a_list_of_contents_names_every_section(doc: Document) -> None:
    sections = re.findall(r"^## (.+)$", doc.path.read_text(), re.MULTILINE)
    assert re.findall(r"^- \[(.+)\]\(#", doc.path.read_text(), re.MULTILINE) == sections


@each(DOCS)
def test_a_file_that_is_named_exists(doc: Document) -> None:
    named = {name for name in doc.names if PATH.fullmatch(name)}
    assert named
    missing = {
        name for name in named if not any((at / name).exists() for at in (ROOT, doc.path.parent))
    }
    assert missing <= {".state/"}  # the service makes it


@each(DOCS)
def test_a_name_is_one_of_the_code(doc: Document) -> None:
    """Every word in backticks, unless another test looks closer at what it is."""
    closer = (PATH, COMMAND, ROUTE)
    for name in set(doc.names) - NOT_OURS:
        if not any(kind.fullmatch(name) for kind in closer):
            assert not words(name) - words_of_the_code(), name


def test_a_file_that_a_config_names_exists() -> None:
    for path in (ROOT / "Makefile", ROOT / "serve_config.yaml", *ROOT.glob("configs/*.yaml")):
        for name in re.findall(r"serve_app/[\w/]+(?:\.\w+)?", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


@cache
def words_of_the_code() -> set[str]:
    files = [
        *sources(),
        ROOT / "Makefile",
        ROOT / "serve_config.yaml",
        *ROOT.glob("configs/*.yaml"),
    ]
    found = words("\n".join(path.read_text() for path in files))
    return found | {f"ray_{name}{end}" for name in found for end in ("", "_total")}


def test_the_tree_has_a_line_for_every_file() -> None:
    (tree,) = INSIDE.fences("text")
    folders, listed = list[str](), list[str]()
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, said = line.strip().partition(" ")
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert said.strip(), f"{name} is not explained"
            listed.append("".join(folders) + name)
    page = (p for p in (ROOT / "serve_app/web").rglob("*") if p.suffix in (".js", ".css", ".html"))
    files = [*(p for p in sources() if p.name != "__init__.py"), *page]
    there = [str(p.relative_to(INSIDE.path.parent)) for p in files]
    assert sorted(listed) == sorted(there)


def test_a_word_of_the_glossary_is_used_in_the_code() -> None:
    code = "\n".join(path.read_text() for path in sources())
    for row in INSIDE.table("word").rows:
        assert re.search(rf"(?i)\b{row[0].text}(s|es)?\b", code), row[0].text


@each(DOCS)
def test_fences_are_of_a_kind_that_is_looked_at(doc: Document) -> None:
    assert doc.languages <= {"sh", "python", "json", "text", "yaml"}
    for fence in doc.fences("python"):
        compile(fence, str(doc.path), "exec")


# ---- the front page ----


def test_the_front_page_is_read_in_three_minutes() -> None:
    assert len(README.prose.split()) <= MOST_WORDS


def test_the_life_of_a_job_has_the_same_steps_everywhere() -> None:
    """In both texts, and as numbers in the picture."""
    steps = README.steps()
    assert INSIDE.steps() == steps
    picture = (ROOT / "serve_app/architecture.svg").read_text()
    numbers = re.findall(r'class="number"[^>]*>(\d+)<', picture)
    assert sorted(map(int, numbers)) == list(range(1, len(steps) + 1))


def test_what_the_front_page_says_of_speed_was_measured() -> None:
    ratio = re.compile(r"\b[\d.]*\dx\b")
    said = set(ratio.findall(README.prose))
    assert said
    assert said <= set(ratio.findall(FIGURES.path.read_text()))


RATIO = re.compile(r"\(\S+\) against \((\S+)\), (.+?): ([\d.]+)x \[([\d.]+), ([\d.]+)\];")

MEASURES = {
    "median latency": "p50",
    "short orders' p95": "short p95",
    "images per second": "throughput",
}


def test_the_figures_are_the_measured_ones_rounded() -> None:
    measured = {
        (section.partition("\n")[0], base, measure): figures
        for section in (FIGURES.path.parent / "results/engine.md").read_text().split("### ")[1:]
        for base, measure, *figures in RATIO.findall(section)
    }
    compared = 0
    for table in FIGURES.tables:
        trace = table.head[0].partition(",")[0]
        for row in table.rows if trace in ("mixed", "uniform") else ():
            base, load = row[0].text.strip("(").split("), ")
            at = "burst-64" if load == "64 at once" else f"{trace}-{load.removeprefix('load ')}"
            for head, cell in zip(table.head[1:], row[1:], strict=True):
                if head in MEASURES:
                    figures = measured[at, base, MEASURES[head]]
                    for said, exact in zip(re.findall(r"[\d.]+", cell.text), figures, strict=True):
                        places = len(said.partition(".")[2])
                        off = abs(float(said) - float(exact))
                        assert off < 0.501 * 10**-places, (row[0].text, head)
                        compared += 1
    assert compared > 90
