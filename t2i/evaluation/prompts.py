"""What is asked for: the fixed grid, and the prompts whose answers the probes know."""

from __future__ import annotations

import tomllib
from pathlib import Path

import t2i.training
from t2i.evaluation.scenes import Asked, article, between, times, wears

_OWN = Path(__file__).with_name("prompts.toml")
_HELD_OUT = Path(t2i.training.__file__).parent / "held_out.toml"

HELD_OUT = ("colours", "worn", "beside")
"""The kinds of which training composes none of these combinations."""


def grid() -> list[str]:
    prompts: list[str] = tomllib.loads(_OWN.read_text())["grid"]
    return prompts


def composed() -> dict[str, list[Asked]]:
    """Prompts of each kind that a probe asks about."""
    own, held_out = tomllib.loads(_OWN.read_text()), tomllib.loads(_HELD_OUT.read_text())
    return {
        "colours": [Asked(f"a {colour} {noun}", (noun,), colour) for colour, noun in held_out["colours"]],
        "worn": [wears(who, what) for who, what in held_out["worn"]],
        "beside": [between(one, "next to", other) for one, other in held_out["pairs"]],
        "above": [between(one, "above", other) for one, other in held_out["pairs"]],
        "counts": [times(count, noun) for count, noun in own["counts"]],
    }


def of_labels(labels: list[str]) -> list[Asked]:
    return [Asked(article(label), (label,)) for label in labels]
