"""Trimming vocabularies: tokens and weights that do not fit each other, and what is checked of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llmtune.compress.trim_checks import check_logits, ordinary_row
from llmtune.compress.trimmed_tokenizer import without_the_rest
from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.files import read_json, write_json
from llmtune.models.load import load_tokenizer
from llmtune.models.shape import read_shape
from tests.compress.trimming import ROWS, SEEN, SIZE, Noting, trim, with_added
from tests.tiny import BOS, EOS, tiny_checkpoint
from tests.tiny_encoders import tiny_encoder_checkpoint


def with_config(checkpoint: Path, **changes: Any) -> None:
    """Give a folder an encoder of another configuration, with random weights."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(checkpoint)
    config.update(changes)
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(checkpoint)


def test_positions_that_move_with_the_padding_are_noticed(tmp_path: Path) -> None:
    """RoBERTa counts positions from behind its padding token's number, which here is a high one."""
    checkpoint = tiny_encoder_checkpoint(tmp_path / "model", "roberta")
    spec = read_json(checkpoint / "tokenizer.json")
    vocabulary, padding = spec["model"]["vocab"], 310
    other = next(token for token, number in vocabulary.items() if number == padding)
    vocabulary |= {"<pad>": padding, other: 1}
    next(one for one in spec["added_tokens"] if one["content"] == "<pad>")["id"] = padding
    write_json(checkpoint / "tokenizer.json", spec)
    settings = read_json(checkpoint / "tokenizer_config.json")
    settings.pop("added_tokens_decoder", None)
    write_json(checkpoint / "tokenizer_config.json", settings)
    with_config(checkpoint, pad_token_id=padding, max_position_embeddings=padding + 98)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmtune.compress.trimmed_tokenizer.MULTIPLE", 1)
        with pytest.raises(CannotRunHere, match="this roberta model gives other logits"):
            trim(checkpoint, tmp_path)


def test_as_many_positions_as_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no further weights for each token."""
    monkeypatch.setattr("llmtune.compress.trimmed_tokenizer.MULTIPLE", 1)
    checkpoint = tiny_encoder_checkpoint(tmp_path / "model", "bert")
    rows = read_shape(checkpoint).vocab_size
    with_config(checkpoint, max_position_embeddings=rows)
    output, metrics = trim(checkpoint, tmp_path)
    sizes = read_shape(output).tensors
    assert sizes["bert.embeddings.position_embeddings.weight"][0] == rows > metrics["vocabulary"]


def test_an_added_token_without_a_row_goes(tmp_path: Path) -> None:
    """As Gemma 3's token for images, of which the models for text alone have no row."""
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=ROWS)
    with_added(checkpoint, "<image>", ROWS)
    output, metrics = trim(checkpoint, tmp_path)
    vocabulary = load_tokenizer(output).get_vocab()
    assert sorted(vocabulary.values()) == list(range(metrics["vocabulary"]))
    assert "<image>" not in vocabulary
    assert metrics["vocabulary"] % 64 == 0


@pytest.mark.parametrize("pads", [True, False])
def test_padding_without_a_row_goes(tmp_path: Path, pads: bool) -> None:
    """A `[PAD]` was added to the tokenizer and the embedding left as it was: the trimmed one has no padding token,
    where one with the number behind the last row would stop the first padded batch."""
    from transformers import AutoTokenizer

    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=ROWS)
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": ROWS,
               "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    with_added(checkpoint, "[PAD]", ROWS, padding=padding if pads else None)
    settings = checkpoint / "tokenizer_config.json"
    write_json(settings, read_json(settings) | {"pad_token": "[PAD]"})
    write_json(checkpoint / "special_tokens_map.json", {"pad_token": "[PAD]", "eos_token": EOS})
    monitor = Noting()
    output, metrics = trim(checkpoint, tmp_path, monitor=monitor)
    after = AutoTokenizer.from_pretrained(output)
    assert len(after) == metrics["vocabulary"] == read_shape(output).vocab_size
    assert metrics["vocabulary"] % 64 == 0
    assert after.pad_token is None
    assert read_json(output / "special_tokens_map.json") == {"eos_token": EOS}
    assert [note for note in monitor.notes if "[PAD]" in note]


def test_padding_keeps_its_token(tmp_path: Path) -> None:
    """Of two texts, the shorter one is filled up with the token that filled it before."""
    from tokenizers import Tokenizer

    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": ROWS,
               "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    with_added(checkpoint, "[PAD]", ROWS, padding=padding)
    output, _ = trim(checkpoint, tmp_path)
    after = Tokenizer.from_file(str(output / "tokenizer.json"))
    short = after.encode_batch(["cost", SEEN])[0]
    assert short.ids[-1] == after.token_to_id("[PAD]") < ROWS
    assert short.tokens[-1] == "[PAD]"


@pytest.mark.parametrize("place", ["template", "frame"])
def test_a_token_of_every_text_needs_a_row(tmp_path: Path, place: str) -> None:
    from tokenizers import Tokenizer, processors

    template = "{% for one in messages %}{{ '<turn>' + one['content'] }}{% endfor %}" if place == "template" else None
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=ROWS, chat_template=template)
    with_added(checkpoint, "<turn>", ROWS)
    if place == "frame":
        tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        tokenizer.post_processor = processors.BertProcessing(("<turn>", ROWS), (BOS, 0))
        tokenizer.save(str(checkpoint / "tokenizer.json"))
    with pytest.raises(BadArtifact, match="<turn> into texts, and its embedding has no row"):
        trim(checkpoint, tmp_path)


@pytest.mark.parametrize("kind", ["template", "bert", "sequence"])
def test_what_stands_around_a_text_stays(tmp_path: Path, kind: str) -> None:
    """By transformers: the same tokens, opening and closing ones among them, whose numbers have moved."""
    from tokenizers import Tokenizer, processors
    from transformers import AutoTokenizer

    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    with_added(checkpoint, "<open>", ROWS)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    frame: Any = processors.BertProcessing((EOS, 3), ("<open>", ROWS))
    if kind != "bert":
        frame = processors.TemplateProcessing(
            single=f"<open> $A {EOS}", pair=None, special_tokens=[("<open>", ROWS), (EOS, 3)]
        )
    tokenizer.post_processor = processors.Sequence([frame]) if kind == "sequence" else frame
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    output, metrics = trim(checkpoint, tmp_path)
    before, after = AutoTokenizer.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(output)
    ids = [one(SEEN, add_special_tokens=True)["input_ids"] for one in (before, after)]
    pieces = [one.convert_ids_to_tokens(found) for one, found in zip((before, after), ids, strict=True)]
    assert pieces[0] == pieces[1]
    assert [pieces[1][0], pieces[1][-1]] == ["<open>", EOS]
    assert ids[1][0] < metrics["vocabulary"] <= ids[0][0]


@pytest.mark.parametrize("damage", ["merges", "frame", "special"])
def test_a_tokenizer_that_cuts_otherwise_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def damaged(spec: dict[str, Any], kept: list[int]) -> dict[str, Any]:
        spec = without_the_rest(spec, kept)
        if damage == "merges":
            spec["model"]["merges"] = spec["model"]["merges"][::-1]
        elif damage == "frame":
            spec["post_processor"] = None
        else:
            places = {one["content"]: one["id"] for one in spec["added_tokens"]}
            spec["model"]["vocab"] |= {BOS: places[EOS], EOS: places[BOS]}
            spec["added_tokens"] = []
        return spec

    monkeypatch.setattr("llmtune.compress.trim_vocabulary.without_the_rest", damaged)
    with pytest.raises(BadArtifact, match=r"cuts .* otherwise than the one it was made of"):
        trim(tiny_checkpoint(tmp_path / "model", vocab_size=SIZE, add_bos=True), tmp_path)


@pytest.mark.parametrize("most", [torch.finfo(torch.float32).min, torch.finfo(torch.float16).min, -1e9])
@pytest.mark.parametrize("lowest", [torch.finfo(torch.float32).min, torch.finfo(torch.float16).min, -1e4])
def test_logits_that_are_never_written_are_no_measure(lowest: float, most: float) -> None:
    """Those of image tokens, in some models the lowest number there is; the others differ all the same."""
    masked = [lowest, -torch.inf] + 9 * [most]
    before, after = torch.tensor([[1.0, 2.0, 1.5, *masked]]), torch.tensor([[2.0, 1.0, 1.5, *masked]])
    check_logits(before, before.clone(), "toy", Path("toy"))
    with pytest.raises(CannotRunHere, match="gives other logits"):
        check_logits(before, after, "toy", Path("toy"))


def test_a_model_that_gives_no_number(tmp_path: Path) -> None:
    nothing = torch.full((2, 5), torch.nan)
    with pytest.raises(CannotRunHere, match="no finite logit"):
        check_logits(nothing, nothing, "toy", tmp_path)


def test_logits_that_are_mostly_nothing_bear_a_rounding(tmp_path: Path) -> None:
    before = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    check_logits(before, before + 1e-6, "toy", tmp_path)


def test_a_row_of_special_tokens_alone_where_there_are_no_others() -> None:
    assert ordinary_row([3, 4, 5], {4}) == [3, 5]
    assert ordinary_row([3, 4], {3, 4}) == [3, 4]
