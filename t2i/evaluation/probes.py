"""Questions about one property of a picture: its colour, what is worn, how many there are, which side is which.

Each is a rule or a linear probe that learns from the judges' own art and is tested on real art it never saw, so that
its answers about drawn pictures come with how often it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from t2i.evaluation.scenes import SIDE, Asked, Scene, blank
from t2i.evaluation.scorer import Scorer
from t2i.families.collage import Pixels

Probe = Callable[[Sequence[Pixels]], list[str]]
_HUES = 24
_RIDGE = 1.0


def colour_probe(scenes: Sequence[Scene]) -> Probe:
    """The colour word whose pictures have the most similar colours, on average."""
    words = sorted({scene.asked.answer for scene in scenes})
    prototypes = np.stack(
        [np.mean([_colours(scene.pixels) for scene in scenes if scene.asked.answer == word], axis=0) for word in words]
    )
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)

    def answer(pictures: Sequence[Pixels]) -> list[str]:
        return [words[int((prototypes @ _colours(pixels)).argmax())] for pixels in pictures]

    return answer


def _colours(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Square roots of the shares of each hue, and of black, grey and white, of what is opaque."""
    image = Image.fromarray(pixels, "RGBa").convert("RGBA")
    opaque = np.asarray(image)[..., 3] > 128
    if not opaque.any():
        return np.zeros(_HUES + 3)
    hue, saturation, value = np.asarray(image.convert("RGB").convert("HSV"))[opaque].T.astype(int)
    grey = (saturation * value < 45 * 255) | (value < 50)
    shades = np.digitize(value[grey], (85, 190)) + _HUES
    bins = np.concatenate([((hue[~grey] + 256 // _HUES // 2) % 256) * _HUES // 256, shades])
    shares: npt.NDArray[np.float64] = np.sqrt(np.bincount(bins, minlength=_HUES + 3) / len(bins))
    return shares


def linear_probe(scenes: Sequence[Scene], scorer: Scorer) -> Probe:
    """Ridge regression from what the scorer sees where to the answers, one against the rest (Alain 2016)."""
    words = sorted({scene.asked.answer for scene in scenes})
    features = scorer.layout([scene.pixels for scene in scenes]).double()
    mean, spread = features.mean(0), features.std(0) + 1e-6
    known = F.pad((features - mean) / spread, (0, 1), value=1.0)
    wanted = torch.tensor([[scene.asked.answer == word for word in words] for scene in scenes]).double()
    kernel = known @ known.T / known.shape[1]
    weights = known.T @ torch.linalg.solve(kernel + _RIDGE * torch.eye(len(scenes)), wanted)

    def answer(pictures: Sequence[Pixels]) -> list[str]:
        seen = F.pad((scorer.layout(pictures).double() - mean) / spread, (0, 1), value=1.0)
        return [words[int(best)] for best in (seen @ weights).argmax(1)]

    return answer


def on_their_sides(pictures: Sequence[Pixels], asked: Sequence[Asked], scorer: Scorer, *, stacked: bool) -> list[bool]:
    """Whether the first thing asked for is to the left (or above) and the second to the right (or below).

    Each half must be more like its own thing than like the other, so guessing is right in a quarter of all cases.
    """
    first, second = (scorer.read([one.things[side] for one in asked]) for side in (0, 1))
    ahead, behind = (scorer.see([_half(pixels, side, stacked) for pixels in pictures]) for side in (0, 1))
    right = (_dots(ahead, first) > _dots(ahead, second)) & (_dots(behind, second) > _dots(behind, first))
    return right.tolist()


def _dots(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(1)


def _half(pixels: Pixels, side: int, stacked: bool) -> Pixels:
    """What is opaque in one half, as a picture of its own."""
    start = side * SIDE // 2
    half = pixels[start : start + SIDE // 2] if stacked else pixels[:, start : start + SIDE // 2]
    rows, columns = (np.flatnonzero((half[..., 3] > 128).any(axis)) for axis in (1, 0))
    if not len(rows):
        return blank()
    half = half[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = half.shape[:2]
    long = max(height, width)
    square = np.zeros((long, long, 4), np.uint8)
    top, left = (long - height) // 2, (long - width) // 2
    square[top : top + height, left : left + width] = half
    image = Image.fromarray(square, "RGBa").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)
