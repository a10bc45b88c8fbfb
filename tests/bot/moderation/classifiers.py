"""Classifiers that the bot's own process loads by name, to see what it does about them."""

from __future__ import annotations

import os
from collections.abc import Sequence


class ByLength:
    """As explicit as there are bytes, in hundreds; a picture that says die ends the process."""

    def score(self, pictures: Sequence[bytes]) -> list[float]:
        if b"die" in pictures:
            os._exit(1)
        return [len(picture) / 100 for picture in pictures]


class NeverThere:
    def __init__(self) -> None:
        raise ImportError("Its weights are missing.")
