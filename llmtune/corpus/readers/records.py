"""A record (a JSON object, a Parquet row) → a document: text, or a conversation, by one of these layouts.

| layout   | a record |
| -------- | -------- |
| text     | {"text": …} |
| openai   | {"messages": [{"role": "user", "content": …}, …]} |
| sharegpt | {"conversations": [{"from": "human", "value": …}, …], "system": …} |
| alpaca   | {"instruction": …, "input": …, "output": …, "system": …} |
| strings  | any; all that is text in it |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmtune.corpus.readers.reader import MALFORMED, RawDocument, Rejected, Turn
from llmtune.corpus.settings import Columns, Source
from llmtune.words import printable

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


class _Wrong(Exception):
    """What is wrong with a record."""


def document_of(record: Any, source: Source, part: str) -> RawDocument | Rejected:
    """The document that a record holds by the source's layout and columns, or why it holds none."""
    columns = source.columns
    try:
        if not isinstance(record, Mapping):
            raise _Wrong(f"expected an object with columns, found a {type(record).__name__}")
        layout = source.layout if source.layout != "auto" else _layout(record, columns)
        licence, group = _licence(record, columns), _group(record, columns)
        if layout == "strings":
            return RawDocument(part, text="\n\n".join(_strings(record)), licence=licence, group=group)
        if layout == "text":
            return RawDocument(part, text=_titled(record, columns), licence=licence, group=group)
        turns = _alpaca(record, columns) if layout == "alpaca" else _turns(record, columns)
        _check(turns)
        return RawDocument(part, messages=turns, licence=licence, group=group)
    except _Wrong as wrong:
        return Rejected(part, MALFORMED, str(wrong))


def columns_read(source: Source, available: list[str]) -> list[str]:
    """The top-level columns, of those available, that `document_of` may look at."""
    if source.layout == "strings":
        return available
    columns = source.columns
    wanted = {
        columns.text,
        columns.title,
        columns.licence,
        columns.document,
        columns.instruction,
        columns.input,
        columns.output,
        columns.system,
        *([columns.messages] if columns.messages else ["messages", "conversations"]),
    }
    names = {name for name in wanted if name} | {name.split(".")[0] for name in wanted if name}
    return [name for name in available if name in names]


def _layout(record: Mapping[str, Any], columns: Columns) -> str:
    if _turns_column(record, columns) is not None:
        return "openai"
    if _get(record, columns.instruction) is not None and _get(record, columns.output) is not None:
        return "alpaca"
    if _get(record, columns.text) is not None:
        return "text"
    raise _Wrong(
        f"none of the columns '{columns.text}', '{columns.messages or 'messages'}', '{columns.instruction}' holds "
        f"anything; the record has {', '.join(map(str, record)) or 'no columns'} (say which with `columns`)"
    )


def _turns_column(record: Mapping[str, Any], columns: Columns) -> str | None:
    names = (columns.messages,) if columns.messages else ("messages", "conversations")
    return next((name for name in names if _get(record, name) is not None), None)


def _turns(record: Mapping[str, Any], columns: Columns) -> tuple[Turn, ...]:
    """OpenAI and ShareGPT: a list of turns that differ only in their keys and names of roles."""
    column = _turns_column(record, columns)
    if column is None:
        raise _Wrong(f"no column '{columns.messages or 'messages'}'")
    listed = _get(record, column)
    if not isinstance(listed, list):
        raise _Wrong(f"'{column}' is {_kind(listed)}, expected a list of turns")
    turns = [_turn(turn, columns, f"{column}[{index}]") for index, turn in enumerate(listed)]
    system = _optional(record, columns.system)
    if system and (not turns or turns[0].role != "system"):
        turns.insert(0, Turn("system", system))
    return tuple(turns)


def _turn(turn: Any, columns: Columns, place: str) -> Turn:
    if not isinstance(turn, Mapping):
        raise _Wrong(f"{place} is {_kind(turn)}, expected an object")
    role_key = columns.role or ("role" if "role" in turn else "from")
    content_key = columns.content or ("content" if "content" in turn else "value")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise _Wrong(f"{place} holds tool calls, which are not supported yet")
    role = ROLES.get(str(turn.get(role_key)).strip().lower())
    if role is None:
        raise _Wrong(f"{place} has the role {turn.get(role_key)!r}; known are {', '.join(ROLES)}")
    content = _content(turn.get(content_key), f"{place}.{content_key}")
    if role == "assistant" and not content.strip():  # learnt, it would teach to say nothing
        raise _Wrong(f"{place} is a turn of the assistant without content")
    return Turn(role, content)


def _content(content: Any, place: str) -> str:
    """A turn's text; OpenAI's list of parts is joined when all of them are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "\n".join(_part(part.get("text"), f"{place}[{index}].text") for index, part in enumerate(content))
    raise _Wrong(f"{place} is {_kind(content)}, expected text")


def _part(text: Any, place: str) -> str:
    """A part's text, which OpenAI's assistants keep one object deeper."""
    text = text.get("value") if isinstance(text, Mapping) else text
    if not isinstance(text, str):
        raise _Wrong(f"{place} is {_kind(text)}, expected text")
    return text


def _alpaca(record: Mapping[str, Any], columns: Columns) -> tuple[Turn, ...]:
    task, material = _text(record, columns.instruction), _optional(record, columns.input)
    if material:
        task = f"{task}\n\n{material}"
    turns = (Turn("user", task), Turn("assistant", _text(record, columns.output)))
    system = _optional(record, columns.system)
    return (Turn("system", system), *turns) if system else turns


def _check(turns: tuple[Turn, ...]) -> None:
    """A conversation teaches something only if somebody asks and the assistant answers."""
    if not any(turn.role == "assistant" and turn.content.strip() for turn in turns):
        raise _Wrong("no turn of the assistant says anything")
    if not any(turn.role in ("user", "tool") and turn.content.strip() for turn in turns):
        raise _Wrong("no turn of the user says anything")


def _titled(record: Mapping[str, Any], columns: Columns) -> str:
    text = _text(record, columns.text)
    title = _get(record, columns.title) if columns.title else None
    return f"# {title.strip()}\n\n{text}" if isinstance(title, str) and title.strip() else text


def _strings(value: Any) -> Iterator[str]:
    """Every text in a record, however deep it lies, in its order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _licence(record: Mapping[str, Any], columns: Columns) -> str | None:
    """What the record says, if it says anything: an empty cell leaves it to the source."""
    return (_optional(record, columns.licence).strip() or None) if columns.licence else None


def _group(record: Mapping[str, Any], columns: Columns) -> str:
    """What the record is a part of; "" where the recipe asks for none. A record without a value is by itself."""
    value = _get(record, columns.document) if columns.document else None
    if value is None or value == "":
        return ""
    if isinstance(value, float) and value.is_integer():  # as numbers of which some are missing are often kept
        value = int(value)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise _Wrong(f"column '{columns.document}' is {_kind(value)}, expected a text or a whole number")
    return printable(str(value))


def _text(record: Mapping[str, Any], column: str) -> str:
    value = _get(record, column)
    if not isinstance(value, str):
        raise _Wrong(f"column '{column}' is {_kind(value)}, expected text")
    return value


def _optional(record: Mapping[str, Any], column: str) -> str:
    """The text of a column that may be missing or empty: then ""."""
    text = _text(record, column) if _get(record, column) is not None else ""
    return text if text.strip() else ""


def _get(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column; `a.b` reaches into an object when there is no column of that very name."""
    if column in record:
        return record[column]
    value: Any = record
    for key in column.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _kind(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
