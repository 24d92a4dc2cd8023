"""Compare how two runtimes read text: the same tokens, the same rendered conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtune.errors import VerificationFailed


def compare_readings(
    expected: dict[str, Any], found: dict[str, Any], texts: Sequence[str], tokenizer: Any, where: str, runtime: str
) -> None:
    """Raise VerificationFailed at the first text or conversation that `runtime` reads in another way.

    expected, found: as `jobs/transformers_run.py: read` returns them. A begin token in front is set aside in rendered
    conversations: transformers expects it from the template, llama.cpp adds it itself.
    """
    for kind in ("tokens", "tokens_with_special"):
        for text, ours, theirs in zip(texts, expected[kind], found[kind], strict=True):
            if ours != theirs:
                raise VerificationFailed(
                    f"{runtime} splits a probe text into other tokens: {_difference(ours, theirs, tokenizer)}, "
                    f"in {text[:80]!r}",
                    where=where,
                    fix="the vocabulary, its added tokens or the pre-tokenizer were not exported as they are: set "
                    "pre_tokenizer, or use format: hf",
                )
    begin = tokenizer.bos_token or ""
    if len(found["rendered"]) < len(expected["rendered"]):
        raise VerificationFailed(
            f"{runtime} has no chat template, the checkpoint has one",
            where=where,
            fix="the bundle's chat template was lost: export again",
        )
    for index, ours in enumerate(expected["rendered"]):
        theirs = found["rendered"][index]
        if ours is None:
            continue
        if theirs is None:
            raise VerificationFailed(
                f"{runtime} refuses to render conversation {index}, which the checkpoint's chat template takes",
                where=where,
                fix="the chat template in the bundle is not the checkpoint's",
            )
        if ours.removeprefix(begin) != theirs.removeprefix(begin):
            at = _first_difference(ours.removeprefix(begin), theirs.removeprefix(begin))
            raise VerificationFailed(
                f"{runtime} renders the chat template differently: {theirs.removeprefix(begin)[at : at + 60]!r} "
                f"where the checkpoint has {ours.removeprefix(begin)[at : at + 60]!r} (character {at})",
                where=where,
                fix="the chat template in the bundle is not the checkpoint's",
            )
        a, b = (_without(tokenizer.bos_token_id, one["tokens_of_rendered"][index]) for one in (expected, found))
        if a != b:
            raise VerificationFailed(
                f"{runtime} splits a rendered conversation into other tokens: {_difference(a, b, tokenizer)}",
                where=where,
                fix="special tokens were not exported as they are",
            )


def reading_figures(expected: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """For the proof: how much was compared, and was equal."""
    rendered = [one for one in expected["rendered"] if one is not None]
    return {
        "tokenization": {"texts": len(texts), "tokens": sum(len(one) for one in expected["tokens"]), "equal": True},
        "chat_template": {"conversations": len(rendered), "equal": True} if rendered else "the model has none",
    }


def _difference(ours: list[int], theirs: list[int], tokenizer: Any) -> str:
    at = _first_difference(ours, theirs)

    def show(tokens: list[int]) -> str:
        part = tokens[at : at + 4]
        return f"{part} {tokenizer.convert_ids_to_tokens([one for one in part if one < len(tokenizer)])}"

    return f"{show(theirs)} where the checkpoint has {show(ours)} (token {at})"


def _first_difference(ours: Sequence[Any], theirs: Sequence[Any]) -> int:
    pairs = zip(ours, theirs, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def _without(begin: int | None, tokens: list[int]) -> list[int]:
    return tokens[1:] if tokens and tokens[0] == begin else tokens
