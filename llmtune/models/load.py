"""Load a model and its tokenizer from a folder, after checking that the folder is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError
from llmtune.extras import need
from llmtune.machine import this_machine
from llmtune.models.families import attention_to_use, is_encoder
from llmtune.models.safetensors_header import AGAIN, read_header, weight_files
from llmtune.models.shape import BESIDE, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")  # of a layer or an expert in a tensor's name
# As transformers and the system say that a file of Python code is not there.
_NO_CODE = re.compile(r"(?:have a file named |No such file or directory: ')(?:\S*/)?([^/\s']+\.py)\b")
# What a quantization method needs to be read back.
_NEEDS = {"compressed-tensors": "compressed_tensors", "bitsandbytes": "bitsandbytes"}


def load_model(
    folder: Path,
    dtype: str = "auto",
    attention: str | None = None,
    *,
    translator: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> PreTrainedModel:
    """The model of a checkpoint folder, on CPU, in eval mode; quantized checkpoints (compressed-tensors, bitsandbytes)
    included. An encoder comes with its head for masked tokens. Nothing is asked of the network.

    dtype:     number format of the weights: as stored (`auto`), `float32`, `bfloat16` or `float16`
    attention: transformers' attention implementation; None: the one that is right for the family
    translator: load it as a sequence-to-sequence model
    options:   passed on to `from_pretrained`
    Raises BadArtifact (damaged, truncated, pickled, or lacking tensors), MissingExtra, CannotRunHere.
    """
    import transformers

    if dtype not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {dtype!r}")
    folder = Path(folder)
    config = read_config(folder)
    check_weights(folder)
    _check_method(config, folder)
    if _method(config) == "compressed-tensors":
        # Unpacked once: its own layers unpack only when the whole model is called, not its decoder alone.
        options.setdefault("quantization_config", transformers.CompressedTensorsConfig(dequantize=True))
    auto = transformers.AutoModelForMaskedLM if is_encoder(config) else transformers.AutoModelForCausalLM
    auto = transformers.AutoModelForSeq2SeqLM if translator else auto
    attention = attention or attention_to_use(config)
    if attention is not None:
        options["attn_implementation"] = attention
    with quiet():
        try:
            model, report = auto.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
        except (ValueError, KeyError, ImportError, RuntimeError, OSError) as error:
            raise _explained(error, folder, config) from error
    check_report(report, model, folder)
    model.eval()
    return model


def load_to_run(folder: Path, *, translator: bool = False, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a checkpoint folder where it runs fastest here: on the accelerator if torch has one, in the number
    format it is stored in, but in fp32 on a CPU that does not compute in bf16 (bitsandbytes' int8 as it is). Arguments
    and errors as `load_model`."""
    import torch

    on_accelerator = torch.accelerator.is_available()
    config = read_config(folder)
    int8 = bool((config.get("quantization_config") or {}).get("load_in_8bit"))
    widened = not on_accelerator and not int8 and not this_machine().cpu_has_bf16
    dtype = "float32" if widened else "auto"
    model: Any = load_model(folder, dtype, translator=translator, trust_remote_code=trust_remote_code)
    if widened and _method(config) == "bitsandbytes":
        for module in model.modules():
            if hasattr(module, "compute_dtype"):  # a layer in 4 bits: what it is unpacked to
                module.compute_dtype = torch.float32
    if on_accelerator and not getattr(model, "hf_device_map", None):
        model = model.to(torch.accelerator.current_accelerator())
    return model  # type: ignore[no-any-return]


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder, chat template included. Raises BadArtifact, CannotRunHere."""
    from transformers import AutoTokenizer

    if not any(Path(folder).glob("tokenizer*")) and not any(Path(folder).glob("vocab*")):
        raise BadArtifact(
            "the folder holds no tokenizer",
            where=str(folder),
            fix="copy tokenizer.json and tokenizer_config.json of the model into it",
        )
    with quiet():
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        except (ValueError, KeyError, OSError, ImportError, AttributeError, TypeError) as error:
            raise _about_its_code(error, folder, "tokenizer") or BadArtifact(
                f"transformers cannot load its tokenizer: {_first_line(error)}", where=str(folder), fix=AGAIN
            ) from error
        except Exception as error:  # the tokenizers library raises bare Exception for a damaged tokenizer.json
            if type(error) is not Exception:
                raise
            raise BadArtifact(f"damaged tokenizer: {error}", where=str(folder), fix=AGAIN) from error


def check_weights(folder: Path) -> None:
    """Compare every weight file's header with its length. Raises BadArtifact naming the file."""
    for file in weight_files(folder):
        read_header(file)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and load reports off the screen; ours are the monitor's."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def cannot_train(config: Mapping[str, Any], where: str) -> CannotRunHere | None:
    """The error for a checkpoint that cannot be trained because its weights are codes, not numbers; None for others.

    compressed-tensors is read back into numbers when it is loaded, so it can be trained."""
    method = _method(config)
    if method in (None, "compressed-tensors"):
        return None
    return CannotRunHere(
        f"its weights are quantized ({method}), so it can be run but not trained",
        where=where,
        fix="train the model it was made from; `adapter: {type: qlora}` quantizes that one itself",
    )


def refuse_quantized(config: Mapping[str, Any], folder: Path) -> None:
    """Raise the error of `cannot_train`, where there is one."""
    problem = cannot_train(config, str(folder))
    if problem is not None:
        raise problem


def _method(config: Mapping[str, Any]) -> str | None:
    """How the weights are quantized; None when they are not. Old bitsandbytes checkpoints do not say it in words."""
    quantization = config.get("quantization_config")
    if not quantization:
        return None
    said = quantization.get("quant_method")
    by_bitsandbytes = quantization.get("load_in_4bit") or quantization.get("load_in_8bit")
    return str(said or ("bitsandbytes" if by_bitsandbytes else "an unknown method"))


def _check_method(config: dict[str, Any], folder: Path) -> None:
    method = _method(config)
    if method in _NEEDS:
        need(_NEEDS[method], f"loading {folder.name}, which is quantized with {method},")
    elif method is not None:
        raise CannotRunHere(
            f"its weights are quantized with {method}, which is not read here (known: {', '.join(_NEEDS)})",
            where=str(folder),
            fix="give the model it was made from, and quantize it with a `quantize` stage",
        )


def check_report(report: Mapping[str, Any], model: PreTrainedModel, place: Path) -> None:
    """Refuse a model of which a part was made up (transformers fills missing tensors with random numbers) or left out.

    report: what `from_pretrained(output_loading_info=True)` gives. Raises BadArtifact naming a tensor."""
    missing, mismatched = sorted(report.get("missing_keys") or ()), report.get("mismatched_keys") or ()
    if missing:
        raise BadArtifact(
            f"{len(missing)} tensors that the model needs are not in its files, for example {missing[0]}",
            where=str(place),
            fix=AGAIN,
        )
    if mismatched:
        raise BadArtifact(f"tensor of a wrong shape: {sorted(mismatched)[0]}", where=str(place), fix=AGAIN)
    left_out = _left_out(report.get("unexpected_keys") or (), model)
    if left_out:
        raise BadArtifact(
            f"{len(left_out)} tensors in its files have no place in the model that config.json describes, for example "
            f"{left_out[0]}",
            where=str(place),
            fix="use the config.json that belongs to these weights",
        )


def _left_out(unexpected: Iterable[str], model: PreTrainedModel) -> list[str]:
    """Stored tensors that are more of what the model has: further layers or experts, a bias of a layer without one.

    What belongs to other parts (an image encoder, a pooler), buffers, scales and layers for guessing ahead may stay
    unread: many published models carry them."""
    if getattr(model.config, "num_nextn_predict_layers", None):
        return []
    kinds = {_NUMBER.sub(".#", name.rpartition(".")[0]) for name, _ in model.named_parameters()}
    return sorted(
        name for name in unexpected if _NUMBER.sub(".#", name.rpartition(".")[0]) in kinds and not name.endswith(BESIDE)
    )


def _explained(error: Exception, folder: Path, config: dict[str, Any]) -> Exception:
    """The error to show for what `from_pretrained` raised."""
    text, family = str(error), config.get("model_type")
    if about_its_code := _about_its_code(error, folder, f"model of type '{family}'"):
        return about_its_code
    if "does not recognize this architecture" in text or "Unrecognized" in text:
        return CannotRunHere(
            f"this transformers does not know models of type '{family}'",
            where=str(folder),
            fix="use a model that `transformers.AutoModelForCausalLM` loads",
        )
    if "size mismatch" in text.lower() or "mismatched" in text.lower():
        return BadArtifact(f"config.json and weights disagree: {_first_line(error)}", where=str(folder), fix=AGAIN)
    if isinstance(error, (KeyError, ImportError)) or _of_the_system(error) or "out of memory" in text.lower():
        return error
    return BadArtifact(f"transformers cannot load it: {_first_line(error)}", where=str(folder), fix=AGAIN)


def _about_its_code(error: Exception, folder: Path, which: str) -> LlmtuneError | None:
    """The error to show where a model or tokenizer brings Python code of its own that may not run, is not there, or
    needs packages that are not; None where the error is about something else."""
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return CannotRunHere(
            f"a {which} brings Python code of its own, which is not run unless you allow it",
            where=str(folder),
            fix="if you trust its author, write `model: {name: …, trust_remote_code: true}` in the recipe, or give "
            "`--trust-remote-code` to `llmtune chat` or `llmtune evaluate`",
        )
    lacking = _NO_CODE.search(text)
    if lacking:
        return BadArtifact(
            f"this {which} needs Python code that is not in its folder: {lacking[1]}",
            where=str(folder),
            fix="copy the model's *.py files into the folder",
        )
    if "packages that were not found in your environment" in text:
        return CannotRunHere(f"the Python code of this {which} cannot run: {_first_line(error)}", where=str(folder))
    return None


def _of_the_system(error: Exception) -> bool:
    """Whether the operating system raised it (a full disk, no memory); transformers' own OSErrors have no number."""
    return isinstance(error, OSError) and error.errno is not None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
