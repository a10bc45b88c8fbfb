"""Ten thousand queued jobs in short; `make drills` measures them on both databases."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import claims


async def test_a_claim_among_ten_thousand_jobs_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "ROUNDS", 100)
    outcome = await claims.measure(f"sqlite:///{tmp_path / 'queue.db'}", random.Random(1), queued=10_000, users=200)
    assert [gate for gate in outcome.gates if not gate.ok] == [], outcome.figures
