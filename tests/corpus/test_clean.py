"""Mojibake, broken words and boilerplate: what is mended is known beforehand, and text that is right stays."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.corpus.build import build_corpus
from llmtune.corpus.clean.boilerplate import Boilerplate, LineCounts
from llmtune.corpus.clean.hyphens import BrokenWords, Hyphens, count_words
from llmtune.corpus.clean.mojibake import mend_mojibake
from llmtune.corpus.clean.unicode import clean_text
from llmtune.corpus.estimate import estimate
from llmtune.corpus.settings import CorpusSettings
from llmtune.errors import Stopped
from llmtune.monitor import Monitor

from .conftest import Build, random_text

# Article 1 of the Universal Declaration of Human Rights, or its beginning.
RIGHT = [
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos; ¿verdad? ¡Sí, señor!",
    "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Não é ficção.",
    "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. È così, perché no?",
    "Alla människor är födda fria och lika i värde och rättigheter.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Älä yritä.",
    "Alle mennesker er født frie og med samme menneskeverd. Ålesund ligger på øyer.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
    "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "Toate ființele umane se nasc libere și egale în demnitate și în drepturi.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "人人生而自由，在尊严和权利上一律平等。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "“Curly” ‘quotes’ – dashes — ellipses… 20 € ± 5 % × 3 ≤ π² © 2024 №7 «да» ½ µm 25 °C",
    "if (x <= 0x80 && s[i] != '\\xc3') { return \"\\u00e9\"; } // naïve, Ångström",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(RIGHT), min_size=1, max_size=4), st.sampled_from([" ", "\n", " – ", "\t"]))
def test_text_that_is_right_stays(sentences: list[str], between: str) -> None:
    text = between.join(sentences)
    assert mend_mojibake(text) == (text, 0)
    assert mend_mojibake(text.upper()) == (text.upper(), 0)


@pytest.mark.parametrize("wrong", ["latin-1", "cp1252", "cp1251", "mac_roman"])
def test_text_decoded_wrongly_is_mended(wrong: str) -> None:
    sentences = {"latin-1": RIGHT[:18], "cp1252": RIGHT[:18], "cp1251": RIGHT[13:15], "mac_roman": RIGHT[:13]}[wrong]
    for sentence in sentences:
        try:
            broken = sentence.encode().decode(wrong)
        except UnicodeDecodeError:
            continue  # some of its bytes mean nothing in this encoding
        assert mend_mojibake(f"Right: é\n{broken}\nint main(void)") == (f"Right: é\n{sentence}\nint main(void)", 1)


def test_text_decoded_wrongly_twice_is_mended() -> None:
    for sentence in RIGHT[:13]:
        assert mend_mojibake(sentence.encode().decode("latin-1").encode().decode("latin-1")) == (sentence, 1)


def test_a_line_that_explains_mojibake_stays() -> None:
    text = "When UTF-8 is read as Latin-1, “é” becomes “Ã©” and “ü” becomes “Ã¼”."
    assert mend_mojibake(text) == (text, 0)


@given(st.text())
def test_mending_is_idempotent(text: str) -> None:
    once, _ = mend_mojibake(text)
    assert mend_mojibake(once) == (once, 0)
    assert clean_text(clean_text(once)) == clean_text(once)


# --- words broken at line ends --------------------------------------------------------------------------------------


def joined(text: str, *others: str, keep_lines: bool = True) -> tuple[str, int]:
    words = BrokenWords()
    words.look(text)
    counts = sum((count_words(one, words.wanted) for one in (text, *others)), Counter[str]())
    return Hyphens(counts).join(text, keep_lines)


def test_words_are_joined_when_the_source_knows_them() -> None:
    text = "the config-\n  uration of well-\n  known things (manage-\n  ment), un-\n  seenly.\n"
    others = ("Configuration and management are well-known.", "well-known")
    assert joined(text, *others) == (
        "the configuration\n  of well-known\n  things (management),\n  un-\n  seenly.\n", 3
    )  # fmt: skip
    assert joined(text, *others, keep_lines=False)[0] == (
        "the configuration of well-known things (management), un-\n  seenly.\n"
    )
    assert joined(text) == (text, 0)


def test_a_word_written_both_ways_stays_and_the_more_frequent_one_wins() -> None:
    text = "by e-mail and co-\noperation"
    assert joined(text, "cooperation co-operation") == (text, 0)
    assert joined(text, "cooperation cooperation co-operation")[0] == "by e-mail and cooperation"
    assert joined(text, "cooperation co-operation Co-operation")[0] == "by e-mail and co-operation"


def test_code_and_lists_are_not_joined() -> None:
    known = "xy foobar datafile databank Bank"
    for text in ("a = x-\ny", "foo(n)-\nbar", "x.foo-\nbar", "--foo-\nbar", "data-\n\nfile", "- data -\nfile",
                 "Data-\nBank", "first-\nand second", "10-\n20", "foo-\nbar()"):  # fmt: skip
        assert joined(text, known) == (text, 0), text


def test_soft_hyphens_at_line_ends_join_words() -> None:
    assert clean_text("config\u00ad\n  uration co\u00adop") == "configuration coop"


def test_terminal_sequences_and_what_is_struck_over_go() -> None:
    assert clean_text("\x1b[31mERROR\x1b[0m N\bNA\bA _\bx") == "ERROR NA x"
    assert clean_text("a[0m \x1b[ \n\bb") == "a[0m [\nb"


# --- boilerplate ----------------------------------------------------------------------------------------------------
FOOTER = "© Acme 2024. Page {} of 9. All rights are reserved by Acme and its licensors."
LICENCE = """/* Copyright {}
 * Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files, to deal in the Software
 * without restriction.
 */"""


def stripped(texts: list[str], share: float = 0.2, code: bool = False) -> list[str]:
    lines = LineCounts(share)
    for text in texts:
        lines.look(text, code)
    boilerplate = Boilerplate(lines.counted().repeated(share).tolist(), ())
    return [boilerplate.strip(text, code)[0] for text in texts]


def bodies(count: int, seed: int = 1) -> list[str]:
    random_ = random.Random(seed)
    return [f"# Title {number}\n\n{random_text(80, random_)}" for number in range(count)]


def test_headers_and_footers_go_and_the_first_document_keeps_them() -> None:
    texts = [f"ACME Handbook\n\n{body}\n\n{FOOTER.format(n)}" for n, body in enumerate(bodies(40))]
    after = stripped(texts)
    assert after[0] == texts[0]
    assert after[1:] == bodies(40)[1:]


def test_a_menu_behind_the_title_goes_but_a_short_line_there_stays() -> None:
    menu = "Main menu\n\n- Home page\n- Developer menu\n- Download the sources\n- Frequently asked questions\n\n"
    for middle, goes in ((menu, True), ("Stability: stable\n\n", False)):
        texts = [body.replace("\n\n", f"\n\n{middle}", 1) for body in bodies(30)]
        assert (stripped(texts)[1:] == bodies(30)[1:]) is goes
        assert (stripped(texts)[1:] == texts[1:]) is not goes


def test_headings_tables_code_and_short_lines_are_no_boilerplate() -> None:
    common = (
        "## See also\n\n| Name | Type | Description of the column, the same one as ever |\n| --- | --- | --- |\n\n"
        "```\nimport numpy as np and some more words that make it as long as any sentence\n```\n\nYes\n\n"
    )
    texts = [f"{one}\n\n{common}{other}" for one, other in zip(bodies(30), bodies(30, seed=2), strict=True)]
    assert stripped(texts) == texts


def test_rare_lines_and_few_documents_stay() -> None:
    sentence = "This sentence of nine words stands in some documents."
    texts = [f"{body}\n\n{sentence if n % 10 == 0 else ''}\n\nend {n}" for n, body in enumerate(bodies(100))]
    assert stripped(texts, share=0.2) == texts
    assert stripped(texts, share=0.1)[10].count(sentence) == 0
    assert stripped(texts[:100:10][:9], share=0.1) == texts[:100:10][:9]


def test_copies_and_forms_are_left_to_the_near_duplicates() -> None:
    body = random_text(200, random.Random(3))
    copies = [f"{body}\nnumber {n}" for n in range(15)] + bodies(15)
    assert stripped(copies) == copies
    same = [body] * 15 + bodies(15)
    assert stripped(same) == same


def test_of_code_only_comments_go_and_none_is_left_open() -> None:
    head = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string", "stdint", "errno", "math"))
    code = [head + "\n".join(f"int f{n}_{m}(void); /* of {n} */" for m in range(9)) for n in range(30)]
    same = [f"{LICENCE.format('Acme')}\n\n{one}\n\n{one.replace('f', 'h')}" for one in code]
    assert stripped(same, code=True)[1:] == [f"{one}\n\n{one.replace('f', 'h')}" for one in code][1:]
    other = [
        f"{LICENCE.format(n)}\n{one}\n{one.replace('f', 'h')}\n{one.replace('g', 'k')}" for n, one in enumerate(code)
    ]
    for before, after in zip(other, stripped(other, code=True), strict=True):
        assert after.count("/*") == after.count("*/")
        assert after.endswith(before.split("*/\n", 1)[1])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["", "a b", "# t", "```", FOOTER, "one two three four five six seven eight"])))
)
def test_what_is_left_is_the_text_without_some_of_its_lines(texts: list[list[str]]) -> None:
    whole = [clean_text("\n".join(lines)) for lines in texts for _ in range(4)]
    for before, after in zip(whole, stripped(whole), strict=True):
        lines = iter(before.split("\n"))
        assert all(any(line == other for other in lines) for line in after.split("\n") if line)
        gone = sum(map(len, before.split("\n"))) - sum(map(len, after.split("\n")))
        assert gone <= 0.5 * len(before)


def test_rare_lines_are_forgotten_and_frequent_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.corpus.clean.boilerplate._REMEMBERED", 50)
    texts = [f"{body}\n\n{FOOTER.format(n)}" for n, body in enumerate(bodies(60))]
    assert stripped(texts)[1:] == bodies(60)[1:]


# --- the source as a whole ------------------------------------------------------------------------------------------
@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    """Thirty texts with a footer; in some of them mojibake, a broken word, an address, a key."""
    place, random_ = tmp_path / "dirty", random.Random(5)
    place.mkdir()
    for number in range(30):
        text = random_text(60, random_)
        text += {
            0: "\nEin schÃ¶ner Tag.",
            1: "\nThe manage-\nment of things.",
            2: "\nOur management.",
            3: "\nWrite to jane@acme.com or bob@acme.com.",
            4: "\nexport TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        }.get(number, "")
        (place / f"{number:02d}.txt").write_text(f"{text}\n\n{FOOTER.format(number)}\n")
    return place


def test_what_was_done_stands_in_the_card_the_samples_and_the_documents(build: Build, dirty: Path) -> None:
    built = build([{"path": dirty}])
    size = len(FOOTER.format(1))
    cleaned = {
        "boilerplate": {"documents": 29, "amount": 20 * (size + 1) + 9 * size},
        "email": {"documents": 1, "amount": 2},
        "hyphens": {"documents": 1, "amount": 1},
        "key": {"documents": 1, "amount": 1},
        "mojibake": {"documents": 1, "amount": 1},
    }
    card = json.loads((built.folder / "card.json").read_text())
    assert card["cleaned"] == card["sources"][0]["cleaned"] == built.metrics["cleaned"] == cleaned
    by_id = {document.id.rpartition("/")[2]: document for document in built.documents}
    texts = {name: (document.text or "").split("\n\n")[0].split("\n", 6)[-1] for name, document in by_id.items()}
    assert texts["00.txt"] == "Ein schöner Tag."
    assert texts["01.txt"] == "The management\nof things."
    assert texts["03.txt"] == "Write to <EMAIL> or <EMAIL>."
    assert texts["04.txt"] == "export TOKEN=<KEY>"
    assert [kind for kind, _ in by_id["03.txt"].changes] == ["boilerplate", "email"]
    assert by_id["00.txt"].changes == (("mojibake", 1),)  # the first one keeps the footer
    samples = json.loads((built.folder / "samples.json").read_text())["cleaned"]
    assert {sample["reason"] for sample in samples} == set(cleaned)
    assert "acme.com" not in json.dumps(samples)
    assert next(s for s in samples if s["reason"] == "mojibake")["before"].endswith(
        "\nEin schÃ¶ner Tag.\n\n" + FOOTER.format(0) + "\n"
    )


def test_documents_with_unwanted_data_are_dropped(build: Build, dirty: Path) -> None:
    built = build([{"path": dirty}], clean={"pii": {"email": "drop", "key": "keep"}})
    assert built.metrics["dropped"] == {"personal data": 1}
    card = json.loads((built.folder / "card.json").read_text())
    assert card["dropped_named"]["personal data"] == [{"id": "dirty/03.txt", "detail": "2 × email"}]
    assert any("ghp_16C7e42F" in (document.text or "") for document in built.documents)


def test_copies_that_differ_in_what_is_cleaned_are_exact_duplicates(build: Build, dirty: Path) -> None:
    text = (dirty / "00.txt").read_text()
    (dirty / "99.txt").write_text(text.replace("Ã¶", "ö").replace(FOOTER.format(0), ""))
    (dirty / "98.txt").write_text((dirty / "03.txt").read_text().replace("jane@", "john@"))
    assert build([{"path": dirty}], near_duplicates=None).metrics["exact_duplicates"] == 1
    off = {"mojibake": False, "hyphens": False, "boilerplate": None, "pii": {"email": "keep", "key": "keep"}}
    built = build([{"path": dirty}], near_duplicates=None, clean=off)
    assert built.metrics["exact_duplicates"] == 0
    assert built.metrics["cleaned"] == {}


def test_conversations_are_mended_and_masked(build: Build, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Wo? {n}"},
                {"role": "assistant", "content": "SchÃ¶n: a.b@acme.com"},
            ]
        }
        for n in range(12)
    ]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    built = build([{"path": tmp_path / "talk.jsonl"}], near_duplicates=None)
    assert {document.messages[1].content for document in built.documents if document.messages} == {"Schön: <EMAIL>"}


def test_stopped_while_cleaning_and_gone_on_is_the_same(dirty: Path, tmp_path: Path, build: Build) -> None:
    class Stops(Monitor):
        points = 45  # behind the thirty files

        def stop_requested(self) -> bool:
            self.points -= 1
            return self.points < 0

    whole = build([{"path": dirty}])
    settings_ = CorpusSettings(sources=[{"path": dirty}])
    output, work = tmp_path / "out", tmp_path / "work"
    output.mkdir()
    with pytest.raises(Stopped):
        build_corpus(settings_, output, work, 7, Stops())
    build_corpus(settings_, output, work, 7)
    for name in ("card.json", "samples.json", "train/00000.parquet", "test/00000.parquet"):
        assert (output / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_missing_packages_are_told_in_the_plan(dirty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.corpus.estimate.have", lambda module: module not in ("ftfy", "phonenumbers", "stdnum"))
    clean: dict[str, Any] = {"mojibake": False, "pii": {"phone": "keep"}}
    assert len(estimate(CorpusSettings(sources=[{"path": dirty}])).problems) == 3
    (problem,) = estimate(CorpusSettings(sources=[{"path": dirty}], clean=clean)).problems
    assert "looking for numbers with check digits needs the Python package 'stdnum'" in problem


def test_samples_of_changes_show_no_personal_data_and_can_be_written(build: Build, tmp_path: Path) -> None:
    """The sample is taken before addresses are masked; a lone surrogate stands in the text as it was read."""
    lines = "Ein cafÃ© mit Ã¤hnlichen BÃ¼chern\nSchreib an anna.muster@firma-muster.de \ud83d"
    texts = [f"{number}. {lines}" for number in (1, 2)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    built = build([{"path": tmp_path / "a.jsonl"}], min_characters=10, near_duplicates=None)
    told = (built.folder / "samples.json").read_text()
    assert "mojibake" in told
    assert "firma-muster" not in told
    assert "<EMAIL>" in (built.documents[0].text or "")
