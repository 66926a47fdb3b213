"""The command: a PNG in, a finished PNG and a sheet out, and sentences for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from serve_app.finishing.__main__ import main, words_to_entry
from serve_app.finishing.looks import GAP, TILE, before_after
from serve_app.finishing.png import read_png, write_png
from tests.finishing.sprites import sprite


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    path = tmp_path / "drawn.png"
    path.write_bytes(write_png(sprite(64).drawn, {"parameters": "a sprite"}))
    return path


def test_a_picture_is_finished_and_keeps_its_texts(drawn: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "out.png", tmp_path / "sheet.png"
    code = main([str(drawn), "--effect", "cutout", "--effect", "pixelate width=16",
                 "--effect", "palette name=gameboy_4", "--out", str(out), "--sheet", str(sheet)])  # fmt: skip
    assert code == 0
    picture, texts = read_png(out.read_bytes())
    assert (picture.width, picture.has_alpha, dict(texts)) == (16, True, {"parameters": "a sprite"})
    with Image.open(sheet) as image:
        assert image.width == 5 * TILE + 6 * GAP


def test_it_says_what_each_effect_found(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            str(drawn),
            "--effect",
            "cutout",
            "--effect",
            "pivot anchor=bottom",
            "--out",
            str(tmp_path / "o.png"),
        ]
    )
    said = capsys.readouterr().out
    assert "cutout: Cut from #00c800" in said
    assert "pivot 0.500 1.000" in said


def test_a_normal_map_is_written_beside_the_picture(drawn: Path, tmp_path: Path) -> None:
    main([str(drawn), "--effect", "normal_map", "--out", str(tmp_path / "o.png")])
    with Image.open(tmp_path / "o_normal_map.png") as image:
        assert image.size == (64, 64)


def test_a_palette_can_be_named_by_its_file(drawn: Path, tmp_path: Path) -> None:
    palette = tmp_path / "two.hex"
    palette.write_text("000000\nffffff\n")
    out = tmp_path / "o.png"
    assert main([str(drawn), "--effect", f"palette name={palette}", "--out", str(out)]) == 0
    assert {tuple(c) for c in read_png(out.read_bytes())[0].rgb.reshape(-1, 3)} <= {
        (0,) * 3,
        (255,) * 3,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("blur", "effects.0.op: no effect 'blur'. Allowed: cutout, trim"),
        (
            "trim margin=3",
            "effects.0.trim.margin: trim has no such field. Allowed: padding, threshold",
        ),
        ("pixelate width=9000", "effects.0.pixelate.width"),
        ("pixelate 64", "'64' is not field=value"),
        ("palette name=x", "no palette 'x'. Allowed: asset_16"),
        ("pixelate width=900", "effect 1, pixelate: 900x900 pixels cannot be made of 64x64"),
        ("", "does not name an operation"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_and_nothing_is_written(
    words: str, said: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.png"
    assert main([str(drawn), "--effect", words, "--out", str(out)]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_file_that_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.png"), "--out", str(tmp_path / "o.png")]) == 1
    assert "none.png" in capsys.readouterr().err


def test_words_become_numbers_lists_and_texts() -> None:
    words = "palette colors=#000000,#ffffff dither=bayer4 count=3 share=0.5 yes=true one=#123456"
    assert words_to_entry(words, 0) == {
        "op": "palette", "colors": ["#000000", "#ffffff"], "dither": "bayer4", "count": 3, "share": 0.5,
        "yes": True, "one": "#123456",
    }  # fmt: skip


def test_the_sheet_shows_before_and_after_on_four_grounds() -> None:
    truth = sprite(128).truth
    sheet = before_after(sprite(128).drawn, truth)
    corner = [sheet.getpixel((GAP + i * (TILE + GAP) + 1, GAP + 1)) for i in (0, 2, 3, 4)]
    assert corner == [(0, 200, 0), (0, 0, 0), (255, 255, 255), (143, 0, 255)]
