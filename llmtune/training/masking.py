"""Dynamic masking: part of a row's tokens hidden from the model, drawn anew for each reading of the row.

causal  the mask token in the place of 15 % of the inputs; the next token is learned everywhere, as without masking:
        MEAP (Zhuang et al. 2025, arXiv:2502.07490)
mlm     15 % of the words are learned; of their tokens the model reads 8 in 10 as the mask token, 1 as any other, 1 as
        it is: BERT (Devlin et al. 2019, arXiv:1810.04805)

What is drawn is a pure function of (seed, epoch, row): the same after a resume, and whatever ranks and micro-batches a
row goes through. Only targets are masked, so never the first token of a document, the question of a conversation or
padding; and never special tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmtune.errors import LlmtuneError
from llmtune.models.families import is_encoder
from llmtune.seeds import seed_of
from llmtune.training.settings import MaskingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llmtune.training.data import Row

# Of the tokens that a masked-language model learns (Devlin et al. 2019); the rest is left as it is.
MASKED, REPLACED = 0.8, 0.1


class Reading(NamedTuple):
    """A row as the model reads it: input_ids (n,) int32, and which of the row's own tokens are targets, (n,) bool."""

    input_ids: np.ndarray
    trained: np.ndarray


@dataclass(frozen=True)
class Masker:
    """Draws the masks; made by `masker_for`.

    seed:     of the training; the draws are named by it
    token:    id that stands for a masked token
    special:  (V,) bool, ids that are never masked
    ordinary: ids that can take the place of a token (mlm)
    """

    settings: MaskingSettings
    seed: int
    token: int
    special: np.ndarray = field(compare=False, repr=False)
    ordinary: np.ndarray = field(compare=False, repr=False)

    @property
    def by_words(self) -> bool:
        """Whether a word is masked whole."""
        return self.settings.type == "mlm" and self.settings.whole_words is not False

    def described(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What is done, in a sentence."""
        what = "words" if self.by_words else "tokens"
        sign = tokenizer.convert_ids_to_tokens(self.token)
        share = f"{100 * self.settings.ratio:g} % of the {what}"
        return f"masking ({self.settings.type}): {share}, other ones in each epoch, by {sign}"

    def __call__(self, row: Row, epoch: int | None, index: int) -> Reading:
        """The reading of row number `index` in this epoch. epoch None: to validate on; as it is (causal), or with the
        same masks each time (mlm), so that validations compare."""
        causal = self.settings.type == "causal"
        if causal and epoch is None:
            return Reading(row.input_ids, row.trained)
        words = row.words if self.by_words else None
        draws = self._draws(epoch, index, 1 if causal else 3, len(row.input_ids))
        chosen = row.trained & ~self.special[row.input_ids]
        chosen &= _below(draws[0] if words is None else _by_word(draws[0], words), self.settings.ratio)
        if causal:
            return Reading(np.where(chosen, np.int32(self.token), row.input_ids), row.trained)
        read = row.input_ids.copy()
        replaced = chosen & _below(draws[1], MASKED + REPLACED)
        read[replaced] = self.ordinary[draws[2][replaced] % np.uint64(len(self.ordinary))]
        read[chosen & _below(draws[1], MASKED)] = self.token
        return Reading(read, chosen)

    def _draws(self, epoch: int | None, index: int, kinds: int, tokens: int) -> np.ndarray:
        """(kinds, tokens) uint64: raw bits, which numpy promises for every version; see order.py."""
        seed = seed_of(self.seed, "masking", "valid" if epoch is None else epoch)
        bits = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(kinds * tokens)
        return np.asarray(bits).reshape(kinds, tokens)


def _below(draws: np.ndarray, probability: float) -> np.ndarray:
    """Which of some draws (uint64) fall into a part of all that are possible."""
    return draws < np.uint64(probability * 2.0**64)


def _by_word(draws: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The draw of each token's word: that of the token at which it begins (`words`, bool; true at the first)."""
    return draws[np.maximum.accumulate(np.where(words, np.arange(len(words)), 0))]


def masker_for(
    masking: MaskingSettings | None, tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any], seed: int
) -> Masker | None:
    """The masker of a training of the model with this `config.json`; None: nothing is masked. An encoder is trained
    on masked tokens, whether asked for or not. Raises LlmtuneError where no token can stand for a masked one."""
    if masking is None and is_encoder(config):
        masking = MaskingSettings(type="mlm")
    if masking is None or masking.ratio == 0:
        return None
    text = config.get("text_config") or config
    size = int(text.get("vocab_size") or len(tokenizer))
    special = np.zeros(max(size, len(tokenizer)), bool)
    special[special_ids(tokenizer)] = True
    known = np.array(sorted(tokenizer.get_vocab().values()), np.int32)
    ordinary = known[~special[known] & (known < size)]
    return Masker(masking, seed, mask_token(masking.token, tokenizer, size), special, ordinary)


def mask_token(wanted: str | None, tokenizer: PreTrainedTokenizerBase, size: int) -> int:
    """Id of the token that stands for a masked one, in a model whose embedding has `size` rows.

    The one wanted; else the tokenizer's mask token; else the last of its special tokens that has no part in texts or
    conversations: not one that opens, closes, pads or stands for the unknown, and not in the chat template. Such tokens
    are reserved in most vocabularies (Llama, Qwen, Gemma, SmolLM2), and text never becomes one (tokenize.py). No row is
    added to the embedding: that would change the size of the model.
    """
    if wanted is not None:
        found = tokenizer.get_vocab().get(wanted)
        if found is None or found >= size:
            raise LlmtuneError(
                f"masking.token '{wanted}' is not a token of the model's vocabulary",
                fix="name one as it stands in the vocabulary, or leave masking.token out",
            )
        return int(found)
    if tokenizer.mask_token_id is not None and tokenizer.mask_token_id < size:
        return int(tokenizer.mask_token_id)
    roles = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    roles |= {tokenizer.cls_token_id, tokenizer.sep_token_id}
    template = str(tokenizer.chat_template or "")
    free = [
        token
        for token in special_ids(tokenizer)
        if token < size and token not in roles and str(tokenizer.convert_ids_to_tokens(token)) not in template
    ]
    if not free:
        raise LlmtuneError(
            "the tokenizer has neither a mask token nor a special token to spare",
            fix="name a token that your texts hardly contain by masking.token",
        )
    return max(free)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of all tokens that the tokenizer calls special."""
    added = {token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
    return sorted(added | set(tokenizer.all_special_ids))


def masking_problem(masking: MaskingSettings | None, config: Mapping[str, Any]) -> str | None:
    """Why a model with this `config.json` cannot be trained with this masking; None when it can."""
    if masking is None:
        return None
    family = config.get("model_type")
    if masking.type == "causal" and is_encoder(config):
        return f"masking type causal is for models that write text; a {family} model is an encoder: use type mlm"
    if masking.type == "mlm" and not is_encoder(config):
        return f"masking type mlm is for encoders; a {family} model learns the next token: use type causal"
    return None
