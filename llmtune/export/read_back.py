"""Read a GGUF file's weights back into the Hugging Face model they came from, and compare them on the way.

The inverse of the conversion is transformers' own (its GGUF loader: names, un-permuted query and key rows, norms
shifted by one, …), so that it shares no code with the converter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.export.formats import BY_GGML
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from torch import Tensor, nn

# A single row may be rounded worse than its matrix by this factor (outliers); a row that is another's is off by 1.4.
_ROW_FACTOR = 5.0
_ROW_AT_MOST = 0.95


@dataclass(frozen=True)
class TensorError:
    """One tensor's distance from the checkpoint.

    name, source: in the GGUF file and in the checkpoint; kind: its format
    error: ‖file − checkpoint‖ / ‖checkpoint‖ (Frobenius); row: the largest such ratio of one row
    limit, row_limit: what the format may have
    """

    name: str
    source: str
    kind: str
    error: float
    row: float
    limit: float
    row_limit: float

    @property
    def excess(self) -> float:
        """How many times the limit; above 1 is a fault. NaN counts as infinite."""
        worst = max(self.error / self.limit, self.row / self.row_limit)
        return worst if worst == worst else float("inf")


@dataclass(frozen=True)
class ReadBack:
    """errors: of every tensor that was found; unread: parameters of the model that no tensor of the file filled."""

    errors: list[TensorError]
    unread: list[str]

    @property
    def worst(self) -> TensorError:
        return max(self.errors, key=lambda one: one.excess)


def read_back(gguf_file: Path, model: nn.Module, monitor: Monitor | None = None) -> ReadBack:
    """Overwrite the float32 model's weights, in place, with the file's, tensor by tensor.

    Where transformers knows no inverse for the architecture, a plain copy and Llama's row order are tried; parameters
    that still do not fit are left as they were and listed as unread.
    """
    import gguf
    import torch

    monitor = monitor or Monitor()
    reader = gguf.GGUFReader(gguf_file)
    architecture = str(reader.fields["general.architecture"].contents())
    state = model.state_dict(keep_vars=True)
    errors: list[TensorError] = []
    filled: set[int] = set()
    stacked: dict[str, Any] = {}
    processors = _processors(architecture, model)
    names = _names(model, processors[0], architecture)
    with torch.no_grad(), monitor.bar("reading the file back", len(reader.tensors), "tensors") as bar:
        for tensor in reader.tensors:
            monitor.safe_point()
            bar.advance(1)
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            found: list[tuple[str, Tensor]] = []
            for processor in processors:
                result = processor.process(
                    weights=values.copy(),
                    name=tensor.name,
                    tensor_key_mapping=names,
                    parsed_parameters={"tensors": stacked},
                )
                if result.name in names:
                    found.append((names[result.name], torch.from_numpy(result.weights.copy())))
            target = state.get(found[0][0]) if found else None
            fitting = [read for _, read in found if target is not None and read.shape == target.shape]
            if target is None or not fitting:
                continue
            nearest = min(fitting, key=lambda read: _ratio(read, target))
            errors.append(_compare(tensor.name, found[0][0], BY_GGML[int(tensor.tensor_type)].name, nearest, target))
            target.copy_(nearest)
            filled.add(target.data_ptr())
        for name, read in stacked.items():  # experts, gathered from several tensors of the file
            if name in state and read.shape == state[name].shape:
                kind = next(t for t in reader.tensors if "_exps" in t.name).tensor_type
                errors.append(_compare(name, name, BY_GGML[int(kind)].name, read.to(state[name].dtype), state[name]))
                state[name].copy_(read)
                filled.add(state[name].data_ptr())
    parameters = model.named_parameters()
    return ReadBack(errors, [name for name, parameter in parameters if parameter.data_ptr() not in filled])


def _processors(architecture: str, model: Any) -> list[Any]:
    from transformers import modeling_gguf_pytorch_utils as known

    config = model.config.to_dict()
    found = known.TENSOR_PROCESSORS.get(architecture)
    kinds = [found] if found is not None else [known.TensorProcessor, known.LlamaTensorProcessor]
    return [kind(config=config) for kind in kinds]


def _names(model: Any, processor: Any, architecture: str) -> dict[str, str]:
    """GGUF tensor name → parameter name."""
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    found: dict[str, str] = get_gguf_hf_weights_map(model, processor, model_type=architecture)
    return found


def _compare(name: str, source: str, kind: str, read: Tensor, target: Tensor) -> TensorError:
    import torch

    limit = next(one.error for one in BY_GGML.values() if one.name == kind)
    row = 0.0
    if target.ndim > 1:
        width = target.shape[-1]
        distance = (read - target).reshape(-1, width).norm(dim=1)
        size = target.reshape(-1, width).norm(dim=1)
        # Rows that were never trained are next to nothing, and so is what becomes of them.
        row = float((distance / torch.maximum(size, size.mean() * 0.05).clamp_min(1e-12)).max())
    return TensorError(name, source, kind, _ratio(read, target), row, limit, min(_ROW_AT_MOST, _ROW_FACTOR * limit))


def _ratio(read: Tensor, target: Tensor) -> float:
    return float((read - target).norm() / target.norm().clamp_min(1e-12))
