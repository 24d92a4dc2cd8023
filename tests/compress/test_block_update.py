"""Our step of GPTQ on the CPU against llmcompressor's own."""

from __future__ import annotations

import pytest

from llmtune.extras import have

pytestmark = pytest.mark.skipif(not have("llmcompressor"), reason="needs the extra quantize")


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("strategy", ["group", "channel"])
@pytest.mark.parametrize("scales", ["float32", "bfloat16"])
def test_same_codes_as_the_library(bits: int, symmetric: bool, strategy: str, scales: str) -> None:
    import torch
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.utils.impl_backend import ImplBackend

    import llmtune.compress.block_update  # noqa: F401 - registers our step, and the library's

    torch.manual_seed(bits)
    rows, columns, width, group, batch = 48, 128, 64, 32 if strategy == "group" else 128, 2
    args = QuantizationArgs(
        num_bits=bits, symmetric=symmetric, strategy=strategy, **({"group_size": group} if strategy == "group" else {})
    )
    inputs = torch.randn(batch, 400, columns)
    hessian = inputs.mT @ inputs / 400 + 0.01 * torch.eye(columns)
    inverse = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    weights = torch.randn(batch, rows, columns)
    levels = 2**bits - 1
    scale = weights.unflatten(-1, (-1, group)).abs().amax(-1) * 2 / levels
    scale = scale.to(getattr(torch, scales))
    zero_point = None if symmetric else torch.randint(-3, 3, scale.shape, dtype=torch.int8)
    found = []
    first = columns - width
    for step in ("gptq_block_update", "gptq_block_update_on_cpu"):
        left = weights[..., first:].clone()
        rounded, errors, losses = (torch.zeros_like(left) for _ in range(3))
        ImplBackend.call(
            step,
            left,
            inverse[:, first:, first:],
            rounded,
            errors,
            losses,
            scale=scale,
            zero_point=zero_point,
            global_scale=None,
            g_idx=torch.arange(columns, dtype=torch.int) // group,
            quant_args=args,
            i1=first,
        )
        found.append((rounded, errors, losses))
    for theirs, ours in zip(*found, strict=True):
        # A last bit apart in an update may turn one rounding, and then what follows in its row.
        assert (theirs - ours).abs().gt(1e-4).any(-1).float().mean() < 0.02
    theirs, ours = (losses.sum() for _, _, losses in found)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)
