"""How a tokenizer splits text before it merges, and the name llama.cpp has for it.

llama.cpp's converter knows published tokenizers by a hash over tokens of a sample, so it knows none whose vocabulary
was changed (tokens added, vocabulary trimmed, one trained on the domain). The way of splitting does not depend on the
vocabulary: it stands in tokenizer.json, and llama.cpp implements the common ones (src/llama-vocab.cpp). The tokens
themselves are compared by verification, whichever way the name was found.
"""

from __future__ import annotations

import json

from llmtune.models.pretokenizers import LLAMA3, QWEN2, QWEN35


def _key(*cuts: list[object], whole_words: bool = False) -> str:
    return json.dumps({"cuts": list(cuts), "whole_words": whole_words}, sort_keys=True)


# cuts as `jobs/convert.py: splitting` writes them. ByteLevel: [uses GPT-2's expression, adds a space in front].
# whole_words: a word that is itself a token is taken without merging (`ignore_merges`).
KNOWN: dict[str, str] = {
    _key(["ByteLevel", True, False]): "gpt-2",
    _key(["Digits", True], ["ByteLevel", True, False]): "smollm",
    _key(["Split", LLAMA3, "Isolated"], ["ByteLevel", False, False], whole_words=True): "llama-bpe",
    _key(["Split", LLAMA3, "Isolated"], ["ByteLevel", False, False]): "smaug-bpe",
    _key(["Split", QWEN2, "Isolated"], ["ByteLevel", False, False]): "qwen2",
    _key(["Split", QWEN35, "Isolated"], ["ByteLevel", False, False]): "qwen35",
}
