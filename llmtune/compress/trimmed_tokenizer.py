"""Which tokens of a tokenizer can go, and the tokenizer without them, on a `tokenizer.json` as the tokenizers library
writes it (merges in pairs, every key there). Imports no torch.

Whatever is kept, every text can still be written, and a text whose tokens are all kept is cut into the same tokens:

- BPE (bytes or characters): a token is made by merging two, which were made by merging two. The kept tokens bring all
  that they are made of, with the merges. Of the merges that a text allows, the one of the lowest rank is done; without
  those that made none of its tokens, the others are done in the same order.
- Unigram: the likeliest way to cut a text is still there, and no other was added. What an unknown character costs
  follows from the lowest score of all, so the piece that has it stays.
- WordPiece: the longest piece that fits is taken, and a kept one is still the longest.

Other text falls into smaller tokens, at the least into bytes or characters. Trimming a vocabulary to a language or a
domain: Abdaoui et al., "Load What You Need" (arXiv:2010.05609); Ushio et al. (arXiv:2305.15020).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from llmtune.errors import CannotRunHere

MULTIPLE = 64  # of rows of the embedding: what matrix kernels fit
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_OF_TOKENS = re.compile(r"(token_ids?|token_index|suppress_tokens|bad_words_ids)$")  # fields with token numbers


def vocabulary_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """Token → number, without the added ones that stand beside the model's own."""
    vocab = spec["model"]["vocab"]
    return {token: number for number, (token, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)


def added_tokens(spec: Mapping[str, Any]) -> dict[str, int]:
    """Token → number of the added ones, of which some may be the model's own too."""
    return {one["content"]: one["id"] for one in spec["added_tokens"]}


def framing_tokens(spec: Mapping[str, Any]) -> set[int]:
    """Numbers of the tokens that are put around a text, or around a pair of texts."""
    named = set(_framing(spec["post_processor"]))
    return {number for token, number in (vocabulary_of(spec) | added_tokens(spec)).items() if token in named}


def with_rows(spec: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The tokenizer.json without the added tokens that have no row in an embedding of so many."""
    return {**spec, "added_tokens": [one for one in spec["added_tokens"] if one["id"] < rows]}


def kept_tokens(spec: Mapping[str, Any], counts: Sequence[int], at_least: int, named: Iterable[int] = ()) -> list[int]:
    """Numbers, ascending, of the tokens that stay: those seen `at_least` so many times, those that any tokenizer of
    this kind cannot do without, added and special ones, `named`, and what all of these are made of. Filled up to a
    multiple of 64 with the most frequent of the others.

    spec:   a parsed tokenizer.json
    counts: how often each token was seen; those beyond its end were not
    Raises CannotRunHere where the tokenizer's kind is not known.
    """
    numbers = vocabulary_of(spec)
    parts = _parts(spec, numbers)
    added = set(added_tokens(spec).values())
    every = {*numbers.values(), *added}
    seen = {number: counts[number] if number < len(counts) else 0 for number in every}
    wanted_so = set(named) | framing_tokens(spec)
    if spec["padding"]:
        wanted_so.add(spec["padding"]["pad_id"])
    kept = added | _always(spec, numbers)
    for token, number in numbers.items():
        if seen[number] >= at_least or number in wanted_so:
            kept |= {number, *parts(token)}
    wanted = min(-(-len(kept) // MULTIPLE) * MULTIPLE, len(every))
    for token in sorted(numbers, key=lambda one: (-seen[numbers[one]], numbers[one])):
        if len(kept) == wanted:
            break
        more = {numbers[token], *parts(token)} - kept
        if len(kept) + len(more) <= wanted:
            kept |= more
    return sorted(kept)


def without_the_rest(spec: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The tokenizer.json with only the tokens `kept` (ascending; all added ones among them), numbered anew from 0 in
    the same order. It no longer pads where it did so with a token that it does not have."""
    places = {number: place for place, number in enumerate(kept)}
    made = copy.deepcopy(dict(spec))
    model = made["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [pair for number, pair in enumerate(model["vocab"]) if number in places]
        if model.get("unk_id") is not None:
            model["unk_id"] = places[model["unk_id"]]
    else:
        model["vocab"] = {token: places[number] for token, number in model["vocab"].items() if number in places}
    if model.get("merges") is not None:
        there = model["vocab"]
        model["merges"] = [pair for pair in model["merges"] if {*pair, "".join(pair)} <= there.keys()]
    made["added_tokens"] = [added | {"id": places[added["id"]]} for added in made["added_tokens"]]
    made["post_processor"] = _framed(made["post_processor"], vocabulary_of(made) | added_tokens(made))
    if padding := made["padding"]:
        place = places.get(padding["pad_id"])
        made["padding"] = None if place is None else padding | {"pad_id": place}
    return made


def renumbered(settings: Mapping[str, Any], places: Mapping[int, int]) -> dict[str, Any]:
    """A configuration (config.json, generation_config.json, tokenizer_config.json) with its token numbers replaced. One
    that is no token's (-1, or padding beyond the vocabulary) becomes None; a sequence with a token that is gone, or a
    list's entry, is left out."""
    return _mapped(settings, places.get)


def without_tokens(settings: Any, gone: Collection[str]) -> Any:
    """A tokenizer's configuration (tokenizer_config.json, special_tokens_map.json) that names none of the tokens
    `gone`: what it names is added to the vocabulary when it is read."""

    def stays(value: Any) -> bool:
        token = value.get("content") if isinstance(value, Mapping) else value
        return not (isinstance(token, str) and token in gone)

    if isinstance(settings, Mapping):
        return {name: without_tokens(value, gone) for name, value in settings.items() if stays(value)}
    return (
        [without_tokens(value, gone) for value in settings if stays(value)] if isinstance(settings, list) else settings
    )


def named_in(settings: Mapping[str, Any]) -> set[int]:
    """The token numbers that a configuration names."""
    found: set[int] = set()
    _mapped(settings, found.add)
    return {number for number in found if number >= 0}


def _mapped(settings: Mapping[str, Any], change: Callable[[int], int | None]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and name == "added_tokens_decoder":
            changed = {change(int(number)): one for number, one in value.items()}
            made[name] = {str(number): one for number, one in changed.items() if number is not None}
        elif isinstance(value, Mapping):
            made[name] = _mapped(value, change)
        else:
            made[name] = _mapped_value(value, change) if _OF_TOKENS.search(str(name)) else value
    return made


def _mapped_value(value: Any, change: Callable[[int], int | None], inside: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | list):
        return value
    if isinstance(value, int):
        return change(value)
    found = [_mapped_value(one, change, inside=True) for one in value]
    if inside and None in found:
        return None
    return [one for one in found if one is not None]


def _always(spec: Mapping[str, Any], numbers: Mapping[str, int]) -> set[int]:
    """What every text may need: bytes, or else single characters, and the token for the unknown with what it costs."""
    model = spec["model"]
    prefix = model.get("continuing_subword_prefix") or ""
    kept = {number for token, number in numbers.items() if _BYTE.fullmatch(token)}
    if not model.get("byte_fallback") or len(kept) < 256:
        kept = {number for token, number in numbers.items() if len(token.removeprefix(prefix)) == 1}
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        kept.add(scores.index(min(scores)))
    unknown = model.get("unk_id", numbers.get(model.get("unk_token") or ""))
    return kept if unknown is None else kept | {unknown}


def _parts(spec: Mapping[str, Any], numbers: Mapping[str, int]) -> Callable[[str], set[int]]:
    """How to find the tokens that a token is made of on the way from its characters."""
    model = spec["model"]
    kind = model["type"]
    if kind in ("Unigram", "WordPiece"):
        return lambda token: set()
    if kind != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        marks = " with marks for parts of words" if kind == "BPE" else ""
        raise CannotRunHere(
            f"its tokenizer is of the kind {kind}{marks}, whose vocabulary is not trimmed here",
            fix="leave trim_vocabulary out; known are BPE (bytes or characters), Unigram and WordPiece",
        )
    ranks = {(first, second): rank for rank, (first, second) in enumerate(model["merges"])}

    def parts(token: str) -> set[int]:
        pieces, found = list(token), set[int]()
        while len(pieces) > 1:
            rank, place = min((ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairwise(pieces)))
            if rank == len(ranks):  # it is made by no merges: taken as it stands (ignore_merges), or never
                break
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
            found.add(numbers[pieces[place]])
        return found | {numbers[piece] for piece in token if piece in numbers}

    return parts


def _framing(processor: Any) -> Iterable[str]:
    """The tokens that `_framed` looks up."""
    if processor is None:
        return
    if processor["type"] == "Sequence":
        for one in processor["processors"]:
            yield from _framing(one)
    elif processor["type"] == "TemplateProcessing":
        for one in processor["special_tokens"].values():
            yield from one["tokens"]
    else:
        yield from (processor[side][0] for side in ("sep", "cls") if side in processor)


def _framed(processor: Any, numbers: Mapping[str, int]) -> Any:
    """What puts tokens around a text, with the new numbers of its tokens."""
    if processor is None:
        return None
    made = dict(processor)
    if processor["type"] == "Sequence":
        made["processors"] = [_framed(one, numbers) for one in processor["processors"]]
    elif processor["type"] == "TemplateProcessing":
        made["special_tokens"] = {
            name: one | {"ids": [numbers[token] for token in one["tokens"]]}
            for name, one in processor["special_tokens"].items()
        }
    else:  # of BERT and RoBERTa: a token and its number
        made |= {side: [processor[side][0], numbers[processor[side][0]]] for side in ("sep", "cls") if side in made}
    return made
