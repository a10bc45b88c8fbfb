"""docs/t2i.md: its session runs, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "t2i.md").read_text()


def test_the_session_draws_what_diffusers_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (session,) = re.findall(r"```python\n(.+?)```", GUIDE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(session, "docs/t2i.md", "exec"), names)
    assert names["difference"] <= 2


def test_every_claim_names_a_test_that_is_there() -> None:
    named = dict(re.findall(r"^(\d+)\. `(tests/[^`]+)`", GUIDE, re.MULTILINE))
    table = GUIDE[GUIDE.index("| | cascade |") : GUIDE.index("1. `tests/")]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.strip().splitlines()[2:]]
    assert all(len(row) == 7 for row in rows)
    for row in rows:
        for cell in row[1:]:
            # Whatever can be done, or is refused with a sentence, has a number; what nobody tried says so.
            assert cell in ("–", "not tested") or re.search(r"\d+$", cell), row
    used = {number for row in rows for cell in row[1:] for number in re.findall(r"\d+$", cell)}
    assert used == set(named)
    for place in named.values():
        file, _, name = place.partition("::")
        assert not name or f"def {name}(" in (ROOT / file).read_text(), place
