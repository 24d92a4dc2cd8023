"""Label errors planted in real texts are found; near-duplicates do not vouch for each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtune.annotate import suspects as module
from llmtune.annotate.labels import Labels, read_labels
from llmtune.annotate.suspects import find_suspects, write_suspects
from llmtune.errors import LlmtuneError, MissingExtra
from tests.annotate.documentation import with_flips


def test_flipped_labels_are_found(tmp_path: Path) -> None:
    labels, true = with_flips(0.1, 70, seed=1)
    found = find_suspects(labels, seed=0)
    hits = [one for one in found if one.id in true]
    assert len(hits) >= 0.7 * len(true)
    assert len(hits) >= 0.5 * len(found)
    # The likeliest first: nearly all of the first half are right; and most are told their true label.
    half = found[: len(found) // 2]
    assert sum(one.id in true for one in half) >= 0.8 * len(half)
    assert sum(one.suggested == true[one.id] for one in hits) >= 0.8 * len(hits)
    for name in ("suspects.csv", "suspects.jsonl"):
        write_suspects(tmp_path / name, found)
        again = read_labels([tmp_path / name])
        assert [(id, *votes.values()) for id, votes in again.votes.items()] == [(one.id, one.label) for one in found]
    first = json.loads((tmp_path / "suspects.jsonl").read_text().split("\n")[0])
    assert (first["suggested"], first["text"]) == (found[0].suggested, found[0].text)


def test_groups_are_never_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong label on copies: each would be taught by the others, were they not kept together. Two are of one group,
    and a third of another group has the text of one of them."""
    labels, _ = with_flips(0, 12, seed=2)
    copied = list(labels.votes)[:2]
    sides: list[tuple[set[str], set[str]]] = []
    for id in copied:
        wrong = next(name for name in labels.names if name not in labels.votes[id].values())
        for copy in range(2):
            labels.votes[f"{id}~{copy}"] = {"anna": wrong}
            labels.texts[f"{id}~{copy}"] = f"{labels.texts[id]} {copy}"
            labels.groups[f"{id}~{copy}"] = f"group of {id}"
        labels.votes[f"{id}~again"] = {"anna": wrong}
        labels.texts[f"{id}~again"] = f"{labels.texts[id]}\n1"
        labels.groups[f"{id}~again"] = f"another group of {id}"
    copies = [place for place, id in enumerate(labels.votes) if id.startswith(f"{copied[0]}~")]

    def split(self: object, of_texts: object, numbers: list[int], groups: list[str]) -> list[object]:
        parts = original(self, of_texts, numbers, groups)
        found = list(parts)
        for seen, unseen in found:
            sides.append(({groups[place] for place in seen}, {groups[place] for place in unseen}))
            assert len({place in seen for place in copies}) == 1
        return found

    from sklearn.model_selection import StratifiedGroupKFold

    original = StratifiedGroupKFold.split
    monkeypatch.setattr(StratifiedGroupKFold, "split", split)
    find_suspects(labels, seed=0)
    assert len(sides) == 5
    assert all(not seen & unseen for seen, unseen in sides)
    of_copies = {name for _, unseen in sides for name in unseen if "group of" in name}
    assert {name.removeprefix("another ") for name in of_copies} == {f"group of {id}" for id in copied}


def test_rows_without_a_text_are_told() -> None:
    labels, _ = with_flips(0, 8, seed=3)
    labels.votes["bare"] = {"anna": labels.names[0]}
    find_suspects(labels, seed=0)
    assert labels.notes == ["1 labelled rows have no text and are not judged: bare"]


def test_rare_labels_are_told_and_left_out() -> None:
    labels, _ = with_flips(0, 8, seed=3)
    labels.names.append("rare")
    labels.votes["odd"], labels.texts["odd"] = {"anna": "rare"}, "A text of its own kind."
    found = find_suspects(labels, seed=0)
    assert "odd" not in {one.id for one in found}
    assert labels.notes == ["too rare to be judged, with fewer than 5 different documents: rare"]
    assert find_suspects(labels, seed=0) == found


@pytest.mark.parametrize(
    ("votes", "texts", "message"),
    [
        ({"a": {"anna": "x"}}, {}, "hold no text"),
        ({"a": {"anna": "x"}, "b": {"anna": "y"}}, {"a": "one", "b": "two"}, "0 labels have the 5 different documents"),
        ({"a": {"anna": "x", "ben": "y"}}, {"a": "one"}, "2 annotators labelled it: anna, ben"),
    ],
)
def test_too_little_to_judge(votes: dict[str, dict[str, str]], texts: dict[str, str], message: str) -> None:
    with pytest.raises(LlmtuneError, match=message):
        find_suspects(Labels(["x", "y"], votes, texts), seed=0)


def test_texts_without_a_word_are_judged_by_their_characters() -> None:
    votes = {str(number): {"anna": "xy"[number % 2]} for number in range(20)}
    texts = {str(number): ("😀" if number % 2 else "👎") * (number + 1) for number in range(20)}
    assert find_suspects(Labels(["x", "y"], votes, texts), seed=0) == []


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.extras.have", lambda module: False)
    with pytest.raises(MissingExtra) as raised:
        module.find_suspects(Labels(["x"], {"a": {"anna": "x"}}, {"a": "one"}), seed=0)
    assert raised.value.fix == "pip install 'llmtune[annotate]'"
