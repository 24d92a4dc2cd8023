"""Save a checkpoint that transformers alone loads, and look at it again before calling it saved."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmtune.errors import BadArtifact, NotFinite
from llmtune.files import read_json, write_json
from llmtune.models.load import load_tokenizer, quiet
from llmtune.models.safetensors_header import read_header, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Written and read back to see that the saved tokenizer is the one given.
PROBE = "The price rose 12.5% to 3,400 — naïve? 日本語 \n\n\tdef f(x):  return x_1"


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: Path,
    dtype: str = "bfloat16",
    state_dict: Mapping[str, torch.Tensor] | None = None,
    *,
    trust_remote_code: bool = False,
) -> None:
    """Save weights (safetensors), configuration, generation settings, tokenizer and chat template into `folder`.

    The model given is not changed. Tied weights are written once; an output head that is tied in the configuration but
    has values of its own is kept, and the saved configuration says that it is not tied.

    dtype:      number format of the floating-point weights, or `auto` to keep each as it is. Packed codes of a
                quantized model are never cast
    state_dict: full weights gathered from ranks, by the model's own names, where the model holds a part only (ZeRO-3)
    trust_remote_code: whether the saved tokenizer may bring code of its own when it is read again to be checked
    Raises NotFinite (naming the tensor) for NaN or infinity, BadArtifact when what was written is not what was given.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    packed = is_packed(model)
    weights = dict(model.state_dict() if state_dict is None else state_dict)
    target = None if packed or dtype == "auto" else getattr(torch, dtype)
    saved = _cast(_empty_refused(weights), target)
    untied = _separated_heads(model, saved)
    with quiet(), _configuration_to_save(model, untied=untied, packed=packed):
        model.save_pretrained(folder, state_dict=None if packed and state_dict is None else dict(saved))
    if target is not None:
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", config | {"dtype": dtype})
    if not packed:
        _check_written(model, saved, folder)
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder, trust_remote_code=trust_remote_code)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, *, trust_remote_code: bool = False) -> None:
    """Save a tokenizer with its chat template, and check that it reads back as it was. Raises BadArtifact."""
    tokenizer.save_pretrained(folder)
    again = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    template = getattr(tokenizer, "chat_template", None)
    if getattr(again, "chat_template", None) != template:
        raise BadArtifact("the chat template was not saved as it was", where=str(folder))
    probe = PROBE + "".join(tokenizer.all_special_tokens)
    if again(probe)["input_ids"] != tokenizer(probe)["input_ids"]:
        raise BadArtifact(
            f"the saved tokenizer ({type(again).__name__}) splits text in another way than the one given "
            f"({type(tokenizer).__name__})",
            where=str(folder),
            fix="set `tokenizer_class` in the base model's tokenizer_config.json to the class it was made for",
        )


def is_packed(model: torch.nn.Module) -> bool:
    """Whether some weights are codes of a quantized format rather than numbers."""
    return any(
        type(parameter).__name__ in ("Params4bit", "Int8Params") or parameter.dtype in (torch.uint8, torch.int8)
        for parameter in model.parameters()
    ) or any(name.endswith(("weight_packed", "weight_scale")) for name, _ in model.named_buffers())


def forget_quantizer(model: PreTrainedModel) -> None:
    """Make a model whose weights are plain numbers again stop claiming to be quantized (save_pretrained refuses it)."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    for flag in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        if getattr(model, flag, False):
            setattr(model, flag, False)
    if hasattr(model, "quantization_method"):
        del model.quantization_method


def _empty_refused(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    empty = [name for name, value in weights.items() if isinstance(value, torch.Tensor) and not value.numel()]
    if empty:
        raise BadArtifact(
            f"{len(empty)} tensors are empty, for example {empty[0]}: the weights are spread over ranks",
            fix="gather the full weights first (accelerator.get_state_dict) and pass them as state_dict",
        )
    return weights


def _cast(weights: dict[str, torch.Tensor], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Floating-point tensors in `dtype` on CPU. Tensors that share memory go on sharing it: that is how tied weights
    are recognised when they are written."""
    seen: dict[tuple[Any, ...], torch.Tensor] = {}
    cast: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if not isinstance(value, torch.Tensor):
            cast[name] = value
            continue
        value = value.detach()
        key = (value.device, value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
        if key not in seen:
            new = value.to("cpu", dtype if value.is_floating_point() and dtype is not None else value.dtype)
            if new.is_floating_point() and not bool(torch.isfinite(new).all()):
                kind = "is not finite" if not bool(torch.isfinite(value).all()) else f"does not fit into {dtype}"
                raise NotFinite(f"a weight {kind}", where=name, fix="lower the learning rate, or save in bfloat16")
            seen[key] = new
        cast[name] = seen[key]
    return cast


def _separated_heads(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> bool:
    """Whether weights that the configuration ties differ. Equal copies become one tensor, in place, so that they are
    written once."""
    separated = False
    for name, source in (getattr(model, "all_tied_weights_keys", None) or {}).items():
        if name not in weights or source not in weights or weights[name] is weights[source]:
            continue
        if weights[name].shape == weights[source].shape and torch.equal(weights[name], weights[source]):
            weights[name] = weights[source]
        else:
            separated = True
    return separated


@contextmanager
def _configuration_to_save(model: PreTrainedModel, *, untied: bool, packed: bool) -> Iterator[None]:
    """Put what belongs into the saved files into the model's configurations, and the old ones back afterwards."""
    config, quantizer = model.config, getattr(model, "hf_quantizer", None)
    generation = getattr(model, "generation_config", None)  # an encoder has none
    model.config = copy.deepcopy(config)
    text = model.config.get_text_config()
    if hasattr(text, "use_cache"):
        text.use_cache = True  # training switches the cache off; that is not a property of the model
    if untied:
        model.config.tie_word_embeddings = text.tie_word_embeddings = False
    if not packed and quantizer is not None:
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    if generation is not None:
        model.generation_config = _valid(generation)
    try:
        yield
    finally:
        model.config = config
        if generation is not None:
            model.generation_config = generation
        if quantizer is not None:
            model.hf_quantizer = quantizer


def _valid(generation: Any) -> Any:
    """A copy that can be saved: some published models give a temperature without `do_sample`, which is then refused."""
    generation = copy.deepcopy(generation)
    generation.use_cache = True
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True
    return generation


def _check_written(model: PreTrainedModel, given: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Compare what stands in the files with what was to be saved: number of weights, and rows of the vocabulary."""
    written: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        written |= {name: tensor.shape for name, tensor in read_header(file).items()}
    buffers = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    distinct = {id(value): value.numel() for name, value in given.items() if name not in buffers}
    total = sum(_count(shape) for shape in written.values())
    if total != sum(distinct.values()):
        raise BadArtifact(
            f"{total:,} weights stand in the files, {sum(distinct.values()):,} were to be saved", where=str(folder)
        )
    rows, named = model.get_input_embeddings().weight.shape[0], model.config.get_text_config().vocab_size
    if rows not in (0, named):
        raise BadArtifact(
            f"the embedding has {rows:,} rows, config.json says vocab_size {named:,}",
            where=str(folder),
            fix="resize with model.resize_token_embeddings, which sets both",
        )


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
