"""Filters: the verdicts of Gopher's and C4's rules against datatrove's, languages, and what each filter says."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.corpus.filters import filters_of
from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.language import LanguageFilter, identifier, language_of, prose_sample
from llmtune.corpus.filters.settings import LANGUAGES, FilterSettings, LanguageSettings
from llmtune.files import read_json
from tests.corpus.filter_documents import filter_documents

VERDICTS = Path(__file__).with_name("datatrove_verdicts.json")
GUIDES = Path("/usr/share/doc/installation-guide-amd64")
FINNISH = Path("/usr/share/doc/aptitude/html/fi")

# Where we differ on purpose. A sequence that stands there once repeats nothing, though in five words it is most of the
# text; a full stop is no word without a letter; a paragraph that ends in "..." may hold sentences.
ON_PURPOSE = {
    ("5 words", "repetition"),
    ("20 words", "repetition"),
    ("numbers 2", "quality"),
    ("lines that trail off 10", "sentences"),
}


def details(text: str, of_prose: bool = True, **filters: Any) -> list[str]:
    """What the filters say against a text."""
    view = View("s/a", "s", "MIT", text, of_prose)
    return [found for one in filters_of(FilterSettings(**filters)) if (found := one.judge(view)) is not None]


def test_the_verdicts_are_those_of_datatrove() -> None:
    verdicts = read_json(VERDICTS)
    ours: dict[str, dict[str, Any]] = {
        "quality": {"length": {}, "quality": {}}, "repetition": {"repetition": {}}, "sentences": {"sentences": {}}
    }  # fmt: skip
    documents = filter_documents()
    assert documents.keys() == verdicts.keys()
    different = {
        (name, kind)
        for name, text in documents.items()
        for kind, settings in ours.items()
        if bool(details(text, **settings)) != (verdicts[name][kind] is not None)
    }
    assert different == ON_PURPOSE
    reasons = {reason for found in verdicts.values() for reason in found.values()}
    assert len(reasons) > 16  # most rules have a document that breaks them


def test_sequences_by_hand() -> None:
    # 24 words of 2 letters in pairs, each pair once, and one passage of six of them again.
    words = [f"{a}{b}" for a in "abcd" for b in "uvwxyz"]
    text = " ".join([*words, *words[3:9]])
    asked = {"top_sequences": {}, "repeated_sequences": {6: 12 / len(text) + 1e-9}}
    assert details(text, repetition=asked) == []
    asked["repeated_sequences"] = {6: 12 / len(text) - 1e-9}
    assert details(text, repetition=asked) == [
        "13% of the text is in sequences of 6 words seen before, at most 13% asked for"
    ]
    # "au av" three times, with its space: 15 characters.
    text = " ".join([*words, "au", "av", "zz", "au", "av"])
    asked = {"top_sequences": {2: 15 / len(text) - 1e-9}, "repeated_sequences": {}}
    assert "one sequence of 2 words" in details(text, repetition=asked)[0]
    assert details(text, repetition={"top_sequences": {2: 15 / len(text)}, "repeated_sequences": {}}) == []


def test_repeated_sequences_against_a_plain_loop() -> None:
    random_ = random.Random(4)
    for _ in range(200):
        words = [random_.choice("abcdefgh") * random_.randint(1, 3) for _ in range(random_.randint(1, 40))]
        text = " ".join(words)
        for width in (1, 3, 5):
            seen: set[tuple[str, ...]] = set()
            found = place = 0
            while place + width <= len(words):
                sequence = tuple(words[place : place + width])
                found += len("".join(sequence)) if sequence in seen else 0
                place += width if sequence in seen else 1
                seen.add(sequence)
            for slack, dropped in ((1e-9, False), (-1e-9, True)):
                share = found / len(text) + slack
                if not 0 <= share <= 1:
                    continue
                asked = {"top_sequences": {}, "repeated_sequences": {width: share, 12: 1.0}}
                assert bool(details(text, repetition=asked)) == dropped, (words, width)


def test_code_tables_and_headings_are_no_prose() -> None:
    fenced = "```sql\nSELECT 1;\n```\n", "~~~~\n```\nx\n~~~~\n"
    text = f"# Title\n\nSome words.\n\n{fenced[0]}\n| a | b |\n|---|:--|\n| c | d |\n\n{fenced[1]}The end."
    view = View("", "", "", text)
    assert view.prose.split() == ["Title", "Some", "words.", *"abcd", "The", "end."]
    assert view.words == len(text.split())
    assert view.code_ratio == pytest.approx(sum(map(len, fenced)) / len(text))
    assert View("", "", "", "Before.\n```\nnever closed\n").prose == "Before."


@pytest.mark.parametrize(
    "text", ["`" * 10**5, "-" * 10**5, " " * 10**5 + "|", "a@" * 10**5, "x." * 10**5, "~~~\n```\n" * 9999]
)
def test_strange_texts_cost_no_more_than_others(english: LanguageFilter, text: str) -> None:
    started = time.process_time()
    details(text, length={}, quality={}, repetition={}, sentences={})
    english.judge(View("", "", "", text))
    assert time.process_time() - started < 1


def test_figures_by_hand() -> None:
    view = View("", "", "", "- One two two.\n- # 34 …\n\nOne two two.\nNo")
    figures = {
        "lines": 4, "paragraphs": 2, "words": 12, "symbol_ratio": 1 / 12, "bullet_ratio": 0.5, "ellipsis_ratio": 0.25,
        "duplicate_line_ratio": 0.0, "alphabetic_ratio": 7 / 12, "digit_ratio": 2 / 28, "unique_ratio": 8 / 12,
        "uppercase_ratio": 3 / 20, "letter_ratio": 20 / 28, "mean_word_length": 24 / 8,
    }  # fmt: skip
    assert {name: getattr(view, name) for name in figures} == pytest.approx(figures)


def test_scripts_without_spaces_are_judged_by_characters() -> None:
    text = "文書を読み、整え、重複を除きます。次に、言語を調べます。" * 3
    view = View("", "", "", text)
    assert view.unspaced
    assert view.words > 60
    assert details(text, quality={}) == []  # no length of words, no stop words
    assert details(text, sentences={"min_sentences": 6}) == []
    assert details(text, sentences={"min_sentences": 7}) != []


# The same in scripts whose vowel signs Python takes for no letters, and in some with marks of their own at the end.
SIGNS = {
    "hi": "यह पुस्तिका बताती है कि आप अपने कंप्यूटर पर प्रणाली को कैसे स्थापित"
    " कर सकते हैं। पहले हम आवश्यक सामग्री के बारे में बात करेंगे।",
    "bn": "এই নির্দেশিকাটি ব্যাখ্যা করে কিভাবে আপনি আপনার কম্পিউটারে অপারেটিং"
    " সিস্টেম ইনস্টল করতে পারেন। প্রথমে আমরা উপকরণ সম্পর্কে কথা বলব।",
    "ta": "இந்த கையேடு உங்கள் கணினியில் இயக்க முறைமையை எவ்வாறு நிறுவுவது என்பதை"
    " விளக்குகிறது. முதலில் தேவையான பொருட்களைப் பற்றி பேசுவோம்.",
    "th": "คู่มือนี้อธิบายวิธีการติดตั้งระบบปฏิบัติการบนเครื่องคอมพิวเตอร์ของคุณ ก่อนอื่นเราจะพูดถึงอุปกรณ์ที่จำเป็น"
    " จากนั้นเราจะอธิบายขั้นตอนการติดตั้ง",
    "km": "សៀវភៅណែនាំនេះពន្យល់ពីរបៀបដំឡើងប្រព័ន្ធប្រតិបត្តិការនៅលើកុំព្យូទ័ររបស់អ្នក។"
    " ដំបូងយើងនឹងនិយាយអំពីសម្ភារៈចាំបាច់។",
    "hy": "Այս ձեռնարկը բացատրում է, թե ինչպես տեղադրել օպերացիոն համակարգը"
    " ձեր համակարգչում։ Նախ մենք կխոսենք անհրաժեշտ նյութերի մասին։",
    "ur": "یہ کتابچہ بتاتا ہے کہ آپ اپنے کمپیوٹر پر نظام کیسے نصب کر"
    " سکتے ہیں۔ پہلے ہم ضروری مواد کے بارے میں بات کریں گے۔",
    "fa": "این راهنما توضیح می‌دهد که چگونه سیستم عامل را روی رایانه خود"
    " نصب کنید. ابتدا درباره مواد لازم صحبت خواهیم کرد که لازم است.",
}  # fmt: skip


@pytest.mark.parametrize("code", SIGNS)
def test_vowel_signs_are_letters_and_every_script_has_its_full_stop(code: str, english: LanguageFilter) -> None:
    view = View("", "", "", SIGNS[code])
    assert str(english.judge(view)).startswith(f"{code} (probability ")
    assert language_of(View("", "", "", SIGNS[code] * 2)) == code
    assert details(SIGNS[code], quality={}, sentences={"min_sentences": 2}) == []
    assert code == "th" or details(SIGNS[code], sentences={"min_sentences": 3}) != []  # Thai has no full stop
    assert view.letter_ratio > 0.95


def test_stop_words_of_any_language() -> None:
    german = "Der Server und die Datenbank laufen auf einem Rechner, das ist von Vorteil."
    assert details(german, quality={}) == []
    assert details(german, quality={"stop_words": ["the", "of", "and"]}) == [
        "different stop words: 0, at least 2 asked for"
    ]
    assert details("Alpha beta gamma delta epsilon zeta theta kappa lambda sigma", quality={}) != []


def test_conversations_and_code_have_no_form_of_prose() -> None:
    strict: dict[str, Any] = {"length": {}, "quality": {}, "repetition": {}, "sentences": {}}
    assert len(details("Yes " * 20, **strict)) == 4
    assert details("Yes " * 20, of_prose=False, **strict) == []
    assert details("Yes " * 20, of_prose=False, rules=["words > 50"]) == ["words > 50"]


SENTENCES = {
    "en": "The server writes every change to the log before it touches the tables, so a crash loses nothing.",
    "de": "Der Server schreibt jede Änderung zuerst in das Protokoll, damit nach einem Absturz nichts verloren ist.",
    "fr": "Le serveur écrit chaque modification dans le journal avant de toucher aux tables, et rien n'est perdu.",
    "es": "El servidor escribe cada cambio en el registro antes de tocar las tablas, así que no se pierde nada.",
    "it": "Il server scrive ogni modifica nel registro prima di toccare le tabelle, quindi non si perde nulla.",
    "nl": "De server schrijft elke wijziging eerst in het logboek, zodat er na een storing niets verloren gaat.",
    "pl": "Serwer zapisuje każdą zmianę w dzienniku, zanim dotknie tabel, więc po awarii nic nie ginie.",
    "ru": "Сервер записывает каждое изменение в журнал, прежде чем изменить таблицы, поэтому ничего не теряется.",
    "zh": "服务器在修改数据表之前，会先把每一次更改写入日志，因此即使发生崩溃也不会丢失任何数据。",
    "ja": "サーバーは表を変更する前にすべての変更をログに書き込むので、障害が起きても何も失われません。",
    "ko": "서버는 테이블을 변경하기 전에 모든 변경 사항을 로그에 기록하므로 장애가 발생해도 아무것도 잃지 않습니다.",
}


@pytest.fixture(scope="module")
def english() -> LanguageFilter:
    return LanguageFilter(LanguageSettings(keep=["en"], min_characters=40))


def test_languages(english: LanguageFilter) -> None:
    assert set(LANGUAGES) == set(identifier().labels) - {"zxx"}
    for code, sentence in SENTENCES.items():
        found = english.judge(View("", "", "", sentence))
        assert (found is None) == (code == "en"), code
        assert found is None or found.startswith(f"{code} (probability ")
    assert english.judge(View("", "", "", "Kurz, aber deutsch.")) is None  # too little to be judged


def test_code_is_not_another_language(english: LanguageFilter) -> None:
    german_code = "```python\n" + "wert = berechne_summe(zahlen, startwert)  # die Summe der Zahlen\n" * 20 + "```\n"
    page = f"# Sums\n\n{SENTENCES['en']}\n\n{german_code}\n"
    assert prose_sample(View("", "", "", page)) == SENTENCES["en"]
    assert english.judge(View("", "", "", page)) is None
    for path in sorted(Path(json.__file__).parent.glob("*.py")):  # source code that nobody fenced
        assert english.judge(View("", "", "", path.read_text())) is None, path


def test_a_long_document_is_judged_by_all_of_it(english: LanguageFilter) -> None:
    pages = [SENTENCES["en"]] * 30 + [SENTENCES["de"]] * 300
    assert english.judge(View("", "", "", "\n\n".join(pages))) is not None
    assert len(prose_sample(View("", "", "", "\n\n".join(pages)))) < 2200


@pytest.mark.slow
@pytest.mark.skipif(
    not (GUIDES.is_dir() and FINNISH.is_dir()), reason="needs installation-guide-amd64, aptitude-doc-fi"
)
def test_twenty_languages_at_200_characters() -> None:
    """Debian's translations. A paragraph that was left in English (three in ten of its word triples stand in the
    English guide) is not counted against the language."""
    from selectolax.lexbor import LexborHTMLParser

    def paragraphs(folder: Path) -> list[str]:
        pages = [LexborHTMLParser(file.read_bytes()) for file in sorted(folder.glob("*.html"))]
        found = [" ".join(node.text().split()) for page in pages for node in page.css("p")]
        return list(dict.fromkeys(text for text in found if len(text) >= 60))

    def triples(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return set(zip(words, words[1:], words[2:], strict=False))

    folders = {folder.name[:2]: folder for folder in sorted(GUIDES.iterdir()) if folder.is_dir()} | {"fi": FINNISH}
    untranslated = {triple for text in paragraphs(folders["en"]) for triple in triples(text)}
    right, judged = dict.fromkeys(folders, 0), dict.fromkeys(folders, 0)
    filters = {code: LanguageFilter(LanguageSettings(keep=[code])) for code in folders}
    kept = dropped = 0
    random_ = random.Random(1)
    for (code, folder), other in zip(folders.items(), [*folders][1:] + [*folders][:1], strict=True):
        texts = paragraphs(folder)
        if code != "en":
            texts = [text for text in texts if len(triples(text) & untranslated) <= 0.3 * len(triples(text))]
        joined = "\n".join(texts)
        pieces = [joined[start : start + 200] for start in range(0, len(joined) - 200, 200)]
        for piece in random_.sample(pieces, 120):
            judged[code] += 1
            right[code] += identifier().rank(piece)[0][0] == code
            kept += filters[code].judge(View("", "", "", piece)) is None
            dropped += filters[other].judge(View("", "", "", piece)) is not None
    assert len(folders) == 20
    assert sum(right.values()) >= 0.99 * sum(judged.values()), right
    assert min(right.values()) >= 0.97 * 120, right
    assert kept >= 0.99 * sum(judged.values()), kept
    assert dropped >= 0.99 * sum(judged.values()), dropped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": {"keep": ["eng"]}}, "language that can be told: en, de, zh and so on"),
        ({"languages": {"keep": ["EN"]}}, "did you mean 'en'"),
        ({"languages": {"keep": ["fr-CA"]}}, "did you mean 'fr'"),
        ({"languages": {"keep": ["english"]}}, "language that can be told: en, de, zh and so on"),
        ({"languages": {"keep": []}}, "at least 1 item"),
        ({"length": {"min_words": 11, "max_words": 10}}, "no document has 11 words or more and 10 or fewer"),
        ({"rules": ["word > 5"]}, "unknown name 'word'; did you mean 'words'?, at character 1"),
        ({"repetition": {"top_sequences": {0: 0.5}}}, "greater than or equal to 1"),
        ({"relevance": {"seeds": "x", "keep_seeds": 0.5, "min_score": 0}}, "name one"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        FilterSettings(**settings)
