"""R-precision: how often a picture's own caption is among the nearest of all captions (Xu 2018, §4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WITHIN = (1, 5, 20)


def r_precision(pictures: Tensor, captions: Tensor, own: Sequence[int]) -> dict[str, float]:
    """R@1, R@5 and R@20 of unit vectors: pictures [n, d], captions [m, d], and which caption is whose."""
    similar = pictures @ captions.T
    mine = similar.gather(1, torch.tensor(own)[:, None])
    ranks = (similar > mine).sum(1)
    return {f"R@{within}": float((ranks < within).float().mean()) for within in WITHIN}
