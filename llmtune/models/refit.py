"""The weights with which a linear layer makes up for inputs that it no longer gets."""

from __future__ import annotations

import torch
from torch import Tensor


def refit(weight_OI: Tensor, moments_II: Tensor, wanted_OI: Tensor, ridge: float) -> Tensor:
    """argmin_V mean ‖y - V f‖² + ridge Σ_j mean(f_j²) ‖V[:, j] - W[:, j]‖², (out, in) double.

    weight_OI:  W, towards which V is drawn
    moments_II: mean of f fᵀ over tokens, f: the inputs that are left
    wanted_OI:  mean of y fᵀ, y: the outputs that are wanted
    ridge:      by each input's own size, so that one that is a thousand times as large as the others (there are such)
                neither drowns them nor leaves the equations without a solution in fp32 sums
    """
    weight, moments, wanted = weight_OI.double(), moments_II.double(), wanted_OI.double()
    size_I = moments.diagonal().clamp_min(0).sqrt()
    size_I[size_I == 0] = 1
    alike = moments / size_I / size_I[:, None] + ridge * torch.eye(len(size_I), dtype=torch.double)
    towards = wanted / size_I + ridge * weight * size_I
    return torch.cholesky_solve(towards.T, torch.linalg.cholesky(alike)).T / size_I


def energy(weight_OI: Tensor, moments_II: Tensor) -> Tensor:
    """Mean of ‖W f‖² over the tokens."""
    return ((weight_OI @ moments_II) * weight_OI).sum()
