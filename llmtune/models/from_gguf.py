"""A GGUF file made into a Hugging Face folder: weights read back as bf16, tokenizer, chat template, licence."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.extras import need
from llmtune.files import write_text
from llmtune.models.gguf_header import GgufHeader, read_gguf_header
from llmtune.models.load import check_report, quiet
from llmtune.models.pretokenizers import LLAMA3, QWEN2
from llmtune.monitor import Monitor

# llama.cpp's name for how text is cut into words (src/llama-vocab.cpp) → what the tokenizers library calls it.
_GPT2_CUT = ("default", "gpt-2", "olmo", "jais", "phi-2", "mpt", "gigachat", "roberta-bpe")
_DIGITS_CUT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
_REGEX_CUT = {
    "llama-bpe": LLAMA3, "llama3": LLAMA3, "llama-v3": LLAMA3, "smaug-bpe": LLAMA3, "falcon3": LLAMA3,
    "pixtral": LLAMA3, "dbrx": LLAMA3, "qwen2": QWEN2, "stablelm2": QWEN2, "hunyuan": QWEN2,
    "deepseek-r1-qwen": QWEN2, "megrez": QWEN2,
}  # fmt: skip
# Llama 3's kind: a word that is itself a token is taken without merging, and a text begins with bos unless the file
# says otherwise.
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")
_CONTROL, _USER_DEFINED = 3, 4  # kinds of token


def convert_gguf(file: Path, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with a Hugging Face checkpoint (bf16) of the model in a GGUF file.

    Raises BadArtifact (damaged), CannotRunHere (a family or tokenizer that cannot be read back), MissingExtra.
    """
    need("gguf", "reading a GGUF file")
    header = read_gguf_header(file, arrays=True)
    monitor.note(f"Reading {file.name} back into a bf16 checkpoint (once; it is kept)")
    from llmtune.models.save import save_checkpoint

    model = _read_model(file, header)
    monitor.safe_point()
    save_checkpoint(model, read_tokenizer(file, header), folder, dtype="bfloat16")
    write_text(folder / "README.md", _card(header))


def _read_model(file: Path, header: GgufHeader) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from llmtune.models.save import forget_quantizer

    with quiet():
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        except ValueError as error:
            if "not supported" not in str(error):
                raise BadArtifact(f"transformers cannot read this GGUF file: {error}", where=str(file)) from error
            raise CannotRunHere(
                f"transformers cannot read GGUF files of the family '{header.architecture}'",
                where=str(file),
                fix="give the model's Hugging Face folder or hub id instead",
            ) from error
    check_report(report, model, file)
    forget_quantizer(model)
    vars(model.config).pop("_model_name_or_path", None)
    for name, value in vars(model.config).items():
        if isinstance(value, float):
            setattr(model.config, name, _shortest(value))
    ids = {name: header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding")}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        for place in (model.config, model.generation_config):
            setattr(place, f"{ours}_token_id", ids[theirs])
    return model.eval()


def _shortest(value: float) -> float:
    """The shortest decimal that is the same 32-bit float: GGUF's 9.999999747378752e-06 was written as 1e-05."""
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value


def read_tokenizer(file: Path, header: GgufHeader) -> Any:
    """The tokenizer in a GGUF file.

    Byte-level BPE is rebuilt from the file's own vocabulary and merges: transformers' converter drops llama.cpp's
    pre-tokenizer (digits split one by one, …) and takes the wrong token for the end. Other kinds (SentencePiece) go
    through that converter, with the special tokens set by their numbers.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    metadata = header.metadata
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens") or []
    if not tokens:
        raise BadArtifact("the GGUF file holds no tokenizer", where=str(file))
    special = {
        ours: tokens[number]
        for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if isinstance(number := metadata.get(f"tokenizer.ggml.{theirs}_token_id"), int) and number < len(tokens)
    }
    if metadata.get("tokenizer.ggml.model") == "gpt2":
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=_byte_level_bpe(file, metadata, special),
            clean_up_tokenization_spaces=False,
            **{f"{name}_token": token for name, token in special.items()},
        )
    else:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        tokenizer.add_special_tokens({f"{name}_token": token for name, token in special.items()})
    if header.number("context_length"):
        tokenizer.model_max_length = int(header.number("context_length"))
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    return tokenizer


def _byte_level_bpe(file: Path, metadata: dict[str, Any], special: dict[str, str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    tokens, cut = metadata["tokenizer.ggml.tokens"], str(metadata.get("tokenizer.ggml.pre", "default"))
    merges = [tuple(pair.split(" ", 1)) for pair in metadata.get("tokenizer.ggml.merges") or []]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut in _WHOLE_WORDS))
    backend.pre_tokenizer = _pre_tokenizer(file, cut)
    if cut in ("qwen2", "deepseek-r1-qwen"):
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    kinds = metadata.get("tokenizer.ggml.token_type") or []
    for wanted, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        add([
            AddedToken(token, special=wanted == _CONTROL, normalized=False)
            for token, kind in zip(tokens, kinds, strict=False)
            if kind == wanted
        ])  # fmt: skip
    add_bos = metadata.get("tokenizer.ggml.add_bos_token", cut in _WHOLE_WORDS)
    first = special["bos"] if add_bos and "bos" in special else None
    last = special["eos"] if metadata.get("tokenizer.ggml.add_eos_token") and "eos" in special else None
    if first or last:
        around = {token for token in (first, last) if token}
        backend.post_processor = processors.TemplateProcessing(
            single=" ".join(part for part in (first, "$A", last) if part),
            pair=" ".join(part for part in (first, "$A", "$B:1", last and f"{last}:1") if part),
            special_tokens=[(token, vocabulary[token]) for token in sorted(around)],
        )
    return backend


def _pre_tokenizer(file: Path, cut: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if cut in _GPT2_CUT:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut in _DIGITS_CUT:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if cut in _REGEX_CUT:
        split = pre_tokenizers.Split(Regex(_REGEX_CUT[cut]), behavior="isolated", invert=False)
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise CannotRunHere(
        f"the tokenizer of this GGUF file cuts text as '{cut}', which cannot be read back exactly",
        where=str(file),
        fix="give the model's Hugging Face folder or hub id instead",
    )


def _card(header: GgufHeader) -> str:
    """The model card of the folder: what the GGUF file says of its licence and origin."""
    licence = header.metadata.get("general.license")
    front = f"---\nlicense: {licence}\n---\n" if licence else ""
    name = header.metadata.get("general.name") or header.architecture
    return f"{front}# {name}\n\nRead back from a GGUF file; weights are the dequantized ones, in bf16.\n"
