"""Tiny random models with a tokenizer, as Hugging Face folders, for tests of every part.

    from tests.tiny import tiny_checkpoint
    folder = tiny_checkpoint(tmp_path / "model", "gemma2")

Everything follows from the arguments: the same call gives the same bits. Each family keeps what makes it different
(biases, Conv1D, soft-capping, logit and residual scaling, sliding windows, tied or untied heads) at values that
change the logits, so that a reader who forgets one of them is caught.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

BOS, EOS, PAD, TURN, UNKNOWN = "<|begin|>", "<|im_end|>", "<|pad|>", "<|im_start|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = (
    "The planner estimates the cost of each path and keeps the cheapest one.",
    "A generator is a function that yields values; the caller asks for the next value.",
    "Indexes make reading faster and writing slower, so create only the ones that queries use.",
    "if the condition is true, the statement is executed and the result is returned to the caller",
    "Raise an error when the value is not an integer: expected 3 arguments, found 12.",
    "SELECT name, count(*) FROM table WHERE id > 100 GROUP BY name ORDER BY name;",
)
# Family → (configuration class, what differs from the common size).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {"tie_word_embeddings": False, "sliding_window": 24}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"tie_word_embeddings": False, "head_dim": 32}),
    "gemma2": (
        "Gemma2Config",
        {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 24, "final_logit_softcapping": 4.0,
         "attn_logit_softcapping": 3.0, "tie_word_embeddings": True},
    ),
    "gemma3_text": (
        "Gemma3TextConfig",
        {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 24, "tie_word_embeddings": True,
         "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "granite": (
        "GraniteConfig",
        {"embedding_multiplier": 3.0, "logits_scaling": 2.5, "residual_multiplier": 0.7, "attention_multiplier": 0.2,
         "tie_word_embeddings": True},
    ),
    "cohere": ("CohereConfig", {"logit_scale": 0.25, "tie_word_embeddings": True}),
    "gpt2": ("GPT2Config", {}),
}  # fmt: skip


@cache
def _trained_tokenizer(vocab_size: int, splitting: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if splitting == "qwen2":  # AutoTokenizer rebuilds these parts for a qwen2 folder whatever its tokenizer.json says
        from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, PAD, TURN, EOS, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(
    vocab_size: int = 320,
    *,
    add_bos: bool = False,
    chat_template: str | None = CHAT_TEMPLATE,
    splitting: str = "gpt2",
) -> Any:
    """A byte-level BPE tokenizer that can write any text; bos (0), pad (1) and eos (3) are three tokens.

    splitting: `gpt2` or `qwen2`, the regular expression that cuts text into words before BPE.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_trained_tokenizer(vocab_size, splitting))
    if add_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        extra_special_tokens=[TURN],
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_config(
    family: str, *, vocab_size: int = 320, hidden: int = 64, layers: int = 2, context: int = 256, **changes: Any
) -> Any:
    """The family's configuration at test size: 4 heads (2 for keys and values where the family has them)."""
    import transformers

    name, differences = FAMILIES[family]
    if family == "gpt2":
        common: dict[str, Any] = {"n_embd": hidden, "n_layer": layers, "n_head": 4, "n_positions": context}
        common |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        common = {
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": context,
        }
    differences = dict(differences)
    if "layer_types" in differences:
        differences["layer_types"] = (differences["layer_types"] * layers)[:layers]
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 3}
    settings = {**common, "vocab_size": vocab_size, "initializer_range": 0.08, **ids, **differences, **changes}
    return getattr(transformers, name)(**settings)


def tiny_model(family: str = "llama", *, seed: int = 0, dtype: str = "float32", **config: Any) -> Any:
    """A random model in eval mode. Vectors (norms, biases) are moved off their neutral start, so that losing one shows.

    config: arguments of `tiny_config` (vocab_size, hidden, layers, context, or any field of the family's own).
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **config), dtype=torch.float32)
        with torch.no_grad():
            for _, parameter in sorted(model.named_parameters()):
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    for parameter in model.parameters():  # model.to(dtype) would round the rotary frequencies too, unlike loading in it
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return model.eval()


def tiny_checkpoint(
    folder: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    dtype: str = "float32",
    add_bos: bool = False,
    chat_template: str | None = CHAT_TEMPLATE,
    **config: Any,
) -> Path:
    """Save a tiny random model and its tokenizer into `folder` (made if missing) as transformers does; returns it."""
    tokenizer = tiny_tokenizer(
        config.setdefault("vocab_size", 320),
        add_bos=add_bos,
        chat_template=chat_template,
        splitting="qwen2" if family == "qwen2" else "gpt2",
    )
    model = tiny_model(family, seed=seed, dtype=dtype, **config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
