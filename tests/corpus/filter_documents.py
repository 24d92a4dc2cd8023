"""Documents made of seeded random words, each with more or less of what Gopher's and C4's rules look for.

datatrove_verdicts.json beside this file holds what datatrove 0.10.1 says of them (GopherQualityFilter,
GopherRepetitionFilter, C4QualityFilter with `filter_curly_bracket`, `filter_javascript` and `filter_policy` off): the
reason, or null where it keeps the document."""

from __future__ import annotations

import random

_STOPS = ["the", "be", "to", "of", "and", "that", "have", "with"]
_SYLLABLES = [first + second for first in "bdfgklmnprstv" for second in ("a", "e", "i", "o", "u", "an", "er", "in")]


def filter_documents() -> dict[str, str]:
    """name → text."""
    random_ = random.Random(20)
    vocabulary = ["".join(random_.choices(_SYLLABLES, k=random_.choice((1, 2, 2, 3)))) for _ in range(3000)]

    def words(count: int, stops: float = 0.3) -> list[str]:
        return [random_.choice(_STOPS if random_.random() < stops else vocabulary) for _ in range(count)]

    def sentence(count: int = 12, stops: float = 0.3) -> str:
        return " ".join(words(count, stops)).capitalize() + "."

    def prose(paragraphs: int = 12, stops: float = 0.3) -> list[str]:
        return [" ".join(sentence(random_.randint(8, 16), stops) for _ in range(3)) for _ in range(paragraphs)]

    made: dict[str, str] = {}
    for number in range(12):
        made[f"plain {number}"] = "\n\n".join(prose(3 + number))
    for count in (5, 20, 80):
        made[f"{count} words"] = sentence(count)
    for share in (0, 2, 5, 8, 10):
        copied = prose(1)[0]
        kept = prose(20)
        made[f"copies of a paragraph {share}"] = "\n\n".join([copied] * share + kept[share:])
        made[f"copies of a short line {share}"] = "\n".join(["Go on."] * 2 * share + kept[share:])
        made[f"copies of two words {share}"] = " ".join(
            part for text in prose(10) for part in (*["zebu mandrake"] * 2 * share, text)
        )
        phrase = " ".join(words(4, 0))
        made[f"copies of four words {share}"] = " ".join(
            part for text in prose(10) for part in (*([phrase] * share + words(3)), text)
        )
        passage = " ".join(words(14))
        made[f"copies of a passage {share}"] = " ".join(
            part for text in prose(10) for part in (*[passage] * (share // 2), text)
        )
        text = prose(10)
        made[f"hash signs {share}"] = "\n\n".join(f"{line} {'#tag ' * 2 * share}{sentence()}" for line in text)
        made[f"ellipses {share}"] = "\n\n".join(f"{line} so {'and ... ' * share} on. {sentence()}" for line in text)
        made[f"lines that trail off {share}"] = "\n".join(
            line + (" so ..." if place < share else "") for place, line in enumerate(text)
        )
        made[f"bullets {share}"] = "\n".join(
            ("- " if place < 2 * share else "") + line for place, line in enumerate(prose(20))
        )
        made[f"numbers {share}"] = "\n\n".join(
            f"{line} {' '.join(str(random_.randint(100, 999)) for _ in range(4 * share))} {sentence()}" for line in text
        )
    for stops in (0, 1):
        made[f"stop words {stops}"] = "\n\n".join(prose(10, 0.0)) + (" with" if stops else "")
    made["short words"] = " ".join(random_.choice(("a", "I", "of", "to", "be", "x", "y", "it")) for _ in range(200))
    made["long words"] = (
        " ".join(words(40)) + " " + " ".join("".join(random_.choices(_SYLLABLES, k=9)) for _ in range(150))
    )
    made["filler"] = "\n\n".join([*prose(4), "Lorem ipsum dolor sit amet, consectetur adipiscing elit.", *prose(4)])
    made["links"] = "\n\n".join(" ".join(words(4)) for _ in range(40))
    for sentences in (2, 4, 6, 8):
        made[f"{sentences} sentences"] = "\n\n".join(
            [sentence() for _ in range(sentences)] + [" ".join(words(6)) for _ in range(10)]
        )
    return made
