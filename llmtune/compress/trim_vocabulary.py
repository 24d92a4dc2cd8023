"""Make a checkpoint with only those tokens that a corpus has of a checkpoint: a smaller embedding and output head, and
the tokenizer that belongs to them.

trim_vocabulary(checkpoint, output, corpus=corpus, at_least=3, work=work)
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.compress.trimmed_tokenizer import (
    added_tokens,
    framing_tokens,
    kept_tokens,
    named_in,
    renumbered,
    vocabulary_of,
    with_rows,
    without_the_rest,
    without_tokens,
)
from llmtune.corpus.store import Message, count, read_split
from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError
from llmtune.files import folder_bytes, read_json, write_bytes, write_json
from llmtune.models.files import BESIDE_WEIGHTS, TOKENIZER, copy_files
from llmtune.models.shape import ModelShape, read_shape
from llmtune.monitor import Monitor
from llmtune.section import Section, Table

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

# Of encoders.
_HEAD_BIASES = ("predictions.bias", "predictions.decoder.bias", "vocab_projector.bias", "lm_head.bias", "decoder.bias")
# Files of another format of the tokenizer (vocab.json, *.model) would tell of the old one.
_UNCHANGED = (
    "chat_template*", "additional_chat_templates/*",
    *(one for one in BESIDE_WEIGHTS if one not in (*TOKENIZER, "generation_config.json")),
)  # fmt: skip


def trim_vocabulary(
    checkpoint: Path,
    output: Path,
    *,
    corpus: Path,
    at_least: int,
    work: Path,
    trust_remote_code: bool = False,
    monitor: Monitor | None = None,
) -> dict[str, Any]:
    """Write the checkpoint without the tokens that the corpus' train split has less than `at_least` times into the
    folder `output`, weights in the format they have; returns its figures.

    work: folder where what was counted is kept, so that it goes on there after a kill
    Raises LlmtuneError when the model or its tokenizer cannot be trimmed or the corpus has no text, Stopped at a safe
    point.
    """
    import numpy as np

    from llmtune.compress.trim_checks import check_logits, check_tokens, logits_of, ordinary_row
    from llmtune.models.load import load_model, load_tokenizer

    monitor = monitor or Monitor()
    before = read_shape(checkpoint)
    if problem := trimming_problem(before):
        raise CannotRunHere(problem, where=str(checkpoint))
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    spec = _spec_of(tokenizer, checkpoint)
    counts = _counted(corpus, "train", tokenizer, monitor, work / "train.npy")
    if not counts.sum():
        raise LlmtuneError("its train split has no text", where=str(corpus), fix="give the corpus documents")
    named = {number for file in _configurations(checkpoint) for number in named_in(read_json(file))}
    written = _of_template(tokenizer)
    named |= set(tokenizer.all_special_ids) | written
    gone = _without_rows(spec, before.vocab_size, {*np.flatnonzero(counts).tolist(), *written}, checkpoint)
    if gone:
        monitor.note(f"the embedding has no row for {', '.join(sorted(gone))}: the trimmed tokenizer is without")
    spec = with_rows(spec, before.vocab_size)
    kept = kept_tokens(spec, counts.tolist(), at_least, named)
    monitor.safe_point()
    model: Any = load_model(checkpoint, trust_remote_code=trust_remote_code)
    row = ordinary_row(kept, {*tokenizer.all_special_ids, *added_tokens(spec).values()})
    logits_TV = logits_of(model, row)[:, kept]
    _save_model(model, kept, output)
    del model  # before it is read again, smaller
    copy_files(checkpoint, output, _UNCHANGED)
    _save_tokenizer(spec, checkpoint, kept, gone, output)
    smaller = load_tokenizer(output, trust_remote_code=trust_remote_code)
    check_tokens(tokenizer, smaller, kept, corpus, output)
    again_TV = logits_of(load_model(output, trust_remote_code=trust_remote_code), [kept.index(one) for one in row])
    check_logits(logits_TV, again_TV, before.family, checkpoint)
    valid = _counted(corpus, "valid", tokenizer, monitor, work / "valid.npy")
    splits = {"train": int(counts.sum()), "valid": int(valid.sum())}
    again = {
        split: int(_counted(corpus, split, smaller, monitor, work / f"{split}-trimmed.npy").sum()) for split in splits
    }
    _section(before, len(kept), splits, again).write(output)
    after = read_shape(output)
    return {
        "vocabulary_before": before.vocab_size,
        "vocabulary": len(kept),
        "parameters_before": before.parameters,
        "parameters": after.parameters,
        "parameters_kept": after.parameters / before.parameters,
        "bytes": folder_bytes(output),
        "tokens_seen": int((counts > 0).sum()),
        **{f"{split}_tokens_before": many for split, many in splits.items()},
        **{f"{split}_tokens": many for split, many in again.items()},
    }


def trimming_problem(shape: ModelShape) -> str | None:
    """Why the vocabulary of a model cannot be trimmed; None where it can."""
    if shape.config.get("quantization_config"):
        return f"the weights of this {shape.family} model are quantized: trim the checkpoint that it was made from"
    if shape.embedding is None:
        return f"the token embedding of this {shape.family} model is not known here"
    rows = rows_of(shape)
    others = [name for name, size in shape.tensors.items() if name not in rows and size[:1] == (shape.vocab_size,)]
    # Gemma 3n: an embedding of its own for each layer. There may be as many positions or types as tokens.
    by_token = [name for name in others if "embed" in name and not re.search("position|type", name)]
    return f"this {shape.family} model has further weights for each token ({by_token[0]})" if by_token else None


def trimmed_shape(shape: ModelShape, vocabulary: int) -> ModelShape:
    """The shape of the model with so many tokens, its weights in formats of the same size."""
    rows = rows_of(shape)
    tensors = {name: (vocabulary, *size[1:]) if name in rows else size for name, size in shape.tensors.items()}
    made = ModelShape(_with_vocabulary(shape.config, vocabulary), tensors, 0)
    return ModelShape(made.config, tensors, shape.bytes * made.parameters // shape.parameters)


def rows_of(shape: ModelShape) -> set[str]:
    """Names of the tensors with a row for each token: the embedding, the output head and its bias."""
    heads = {shape.head, (shape.head or "").replace(".weight", ".bias")}
    found = {name for name in {shape.embedding, *heads} & shape.tensors.keys() if name}
    return found | {name for name in shape.tensors if name.endswith(_HEAD_BIASES)}


def _with_vocabulary(config: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    inner = config.get("text_config")
    if isinstance(inner, dict):
        return config | {"text_config": _with_vocabulary(inner, vocabulary)}
    return config | {"vocab_size": vocabulary}


def _spec_of(tokenizer: PreTrainedTokenizerBase, checkpoint: Path) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CannotRunHere(
            "its tokenizer is none of the tokenizers library, so its vocabulary cannot be trimmed",
            where=str(checkpoint),
            fix="convert it to a tokenizer.json first",
        )
    spec: dict[str, Any] = json.loads(backend.to_str())
    return spec


def _configurations(checkpoint: Path) -> list[Path]:
    return [path for name in ("config.json", "generation_config.json") if (path := checkpoint / name).is_file()]


def _without_rows(spec: Mapping[str, Any], rows: int, used: set[int], checkpoint: Path) -> set[str]:
    """The added tokens that have no row in the embedding and can go: Gemma 3's for images in the models that read text
    alone, a `[PAD]` that was added without one.

    used: numbers of the tokens that texts hold as training reads them; raises BadArtifact where one has no row
    """
    if (last := max(vocabulary_of(spec).values())) >= rows:
        raise BadArtifact(
            f"its tokenizer has {last + 1:,} tokens, its embedding {rows:,} rows",
            where=str(checkpoint),
            fix="use the tokenizer that belongs to this model",
        )
    gone = {token: number for token, number in added_tokens(spec).items() if number >= rows}
    used = used | framing_tokens(spec)
    if lacking := sorted(token for token, number in gone.items() if number in used):
        raise BadArtifact(
            f"its tokenizer or chat template puts {', '.join(lacking)} into texts, and its embedding has no row for it",
            where=str(checkpoint),
            fix="give the embedding a row for each token (`model.resize_token_embeddings`), or use the tokenizer that "
            "belongs to this model",
        )
    return set(gone)


def _counted(corpus: Path, split: str, tokenizer: PreTrainedTokenizerBase, monitor: Monitor, file: Path) -> np.ndarray:
    """How often each token is in a split, as training reads it; kept in `file`."""
    import numpy as np

    from llmtune.training.tokenize import BATCH_CHARACTERS, batches, tokenize

    if file.exists():
        return np.load(file)  # type: ignore[no-any-return]
    counts = np.zeros(1 + max(tokenizer.get_vocab().values()), np.int64)
    with monitor.bar(f"counting tokens of {split}", count(corpus, split), "documents") as bar:
        for batch in map(list, batches(read_split(corpus, split), BATCH_CHARACTERS)):
            monitor.safe_point()
            for ids, _ in tokenize(batch, tokenizer):
                counts += np.bincount(np.asarray(ids, np.int64), minlength=len(counts))
            bar.advance(len(batch))
    data = io.BytesIO()
    np.save(data, counts)
    write_bytes(file, data.getvalue())
    return counts


def _of_template(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that the chat template writes around what people say."""
    from llmtune.training.chat_template import render

    turns = [Message("system", "."), Message("user", "."), Message("assistant", ".")]
    found: set[int] = set()
    for messages in (turns, turns[1:], turns[1:2]) if tokenizer.chat_template else ():
        try:
            text = render(tokenizer, messages, "the chat template", prompt=messages[-1].role == "user")
        except LlmtuneError:  # some take no system turn, some ask for one
            continue
        found |= set(tokenizer(text, add_special_tokens=False)["input_ids"])
    return found


def _save_model(model: Any, kept: Sequence[int], output: Path) -> None:
    """Write weights and configuration: a model without weights of the new shape, filled with the rows that stay."""
    import torch

    from llmtune.models.save import save_checkpoint

    weights: dict[str, Tensor] = model.state_dict()
    shape = ModelShape(model.config.to_dict(), {name: tuple(one.shape) for name, one in weights.items()}, 0)
    places = {number: place for place, number in enumerate(kept)}
    changed = _with_vocabulary(renumbered(shape.config, places), len(kept))
    with torch.device("meta"):
        smaller = type(model)(type(model.config).from_dict(changed))
    numbers = torch.tensor(kept)
    cut: dict[int, Tensor] = {}  # tied weights stay one tensor
    for name, made in smaller.state_dict().items():
        weight = weights[name]
        if made.shape == (len(kept), *weight.shape[1:]) and len(weight) == shape.vocab_size:
            weights[name] = cut.setdefault(weight.data_ptr(), weight.index_select(0, numbers))
        elif made.shape != weight.shape:
            raise CannotRunHere(f"this {shape.family} model has further weights for each token ({name})")
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        smaller.generation_config = type(generation).from_dict(renumbered(generation.to_dict(), places))
    save_checkpoint(smaller, None, output, dtype="auto", state_dict=weights)  # some keep a few weights in fp32
    written = read_json(output / "config.json")
    write_json(output / "config.json", written | {"dtype": str(model.dtype).removeprefix("torch.")})


def _save_tokenizer(
    spec: Mapping[str, Any], checkpoint: Path, kept: Sequence[int], gone: set[str], output: Path
) -> None:
    write_json(output / "tokenizer.json", without_the_rest(spec, kept))
    places = {number: place for place, number in enumerate(kept)}
    for settings in (checkpoint / "tokenizer_config.json", checkpoint / "special_tokens_map.json"):
        if settings.is_file():
            write_json(output / settings.name, without_tokens(renumbered(read_json(settings), places), gone))


def _section(before: ModelShape, vocabulary: int, tokens: dict[str, int], again: dict[str, int]) -> Section:
    rows = [
        (split, many, again[split], f"{again[split] / many:.2%}" if many else None) for split, many in tokens.items()
    ]
    columns = ("split", "tokens before", "tokens now", "of before")
    summary = f"{vocabulary:,} of {before.vocab_size:,} tokens were kept."
    return Section(summary, tables=[Table("What the splits come to in tokens", columns, rows)])
