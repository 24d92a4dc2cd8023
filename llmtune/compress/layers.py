"""How much each layer of a model does: ShortGPT's block influence (arXiv 2403.03853), by which layers are left out.

influence_i = 1 - mean cos(h_i, h_i+1)        h_i: the input of layer i on calibration text
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmtune.compress.neurons import run
from llmtune.monitor import Bar, Monitor


def influences(
    model: Any, rows: Sequence[Tensor], layers: Sequence[nn.Module], monitor: Monitor, bar: Bar
) -> list[float]:
    """The influence of each layer, in one pass over the rows (token ids, (1, T) int64 each)."""
    found = torch.zeros(len(layers), dtype=torch.double)

    def hook_for(number: int) -> Any:
        def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            cosines_T = torch.cosine_similarity(_hidden(args, kwargs)[0].float(), after[0].float(), dim=-1)
            found[number] += float((1 - cosines_T).sum())

        return add

    hooks = [layer.register_forward_hook(hook_for(number), with_kwargs=True) for number, layer in enumerate(layers)]
    try:
        run(model, rows, monitor, bar)
    finally:
        for hook in hooks:
            hook.remove()
    return (found / sum(row.numel() for row in rows)).tolist()


def least(influence: Sequence[float], count: int) -> list[int]:
    """The numbers, ascending, of the `count` layers of the least influence; of equal ones the first."""
    return sorted(sorted(range(len(influence)), key=lambda number: influence[number])[:count])


@contextmanager
def passed_over(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within it these layers give on what they are given."""

    def give_on(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = _hidden(args, kwargs)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hooks = [layer.register_forward_hook(give_on, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden
