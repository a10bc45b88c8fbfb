"""What the embedded checkpoint must reach."""

from __future__ import annotations

from dataclasses import dataclass

AT_LEAST = {"R@5 over seen labels": 0.45, "colours": 0.8, "layout": 0.8}
AT_MOST = {"seconds, small": 5.0, "seconds, large": 15.0, "nearer to training art than their collages": 0.0}


@dataclass(frozen=True, slots=True)
class Gate:
    name: str
    value: float
    limit: float
    holds: bool


def check(name: str, value: float) -> Gate:
    """The gate of a figure that AT_LEAST or AT_MOST names."""
    if name in AT_LEAST:
        return Gate(f"{name}, at least", value, AT_LEAST[name], value >= AT_LEAST[name])
    return Gate(f"{name}, at most", value, AT_MOST[name], value <= AT_MOST[name])
