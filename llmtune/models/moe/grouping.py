"""Divide the neurons of a feed-forward part by what they do on real text, and fit a router that predicts it.

MoEfication (Zhang et al. 2022, arXiv:2110.01786) groups neurons that are active together by balanced k-means; LLaMA-MoE
(Zhu et al. 2024, arXiv:2406.16554) and CMoE (Pei et al. 2025, arXiv:2502.04416) keep the most active ones in a shared
expert. Here the contribution of neuron j to a token's output, |h_j| · ‖down_j‖, counts as its activity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ROUNDS = 8  # of k-means; the groups settle after about five
RIDGE = 1e-2  # of the mean square of the inputs
# Standard deviation of the router's logits over the experts at the start. Small: the weights of the chosen experts then
# stay near those with which they stood in the dense model, and still far larger than an optimizer's first steps.
SPREAD = 0.1


@dataclass(frozen=True)
class Grouping:
    """How one layer is divided.

    shared_S:  neurons of the shared expert
    experts_EW: neurons of each routed expert
    router_EH: weights of the router
    weight:    mean softmax weight of a chosen expert on the text
    load_E:    share of the choices that fell on each expert
    active:    how many experts are chosen for a token
    """

    shared_S: Tensor
    experts_EW: Tensor
    router_EH: Tensor
    weight: float
    load_E: Tensor
    active: int

    def scale_NI(self, inputs_NH: Tensor) -> Tensor:
        """(N, I): with which factor each neuron of the dense part counts at each token: one in the shared expert, in a
        chosen one its softmax weight over the mean of these weights, else zero."""
        weights_NK, chosen_NK = (inputs_NH @ self.router_EH.T).softmax(1).topk(self.active, 1)
        by_expert_NE = inputs_NH.new_zeros(len(inputs_NH), len(self.experts_EW))
        by_expert_NE.scatter_(1, chosen_NK, weights_NK / self.weight)
        scale_NI = inputs_NH.new_ones(len(inputs_NH), len(self.shared_S) + self.experts_EW.numel())
        scale_NI[:, self.experts_EW.flatten()] = by_expert_NE.repeat_interleave(self.experts_EW.shape[1], 1)
        return scale_NI


def group(inputs_NH: Tensor, activity_NI: Tensor, experts: int, active: int, shared: int) -> Grouping:
    """By co-activation: the `shared` parts of the neurons with the largest mean activity, the rest by balanced k-means.

    inputs_NH:   inputs of the feed-forward part at N tokens, fp32
    activity_NI: |h| · ‖down‖ of its I neurons there, fp32; `experts + shared` divides I
    """
    count = activity_NI.shape[1] // (experts + shared) * shared
    mean_I = activity_NI.mean(0)
    ranked_I = mean_I.argsort(descending=True, stable=True)
    shared_S, rest_R = ranked_I[:count].sort().values, ranked_I[count:].sort().values
    groups_EW = rest_R[_balanced_means(F.normalize(activity_NI[:, rest_R].T, dim=1), experts)]
    return _with_router(inputs_NH, activity_NI, shared_S, groups_EW, active)


def group_by_chance(
    inputs_NH: Tensor, activity_NI: Tensor, experts: int, active: int, shared: int, seed: int
) -> Grouping:
    """The same sizes from a random order of the neurons, with a router fitted in the same way: what to compare with."""
    neurons = activity_NI.shape[1]
    width = neurons // (experts + shared)
    order_I = torch.randperm(neurons, generator=torch.Generator().manual_seed(seed))
    groups_EW = order_I[shared * width :].reshape(experts, width).sort(1).values
    return _with_router(inputs_NH, activity_NI, order_I[: shared * width].sort().values, groups_EW, active)


def _balanced_means(profiles_RN: Tensor, groups: int) -> Tensor:
    """R unit vectors → (groups, R / groups) of their indices: k-means by cosine with groups of one size.

    Begins with profiles as unlike each other as can be; each round deals the rows out in the order of how much they
    prefer their best group to the next, and a full group takes no more. Nothing is drawn."""
    rows = len(profiles_RN)
    likeness_RR = profiles_RN @ profiles_RN.T
    starts = [int(likeness_RR.sum(1).argmax())]
    nearest_R = likeness_RR[starts[0]].clone()
    while len(starts) < groups:
        starts.append(int(nearest_R.argmin()))
        nearest_R = torch.maximum(nearest_R, likeness_RR[starts[-1]])
    centres_GN = profiles_RN[starts]
    members: list[list[int]] = []
    for _ in range(ROUNDS):
        before = members
        members = _dealt(profiles_RN @ F.normalize(centres_GN, dim=1).T, rows // groups)
        if members == before:
            break
        centres_GN = torch.stack([profiles_RN[chosen].mean(0) for chosen in members])
    return torch.tensor(members)


def _dealt(likeness_RG: Tensor, room: int) -> list[list[int]]:
    """Rows of each group, ascending, `room` in each."""
    groups = likeness_RG.shape[1]
    best_R2 = likeness_RG.topk(min(2, groups), 1).values
    order = (best_R2[:, 0] - best_R2[:, -1]).argsort(descending=True, stable=True).tolist()
    wishes = likeness_RG.argsort(dim=1, descending=True, stable=True).tolist()
    members: list[list[int]] = [[] for _ in range(groups)]
    for row in order:
        members[next(wish for wish in wishes[row] if len(members[wish]) < room)].append(row)
    return [sorted(chosen) for chosen in members]


def _with_router(inputs_NH: Tensor, activity_NI: Tensor, shared_S: Tensor, groups_EW: Tensor, active: int) -> Grouping:
    """Fit the router: ridge regression from the inputs to each expert's activity (its length) less the experts' mean,
    which a softmax does not see. Where all experts are active there is nothing to choose, and it is zero."""
    experts = len(groups_EW)
    strength_NE = torch.stack([activity_NI[:, chosen].norm(dim=1) for chosen in groups_EW], 1)
    if active == experts:
        router_EH = inputs_NH.new_zeros(experts, inputs_NH.shape[1])
    else:
        centred_NE = strength_NE - strength_NE.mean(1, keepdim=True)
        squares_HH = inputs_NH.T @ inputs_NH
        squares_HH.diagonal().add_(RIDGE * squares_HH.diagonal().mean())
        router_EH = torch.linalg.solve(squares_HH, inputs_NH.T @ centred_NE).T
        spread = float((inputs_NH @ router_EH.T).std())
        router_EH = router_EH * (SPREAD / spread if spread else 0.0)
    weights_NE = (inputs_NH @ router_EH.T).softmax(1)
    chosen_NK = weights_NE.topk(active, 1)
    load_E = torch.bincount(chosen_NK.indices.flatten(), minlength=experts) / chosen_NK.indices.numel()
    return Grouping(shared_S, groups_EW, router_EH, float(chosen_NK.values.mean()), load_E, active)
