"""Where two runtimes are compared: windows of held-out text and positions in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmtune.corpus.store import Document, read_split
from llmtune.errors import BadArtifact

WINDOWS = 8
WINDOW_TOKENS = 160
POSITIONS_A_WINDOW = 16  # 128 in all

# For an export without a corpus: prose, code and lists on several subjects, written for this purpose.
_BUILT_IN = (
    "A database index is a separate structure that keeps the values of one or more columns in order, together with "
    "pointers to the rows they came from. When a query asks for a small part of a large table, the planner compares "
    "the cost of reading the whole table with the cost of walking the index, and takes the cheaper path. Indexes make "
    "reading faster, but each of them has to be changed whenever a row is inserted, updated or deleted.",
    'def read_lines(path):\n    """Yield the lines of a text file without their line endings."""\n    with open(path, '
    "encoding='utf-8') as file:\n        for line in file:\n            yield line.rstrip('\\n')\n\n\ndef count_words"
    "(lines):\n    counts = {}\n    for line in lines:\n        for word in line.split():\n            counts[word] = "
    "counts.get(word, 0) + 1\n    return counts\n",
    "The water cycle has no beginning. The sun warms the surface of the sea, and some of the water evaporates into the "
    "air. Rising currents carry the vapour up into the atmosphere, where cooler temperatures make it condense into "
    "clouds. Winds move the clouds around the world; their droplets collide, grow, and fall from the sky as rain or "
    "snow. Some of it runs into rivers, some soaks into the ground, and in time all of it returns to the sea.",
    "1. Turn off the power before opening the case.\n2. Remove the four screws at the back.\n3. Slide the cover "
    "towards you and lift it off.\n4. Note the position of the cables, or take a photograph.\n5. Disconnect the old "
    "drive and put the new one in its place.\n6. Close the case, turn the power on, and check that it is recognised.",
    "The committee met on Tuesday to discuss the budget for the coming year. The chair opened the meeting and asked "
    "for the report of the treasurer, who said that income had grown by six per cent while costs had stayed the same. "
    "After a short discussion the members agreed to spend part of the surplus on repairs to the roof of the library, "
    "and to keep the rest in reserve. The next meeting will be held in March.",
    "An error message should say what was wrong, where it was found, and what the reader can do about it. A message "
    "that only says that something failed leaves the reader to guess; a message that shows a trace of the whole "
    "program hides the one line that matters. Good messages name the file, the line and the value, state what was "
    "expected instead, and suggest the next step.",
    "In the old town the streets are narrow and the houses lean towards each other, so that neighbours can almost "
    "shake hands across the way. On market days the square fills with stalls that sell bread, cheese, apples and "
    "flowers. Children run between them, dogs sleep under the tables, and in the afternoon a band plays "
    "until the lamps are lit and everybody goes home.",
    "A transaction is a group of operations that either all take effect or none of them do. If the machine loses power "
    "in the middle of a transaction, the database reads its log after the restart and undoes what was not finished. "
    "Isolation means that two transactions running at the same time do not see each other's unfinished work; how "
    "strictly this holds depends on the isolation level that was chosen.",
)


@dataclass(frozen=True)
class Window:
    """tokens: ids of a piece of text; positions: after which of them the next token is predicted."""

    tokens: list[int]
    positions: list[int]


def windows(corpus: Path | None, tokenizer: Any, context: int) -> tuple[list[Window], str]:
    """Windows of the corpus' test split and the name of their source ("test split" or "built-in text").

    context: the longest window the model takes, in tokens. The built-in text fills up what the split does not have.
    """
    length = min(WINDOW_TOKENS, context)
    found: list[Window] = []
    for document in _test_documents(corpus, tokenizer):
        window = _window(document, tokenizer, length)
        if window is not None:
            found.append(window)
        if len(found) == WINDOWS:
            return found, "test split"
    source = "test split and built-in text" if found else "built-in text"
    for text in _BUILT_IN:
        window = _window(Document("built-in", text * 2, None, "built-in", None, "", ""), tokenizer, length)
        if window is not None and len(found) < WINDOWS:
            found.append(window)
    return found, source


def _window(document: Document, tokenizer: Any, length: int) -> Window | None:
    """The document's first tokens, as training reads them, with positions spread evenly over their last three quarters;
    None when too short."""
    from llmtune.training.tokenize import tokenize

    if document.text is not None:
        document = replace(document, text=document.text[: 32 * length])
    tokens = [int(token) for token in tokenize([document], tokenizer)[0][0][:length]]
    if len(tokens) < min(64, length):
        return None
    first = len(tokens) // 4
    step = max(1, (len(tokens) - first) // POSITIONS_A_WINDOW)
    return Window(tokens, list(range(len(tokens) - 1, first, -step))[:POSITIONS_A_WINDOW][::-1])


def _test_documents(corpus: Path | None, tokenizer: Any) -> Iterator[Document]:
    """The documents of the test split; conversations as plain text where the model has no template for them."""
    if corpus is None:
        return
    try:
        for document in read_split(corpus, "test"):
            if document.messages is not None and not tokenizer.chat_template:
                text = "\n\n".join(turn.content for turn in document.messages)
                document = replace(document, text=text, messages=None)
            yield document
    except BadArtifact:
        if (corpus / "test").exists():
            raise
