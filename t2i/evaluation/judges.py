"""The probes of each kind of prompt, and how often each is right about real pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from t2i.evaluation.probes import colour_probe, linear_probe, on_their_sides
from t2i.evaluation.scenes import Asked, Scene, Scenes
from t2i.evaluation.scorer import Scorer
from t2i.families.collage import Pixels
from t2i.training.data import Art

Judge = Callable[[Sequence[Pixels], Sequence[Asked]], list[bool]]
LEARNING, TESTING = 1, 2
"""Seeds."""


class Judges:
    """Say whether pictures are what was asked for, kind by kind."""

    def __init__(self, scorer: Scorer, unseen: Sequence[Art], learned: int) -> None:
        """The probes learn from `learned` scenes each, composed of art that the checkpoint never saw."""
        scenes = Scenes(unseen, LEARNING)
        colour = colour_probe([scenes.tinted() for _ in range(learned)])
        worn = linear_probe([scenes.wearing() for _ in range(learned)], scorer)
        count = linear_probe([scenes.several() for _ in range(learned)], scorer)
        self._judges: dict[str, Judge] = {
            "colours": _answering(colour),
            "worn": _answering(worn),
            "beside": lambda pictures, asked: on_their_sides(pictures, asked, scorer, stacked=False),
            "above": lambda pictures, asked: on_their_sides(pictures, asked, scorer, stacked=True),
            "counts": _answering(count),
        }

    def right(self, kind: str, pictures: Sequence[Pixels], asked: Sequence[Asked]) -> float:
        """The share of pictures that are what was asked for."""
        return float(np.mean(self._judges[kind](pictures, asked)))

    def on_real(self, arts: Sequence[Art], count: int) -> dict[str, float]:
        """The same for `count` scenes of each kind composed of real art: more than the judges themselves can see cannot
        be asked of a drawing."""
        scenes = Scenes(arts, TESTING)
        kinds: dict[str, Callable[[], Scene]] = {
            "colours": scenes.tinted,
            "worn": scenes.wearing,
            "beside": scenes.beside,
            "above": scenes.above,
            "counts": scenes.several,
        }
        found = {}
        for kind, compose in kinds.items():
            pictures, asked = zip(*(compose() for _ in range(count)), strict=True)
            found[kind] = self.right(kind, pictures, asked)
        return found


def _answering(probe: Callable[[Sequence[Pixels]], list[str]]) -> Judge:
    return lambda pictures, asked: [answer == one.answer for answer, one in zip(probe(pictures), asked, strict=True)]
