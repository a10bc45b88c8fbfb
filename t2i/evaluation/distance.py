"""How far two sets of pictures are from each other, by the means and covariances of their features."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet(one: Tensor, other: Tensor) -> float:
    """The Fréchet distance (Heusel 2017, §3) between Gaussians of features [n, d] and [m, d], in float64."""
    one, other = one.double(), other.double()
    # tr sqrt(C1 C2) by the symmetric matrix of the same eigenvalues: it needs no complex square root.
    root = _root(torch.cov(one.T))
    both = torch.linalg.eigvalsh(root @ torch.cov(other.T) @ root).clamp(min=0).sqrt().sum()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(apart + one.var(0).sum() + other.var(0).sum() - 2 * both)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root
