"""Rendering other makers' art: by code point, whatever a set calls it, and with a sentence when nothing renders."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.training.sources import FetchError, Icons


def icons(folder: Path, chars: dict[str, str], names: list[str], like: Icons | None = None) -> Icons:
    folder.mkdir()
    (folder / "info.json").write_text(json.dumps({"prefix": folder.name}))
    (folder / "chars.json").write_text(json.dumps(chars))
    body = '<rect width="16" height="16" fill="#f00"/>'
    content = {"icons": {name: {"body": body} for name in names}, "width": 32, "height": 32}
    (folder / "icons.json").write_text(json.dumps(content))
    return Icons(folder, like)


def test_a_code_point_is_rendered_and_sets_may_share_names(tmp_path: Path) -> None:
    first = icons(tmp_path / "one", {"1f600": "grinning-face"}, ["grinning-face"])
    second = icons(tmp_path / "two", {}, ["grinningface"], first)
    for number, one in enumerate((first, second)):
        file = tmp_path / "out" / f"{number}.webp"
        assert one.render("1f600", file) and not one.render("1f601", file)
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
        assert pixels.shape == (128, 128, 4)
        assert tuple(pixels[32, 32]) == (255, 0, 0, 255) and pixels[100, 100, 3] == 0


def test_without_its_renderer_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = icons(tmp_path / "one", {"1f600": "a"}, ["a"])
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(FetchError, match="pip install"):
        one.render("1f600", tmp_path / "a.webp")
