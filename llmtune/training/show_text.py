"""Tokens of a document as text for a terminal, each in the style of what the model does with it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED, CONTEXT, PADDING, BORDER = "green", "yellow", "dim red", "bold reverse blue"
MASKED, REPLACED, LEFT, SEEN = "magenta", "bold red", "bold cyan", "default"
# Set around a run in output without colours.
SIGNS = {CONTEXT: ("‹", "›"), REPLACED: ("{", "}"), LEFT: ("[", "]")}


def document_text(
    ids: np.ndarray, kinds: np.ndarray, tokenizer: PreTrainedTokenizerBase, most: int | None, plain: bool
) -> Text:
    """The tokens (n,) of one document; the middle left out beyond `most` tokens.

    kinds: (n,) the style of each token; MASKED ones are shown as blocks, as wide as the tokens
    plain: set SIGNS
    """
    text = Text()
    tail = (most or 0) // 4
    left_out = range(0) if most is None or len(ids) <= most else range(most - tail, len(ids) - tail)
    changes = (np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist()
    for begin, end in pairwise(sorted({0, len(ids), left_out.start, left_out.stop, *changes})):
        if begin in left_out:
            if begin == left_out.start:
                text.append(f" … {len(left_out)} tokens … ", "dim")
            continue
        run, kind = run_text(ids, begin, end, tokenizer), str(kinds[begin])
        if kind == MASKED:
            run = re.sub(r"\S", "░", run)
        before, behind = SIGNS.get(kind, ("", "")) if plain else ("", "")
        text.append(f"{before}{run}{behind}", kind)
    return text


def run_text(ids: np.ndarray, begin: int, end: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokens from `begin` to `end` as they read behind the one before them: spaces can depend on it."""
    first = max(begin - 1, 0)
    before, whole = (tokenizer.decode(ids[first:last].tolist(), skip_special_tokens=False) for last in (begin, end))
    return str(whole[len(before) :]).replace("\n", "⏎\n")
