"""Which training picture a drawn one is nearest to, and how near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from t2i.evaluation.scorer import stack
from t2i.families.collage import Pixels

REACH = 3
"""Pixels by which pictures are moved to lie on each other."""
SCALES = (1.0, 0.95, 0.975, 1.025, 1.05)
"""And by how much they are scaled: a picture that is a little larger is no other picture."""
LEVEL = 1 / 255
"""What pixels are rounded to: differences below say nothing."""
_CANDIDATES = 8
_SHRINK = 4


@dataclass(frozen=True, slots=True)
class Match:
    """A training picture by its number, and the root mean square difference of premultiplied RGBA in 0..1."""

    index: int
    rmse: float


class Gallery:
    """Training pictures that can be searched by their pixels."""

    def __init__(self, pictures: Sequence[Pixels]) -> None:
        self._pictures = torch.from_numpy(_array(pictures))
        self._small = torch.cat(
            [_small(self._floats(torch.arange(first, min(first + 256, len(pictures)))))
             for first in range(0, len(pictures), 256)]
        )  # fmt: skip

    def nearest(self, picture: Pixels) -> Match:
        """The nearest picture, mirrored or not, scaled by SCALES, moved by up to REACH pixels.

        Candidates are found at a quarter of the size, where small moves hardly count.
        """
        query = stack([picture])
        scaled = torch.cat([_scaled(query, scale) for scale in SCALES])
        turns = torch.cat([scaled, scaled.flip(3)])
        distances = torch.cdist(_small(turns), self._small)
        count = min(_CANDIDATES, len(self._small))
        matches = []
        for turned, near in zip(turns, distances.topk(count, largest=False).indices, strict=True):
            rmse = aligned_rmse(turned, self._floats(near))
            best = int(rmse.argmin())
            matches.append(Match(int(near[best]), float(rmse[best])))
        return min(matches, key=lambda match: match.rmse)

    def _floats(self, which: Tensor) -> Tensor:
        return self._pictures[which].permute(0, 3, 1, 2).float() / 255


def aligned_rmse(picture: Tensor, others: Tensor) -> Tensor:
    """Root mean square differences [n] of one picture [4, h, w] to others [n, 4, h, w], each at the move of up to REACH
    pixels that brings them nearest."""
    side = picture.shape[-1]
    padded = F.pad(picture, (REACH,) * 4)
    steps = range(2 * REACH + 1)
    moved = torch.stack([padded[:, y : y + side, x : x + side] for y in steps for x in steps])
    distances = torch.cdist(others.flatten(1), moved.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    nearest: Tensor = distances.min(1).values / picture.numel() ** 0.5
    return nearest


def _scaled(pictures: Tensor, scale: float) -> Tensor:
    """Pictures [n, 4, h, w] scaled about their middle."""
    if scale == 1.0:
        return pictures
    turn = torch.tensor([[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0]]).expand(len(pictures), -1, -1)
    grid = F.affine_grid(turn, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False)


def _small(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, min(_SHRINK, pictures.shape[-1])).flatten(1)


def _array(pictures: Sequence[Pixels]) -> Pixels:
    import numpy as np

    return np.stack(pictures)
