"""Whether a model with a trimmed vocabulary still is the one before: kept text is cut into the same tokens, and kept
tokens have the same logits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmtune.corpus.store import read_split
from llmtune.corpus.text import document_text
from llmtune.errors import BadArtifact, CannotRunHere

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHECKED = 200  # documents whose lines both tokenizers must cut alike
_ROW = 16  # tokens
# Of the largest logit. All before the output head has the same bits, and the head's sums, in another order, differ by a
# rounding (bf16: 0.4 %); another position, row or scale moves logits by about as much as they are apart.
_APART = 0.02
# Some models set tokens that they never write to the lowest number there is: in fp32, or as many times the median.
_MASKED, _TIMES = 1e30, 100


def check_tokens(
    tokenizer: PreTrainedTokenizerBase,
    smaller: PreTrainedTokenizerBase,
    kept: Sequence[int],
    corpus: Path,
    output: Path,
) -> None:
    """Where all tokens of a line are kept, both cut it alike, and put the same around it; and both know the special
    tokens in a text. Raises BadArtifact where they do not."""
    places = {number: place for place, number in enumerate(kept)}

    def compare(texts: list[str], *, plain: bool) -> None:
        found = (
            one(texts, add_special_tokens=True, split_special_tokens=plain, verbose=False)["input_ids"]
            for one in (tokenizer, smaller)
        )
        for text, ids, again in zip(texts, *found, strict=True):
            expected = [places.get(number) for number in ids]
            if None not in expected and expected != list(again):
                raise BadArtifact(
                    f"the trimmed tokenizer, read as {type(smaller).__name__}, cuts {text[:80]!r} otherwise than the "
                    f"one it was made of ({type(tokenizer).__name__})",
                    where=str(output),
                    fix="set `tokenizer_class` in the base model's tokenizer_config.json to the class it was made for",
                )

    compare(["", *tokenizer.all_special_tokens], plain=False)
    for document in islice(read_split(corpus, "train"), _CHECKED):
        compare(document_text(document).split("\n"), plain=True)


def ordinary_row(kept: Sequence[int], special: Collection[int]) -> list[int]:
    """A short row of token numbers from all over a vocabulary, without those that a model may treat in its own way."""
    ordinary = [number for number in kept if number not in special]
    return ordinary[:: max(1, -(-len(ordinary) // _ROW))] or list(kept[:_ROW])


def logits_of(model: Any, row: Sequence[int]) -> Tensor:
    """What a model gives for a row of token numbers: (T, V), fp32."""
    with torch.inference_mode():
        logits_TV: Tensor = model(input_ids=torch.tensor([row])).logits[0]
    return logits_TV.float()


def check_logits(before: Tensor, after: Tensor, family: str, checkpoint: Path) -> None:
    """Both (T, V) with the same tokens; raises CannotRunHere where they differ by more than rounding does."""
    finite = before[before.abs() < _MASKED]
    if not len(finite):
        raise CannotRunHere(
            f"this {family} model gives no finite logit for its own tokens, before anything is left out",
            where=str(checkpoint),
            fix="see whether its weights are whole: `llmtune evaluate` on it",
        )
    told_apart = finite[finite > finite.min()]  # the least of all may be a mask, and most of the row
    sizes = (told_apart if len(told_apart) else finite).abs()
    usual = sizes[sizes <= _TIMES * sizes.median()] if sizes.median() else sizes
    limit = _APART * float(usual.max())
    if not torch.allclose(after, before, rtol=0, atol=limit, equal_nan=True):
        raise CannotRunHere(
            f"with its tokens numbered anew, this {family} model gives other logits for them, up to "
            f"{float((after - before).abs().max()):.2g} apart: more in it follows from the numbers, as where positions "
            "are counted from the padding token's",
            where=str(checkpoint),
            fix="leave trim_vocabulary out for this model",
        )
