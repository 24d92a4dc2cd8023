"""Take the codes of a quantized checkpoint into a GGUF file as they are, without rounding a second time.

A compressed-tensors weight is `(code - zero) * scale` with one scale for `group_size` neighbouring inputs; ggml's
blocks hold 32. Where the group is a multiple of 32 the codes fit exactly: symmetric codes of at most 4 bits are Q4_0
blocks, those with a zero point Q4_1, symmetric codes of up to 8 bits Q8_0. The scale becomes fp16 (bf16 scales of
usual size are exact in it).

llama.cpp's converter reorders rows (the query and key rows of Llama-like models, and others). Which row went where is
found from the values themselves: the converter is given the exact float32 weights, and each of its rows is looked up
by its bytes among the checkpoint's rows. So every reordering, splitting or stacking of whole rows is followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmtune.compress.codes import Codes, has_codes, quantization_config, read_codes
from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.export.formats import tensor_bytes
from llmtune.files import read_json
from llmtune.models.files import BESIDE_WEIGHTS, copy_files
from llmtune.models.safetensors_header import weight_files
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 32
_LARGEST_FILE = 2 << 30  # bytes of a shard of the unpacked checkpoint


def grid_format(bits: int, group_size: int | None, symmetric: bool) -> str | None:
    """The GGUF format that holds codes of this grid exactly, None where there is none. group_size None: whole rows."""
    if group_size is not None and group_size > 0 and group_size % _BLOCK:
        return None
    if bits <= 4:
        return "q4_0" if symmetric else "q4_1"
    return "q8_0" if bits <= 8 and symmetric else None


def repack_format(config: dict[str, object]) -> str | None:
    """The GGUF format for a checkpoint's `quantization_config`; None where its weights would be rounded twice."""
    if config.get("quant_method") != "compressed-tensors":
        return None
    found = set()
    groups = config.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") or {}
        if weights.get("type", "int") != "int" or group.get("input_activations"):
            return None
        size = weights.get("group_size") if weights.get("strategy") == "group" else None
        found.add(grid_format(int(weights.get("num_bits", 0)), size, bool(weights.get("symmetric", True))))
    return found.pop() if len(found) == 1 else None


def check_repack(checkpoint: Path, kind: str) -> None:
    """Raise CannotRunHere unless `kind` holds the checkpoint's codes exactly."""
    config = quantization_config(checkpoint) or {}
    fits = repack_format(config) if has_codes(checkpoint) else None
    if fits != kind:
        raise would_round_twice(kind, fits)


def would_round_twice(kind: str, fits: str | None) -> CannotRunHere:
    """The error for a quantized checkpoint whose codes `kind` cannot hold; `fits`: the format that could."""
    other = f"set type: {fits}, which takes its codes as they are" if fits else "its grid is none of llama.cpp's"
    return CannotRunHere(
        f"export to {kind} would quantize this checkpoint twice",
        where="export.type",
        fix=f"{other}; or leave out `from:`, so that the export starts from the last checkpoint that is not quantized",
    )


def unpack(checkpoint: Path, target: Path, monitor: Monitor | None = None) -> None:
    """Write the checkpoint with every code multiplied out (float32, exact) as a plain Hugging Face folder."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    monitor = monitor or Monitor()
    target.mkdir(parents=True, exist_ok=True)
    copy_files(checkpoint, target, BESIDE_WEIGHTS)
    config = read_json(checkpoint / "config.json")
    del config["quantization_config"]
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shard: dict[str, torch.Tensor] = {}
    where: dict[str, str] = {}

    def flush() -> None:
        if shard:
            name = f"model-{len(set(where.values())) + 1:05d}.safetensors"
            save_file(shard, target / name, metadata={"format": "pt"})
            where.update(dict.fromkeys(shard, name))
            shard.clear()

    def put(name: str, tensor: torch.Tensor) -> None:
        monitor.safe_point()
        shard[name] = tensor
        if sum(one.nbytes for one in shard.values()) > _LARGEST_FILE:
            flush()

    rounded = set()
    for codes in read_codes(checkpoint):
        rounded.add(codes.name.removesuffix(".weight"))
        put(codes.name, torch.from_numpy(codes.weight()))
    for file in weight_files(checkpoint):
        with safe_open(file, framework="pt") as opened:
            for name in sorted(opened.keys()):
                if name.rpartition(".")[0] not in rounded or name.endswith(".bias"):
                    put(name, opened.get_tensor(name).to(torch.float32).contiguous())
    flush()
    (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@dataclass(frozen=True)
class _Row:
    """Where a row of the checkpoint's codes is: index of its weight, row in it."""

    weight: int
    row: int


class Repacker:
    """Packs GGUF tensors from codes; call with (name, float32 values) as `write_gguf` does.

    scales_exact: whether every scale is exact in fp16.
    """

    def __init__(self, checkpoint: Path, kind: str, monitor: Monitor | None = None) -> None:
        import numpy as np

        check_repack(checkpoint, kind)
        self.kind = kind
        self.scales_exact = True
        self._weights: list[Codes] = []
        self._rows: dict[bytes, _Row] = {}  # equal rows stand once, under the first weight that has them
        self._places: list[list[_Row]] = []  # of each weight's rows in there
        for index, codes in enumerate(self._read(checkpoint, monitor or Monitor())):
            self._weights.append(codes)
            self.scales_exact &= codes.scales_fit_fp16()
            keys = enumerate(_row_keys(codes.weight()))
            self._places.append([self._rows.setdefault(key, _Row(index, row)) for row, key in keys])
        self._used = [np.zeros(codes.codes.shape[0], dtype=bool) for codes in self._weights]

    def takes(self, name: str, values: NDArray[np.float32]) -> bool:
        """Whether this tensor was rounded in the checkpoint. Raises BadArtifact when only some of its rows were."""
        return values.ndim >= 2 and bool(self._found(name, values))

    def _found(self, name: str, values: NDArray[np.float32]) -> list[_Row]:
        """Where each row's codes are; [] when no row was rounded."""
        rows = [self._rows.get(key) for key in _row_keys(values)]
        if all(row is None for row in rows):
            return []
        if any(row is None for row in rows):
            raise BadArtifact(
                "some rows of this tensor are codes of the checkpoint and some are not: the converter changed them",
                where=name,
                fix="leave out `from:`, so that the export starts from a checkpoint that is not quantized",
            )
        return [row for row in rows if row is not None]

    def __call__(self, name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The codes of a tensor that it takes: uint8 (…, rows, bytes of a row)."""
        import numpy as np

        found = self._found(name, values)
        packed = np.empty((len(found), tensor_bytes(name, values.shape[-1:], self.kind)), dtype=np.uint8)
        for weight in sorted({row.weight for row in found}):
            places = [place for place, row in enumerate(found) if row.weight == weight]
            rows = [found[place].row for place in places]
            packed[places] = self._pack(weight, rows)
            self._used[weight][rows] = True
        return packed.reshape(*values.shape[:-1], -1)

    def unused(self) -> list[str]:
        """Names of rounded weights of which no row was found in the GGUF file."""
        pairs = zip(self._weights, self._places, strict=True)
        return [codes.name for codes, places in pairs if not any(self._used[one.weight][one.row] for one in places)]

    def _pack(self, weight: int, rows: list[int]) -> NDArray[np.uint8]:
        one = self._weights[weight]
        zeros = None if one.zero_points is None else one.zero_points[rows]
        return pack_rows(self.kind, one.codes[rows], one.scales[rows], zeros, one.bits)

    @staticmethod
    def _read(checkpoint: Path, monitor: Monitor) -> Iterator[Codes]:
        for codes in read_codes(checkpoint):
            monitor.safe_point()
            if codes.group_size % _BLOCK:
                raise CannotRunHere(
                    f"groups of {codes.group_size} do not hold whole blocks of {_BLOCK}",
                    where=codes.name,
                    fix="quantize with a group_size that is a multiple of 32",
                )
            yield codes


def pack_rows(
    kind: str,
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    zeros: NDArray[np.int8] | None,
    bits: int,
) -> NDArray[np.uint8]:
    """Rows as ggml blocks (layouts: ggml-common.h, block_q4_0, …): uint8 (rows, bytes of a row).

    codes: int8 (rows, inputs); scales, zeros: (rows, groups)
    """
    import numpy as np

    rows, inputs = codes.shape
    blocks = codes.reshape(rows, -1, _BLOCK)
    repeat = inputs // _BLOCK // scales.shape[1]
    scale = np.repeat(scales, repeat, axis=1)
    d = scale.astype(np.float16)[..., None].view(np.uint8)  # (rows, blocks, 2)
    if kind == "q8_0":
        return np.concatenate([d, blocks.view(np.uint8)], axis=2).reshape(rows, -1)
    if kind == "q4_0":
        unsigned = (blocks + 8).astype(np.uint8)
        head = [d]
    else:
        assert zeros is not None
        half = 2 ** (bits - 1)
        unsigned = (blocks.astype(np.int16) + half).astype(np.uint8)
        offset = -(np.repeat(zeros, repeat, axis=1).astype(np.float32) + half) * scale
        head = [d, offset.astype(np.float16)[..., None].view(np.uint8)]
    nibbles = unsigned[..., : _BLOCK // 2] | (unsigned[..., _BLOCK // 2 :] << 4)
    return np.concatenate([*head, nibbles], axis=2).reshape(rows, -1)


def _row_keys(values: NDArray[np.float32]) -> Iterator[bytes]:
    """A digest of each row's bytes; -0.0 and 0.0 are one value."""
    import hashlib

    import numpy as np

    flat = np.ascontiguousarray(values.reshape(-1, values.shape[-1])) + np.float32(0)
    for row in flat:
        yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()
