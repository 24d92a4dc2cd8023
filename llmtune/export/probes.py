"""Texts and conversations on which two runtimes must read exactly the same tokens."""

from __future__ import annotations

from typing import Any

TEXTS: tuple[str, ...] = (
    "The quick brown fox jumps over the lazy dog. It's what they'd've SAID: don't, WE'LL, I'm, you're!",
    'def f(x: int) -> str:\n\treturn f"{x:>10}"  # comment\n\n\nclass A(B):\n    pass\n    \n        if x==1: y+=2;//z',
    "SELECT count(*), max(id) FROM \"Table_1\" WHERE name LIKE '%\\_x%' AND price >= 10.50;\r\n-- end\r\n",
    "0 1 12 123 1234 12345 1234567890 3.14159 1e-9 0xFF 1,000,000 2026-11-24 ١٢٣ ²³ ½",
    "Grüße aus Köln, señor; où ça? Ærø, Łódź, İstanbul, ﬁne ligature, naïve café",
    "Съешь ещё этих мягких французских булок. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "我想在苹果公司工作。日本語のテキストと한국어 문장이 섞여 있습니다。全角ＡＢＣ１２３",
    "مرحبا بالعالم، هذا نص عربي. שלום עולם. नमस्ते दुनिया। สวัสดีชาวโลก",
    "😀 🚀🚀 👩‍👩‍👧‍👦 🏳️‍🌈 ✅ 🦙🦙🦙 text😶\u200d🌫️text ♥",
    " leading, trailing  and   runs    of     spaces \n \n\n \n\n\n\t\t\ttabs \t mixed\n   \n",
    "-------- ======== ........ !!!! ???? ''''''```````\"\"\"\" <<<>>> {[()]} $100 #1 @you a_b_c C++ C# http://x.y/z?q=1&r=%20",
    "camelCaseWord SCREAMING_SNAKE aB3cD4 \u00a0nbsp\u2003emspace \u200bzero\u200d \ufeffbom \x7f",
    "a",
    " ",
    "\n",
)

CONVERSATIONS: tuple[tuple[dict[str, str], ...], ...] = (
    (
        {"role": "system", "content": "You are a careful assistant. Answer briefly."},
        {"role": "user", "content": "What does `yield` do?\n\n    def f():\n        yield 1"},
        {"role": "assistant", "content": "It makes a generator: the caller asks for the next value."},
        {"role": "user", "content": "Ünïcode 你好 🚀, and  two  spaces?"},
    ),
    (
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello! How can I help?"},
        {"role": "user", "content": "Tell me about indexes."},
    ),
)


def texts_with_added_tokens(tokenizer: Any) -> list[str]:
    """The probe texts, and one more that holds every added token between words: lost added tokens show there."""
    added = [token for token, _ in sorted(tokenizer.get_added_vocab().items(), key=lambda item: item[1])]
    spliced = [f"word{token}next" for token in added[:256]]
    return [*TEXTS, *(["\n".join(spliced), "".join(added[:256])] if added else [])]
