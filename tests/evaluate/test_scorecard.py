"""The scorecard's figures, ratios and colours."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from llmtune.evaluate.scorecard import Cell, Scorecard


def cells(base: dict[str, Any], tuned: dict[str, Any], field: str) -> tuple[Cell, Cell]:
    card = Scorecard({"base": base, "tuned": tuned})
    index = [column.field for column in card.columns].index(field)
    (_, first), (_, second) = card.rows()
    return first[index], second[index]


def test_ratios_and_tones_are_against_the_first_model() -> None:
    base = {"domain_perplexity": 12.0, "bytes": 270e6, "decode_tokens_per_second": 20.0, "parameters": 135e6}
    tuned = {"domain_perplexity": 9.0, "bytes": 79e6, "decode_tokens_per_second": 15.0, "parameters": 135e6}
    assert cells(base, tuned, "domain_perplexity") == (Cell("12.00", "", ""), Cell("9.00", "0.75 ×", "good"))
    assert cells(base, tuned, "bytes")[1] == Cell("79.0 MB", "0.29 ×", "good")
    assert cells(base, tuned, "decode_tokens_per_second")[1] == Cell("15", "0.75 ×", "bad")
    assert cells(base, tuned, "parameters") == (Cell("135.0 M", "", ""), Cell("135.0 M", "1.00 ×", ""))


def test_figures_that_are_missing_or_of_other_text_have_no_ratio() -> None:
    base = {"domain_perplexity": 12.0, "domain_text": "aa", "bytes": 5e9}
    assert cells(base, {"domain_perplexity": 9.0, "domain_text": "bb"}, "domain_perplexity")[1] == Cell("9.00", "", "")
    assert cells(base, {}, "bytes") == (Cell("5.0 GB", "", ""), Cell("–", "", ""))
    assert cells({}, base, "bytes")[1] == Cell("5.0 GB", "", "")


def test_accuracies_are_coloured_only_when_the_difference_is_no_chance() -> None:
    def scores(right: str) -> dict[str, Any]:
        share = right.count("1") / len(right)
        return {
            "domain_accuracy": share,
            "domain_accuracy_low": 0.4,
            "domain_accuracy_high": 0.6,
            "domain_right": right,
        }

    base = scores("10" * 30)
    assert cells(base, scores("11" * 30), "domain_accuracy")[1].tone == "good"
    assert cells(base, scores("00" * 30), "domain_accuracy")[1].tone == "bad"
    one_more = cells(base, scores("11" + "10" * 29), "domain_accuracy")[1]
    assert one_more == Cell("51.7% (40%–60%)", "1.03 ×", "")


def test_above_chance_has_the_paired_interval_of_its_ratio() -> None:
    from llmtune.evaluate.intervals import paired_ratio

    def scores(right: str, text: str = "aa") -> dict[str, Any]:
        above = right.count("1") / len(right) - 0.25
        return {"knowledge_above_chance": above, "knowledge_right": right, "knowledge_questions_text": text}

    base, tuned = "1100" * 50, "1101" * 20 + "1100" * 30
    interval = paired_ratio([int(one) - 0.25 for one in base], [int(one) - 0.25 for one in tuned])
    assert interval is not None
    low, high = interval
    assert 1.0 < low < 1.4 < high < 2
    field = "knowledge_above_chance"
    better = Cell("35.0%", f"1.40 × ({low:.2f}–{high:.2f})", "good")
    assert cells(scores(base), scores(tuned), field) == (Cell("25.0%", "", ""), better)
    assert cells(scores("1000" * 50), scores(base), field)[1] == Cell("25.0%", "", "")  # a ratio to nothing
    assert cells(scores("10"), scores("11"), field)[1] == Cell("75.0%", "3.00 ×", "")
    assert cells(scores(base), scores(tuned, "bb"), field)[1] == Cell("35.0%", "", "")


def test_only_measured_columns_are_shown() -> None:
    card = Scorecard({"base": {"bytes": 1e6}, "tuned": {"bytes": 1e6, "own_accuracy": None}})
    assert [column.field for column in card.columns] == ["bytes"]
    assert Scorecard({}).rows() == []
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(card.table())
    assert "1.0 MB" in console.export_text()


def test_from_the_third_model_on_the_one_before_is_compared_with_too() -> None:
    figures = {"base": 12.0, "train": 9.0, "quantize": 10.8}
    card = Scorecard({name: {"domain_perplexity": value} for name, value in figures.items()})
    assert [row[0].previous for _, row in card.rows()] == ["", "", "1.20 ×"]
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(card.table())
    assert "10.80 0.90 × (1.20 ×)" in console.export_text()


def test_a_perplexity_of_other_tokens_is_shown_in_those_of_the_first_model() -> None:
    """A byte that costs half as much has the square root of the perplexity; ratios are of what is shown."""
    base = {"domain_perplexity": 100.0, "domain_bits_per_byte": 2.0, "domain_tokens": 50, "domain_text": "aa"}
    trimmed = {"domain_perplexity": 4.0, "domain_bits_per_byte": 1.0, "domain_tokens": 90, "domain_text": "aa"}
    worse = {"domain_perplexity": 8.0, "domain_bits_per_byte": 1.5, "domain_tokens": 90, "domain_text": "aa"}
    assert cells(base, trimmed, "domain_perplexity")[1] == Cell("10.00", "0.10 ×", "good")
    card = Scorecard({"base": base, "trimmed": trimmed, "worse": worse})
    assert card.rows()[2][1][0] == Cell("31.62", "0.32 ×", "good", "3.16 ×")
    assert "in tokens of base" in card.note
    assert Scorecard({"base": base, "tuned": base | {"domain_perplexity": 150.0}}).note == ""
    assert Scorecard({}).note == ""
