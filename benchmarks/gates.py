"""Limits that a run must keep: each has a name, a value, a limit, and says whether it holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gate:
    name: str
    value: float
    limit: float
    ok: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def at_most(name: str, value: float, limit: float) -> Gate:
    return Gate(f"{name}, at most", _short(value), limit, value <= limit)


def at_least(name: str, value: float, limit: float) -> Gate:
    return Gate(f"{name}, at least", _short(value), limit, value >= limit)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
