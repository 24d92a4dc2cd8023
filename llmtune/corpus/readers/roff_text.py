"""roff's escape sequences → text. Fonts, sizes, colours and motions go; special characters become Unicode.

Names of characters: groff_char(7).
"""

from __future__ import annotations

import re
import unicodedata

JOINED = "\x01"  # stands for \c: what follows is joined without a space

_GLYPHS = dict(
    pair.split("=", 1)
    for pair in [
        "-=-",
        "hy=-",
        "en=–",
        "em=—",
        "bu=•",
        "ci=○",
        "sq=□",
        "co=©",
        "rg=®",
        "tm=™",
        "de=°",
        "ct=¢",
        "Eu=€",
        "Po=£",
        "Ye=¥",
        "Cs=¤",
        "sc=§",
        "ps=¶",
        "dg=†",
        "dd=‡",
        "bv=|",
        "ba=|",
        "br=│",
        "ul=_",
        "rn=‾",
        "sl=/",
        "rs=\\",
        "lq=“",
        "rq=”",
        "oq=‘",
        "cq=’",
        "aq='",
        'dq="',
        "Bq=„",
        "bq=‚",
        "Fo=«",
        "Fc=»",
        "fo=‹",
        "fc=›",
        "aa=´",
        "ga=`",
        "ha=^",
        "ti=~",
        "at=@",
        "sh=#",
        "Do=$",
        "lB=[",
        "rB=]",
        "lC={",
        "rC=}",
        "la=⟨",
        "ra=⟩",
        "<-=←",
        "->=→",
        "<>=↔",
        "ua=↑",
        "da=↓",
        "va=↕",
        "lA=⇐",
        "rA=⇒",
        "hA=⇔",
        "uA=⇑",
        "dA=⇓",
        "+-=±",
        "-+=∓",
        "mu=×",
        "di=÷",
        "pl=+",
        "mi=−",
        "eq==",
        "==≡",
        "!==≠",
        "~==≅",
        "ap=∼",
        "~~=≈",
        "<==≤",
        ">==≥",
        "<<=≪",
        ">>=≫",
        "if=∞",
        "sr=√",
        "is=∫",
        "su=∑",
        "pd=∂",
        "gr=∇",
        "mo=∈",
        "nm=∉",
        "sb=⊂",
        "sp=⊃",
        "ib=⊆",
        "ip=⊇",
        "ca=∩",
        "cu=∪",
        "es=∅",
        "fa=∀",
        "te=∃",
        "no=¬",
        "AN=∧",
        "OR=∨",
        "tf=∴",
        "pt=∝",
        "pp=⊥",
        "12=½",
        "14=¼",
        "34=¾",
        "S1=¹",
        "S2=²",
        "S3=³",
        "fm=′",
        "sd=″",
        "md=⋅",
        "pc=·",
        "OK=✓",
        "CL=♣",
        "SP=♠",
        "HE=♥",
        "DI=♦",
        "lz=◊",
        "rh=☞",
        "lh=☜",
        "r!=¡",
        "r?=¿",
        "Of=ª",
        "Om=º",
        "AE=Æ",
        "ae=æ",
        "OE=Œ",
        "oe=œ",
        "ss=ß",
        "-D=Ð",
        "Sd=ð",
        "TP=Þ",
        "Tp=þ",
        "IJ=Ĳ",
        "ij=ĳ",
        ".i=ı",
        ".j=ȷ",
        "/L=Ł",
        "/l=ł",
        "/O=Ø",
        "/o=ø",
        "oA=Å",
        "oa=å",
        "fi=fi",
        "fl=fl",
        "ff=ff",
        "Fi=ffi",
        "Fl=ffl",
        "vz=¦",
        "bb=¦",
        "CR=↵",
        "nb=⊄",
        "nc=⊅",
        "ne=≢",
        "3d=∴",
        "wp=℘",
        "Im=ℑ",
        "Re=ℜ",
        "Ah=ℵ",
        "-h=ℏ",
        "hbar=ℏ",
        "c*=⊗",
        "c+=⊕",
        "integral=∫",
        "f/=⁄",
        "%0=‰",
        "u2212=−",
    ]
)
_GREEK = dict(
    zip(
        "AaBbGgDdEeZzYyHhIiKkLlMmNnCcOoPpRrSsTtUuFfXxQqWw",
        "ΑαΒβΓγΔδΕεΖζΗηΘθΙιΚκΛλΜμΝνΞξΟοΠπΡρΣσΤτΥυΦφΧχΨψΩω",
        strict=True,
    )
)
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", ":": "\u0308", ",": "\u0327", "v": "\u030c"}

_QUOTED = r"(?P<{0}quote>['\x07\"|^])(?P<{0}inner>.*?)(?P={0}quote)"
_ESCAPE = re.compile(
    r"\\(?:"
    rf"\[(?P<glyph>[^\]\n]{{0,200}}+)\]|\((?P<pair>..)|C{_QUOTED.format('c')}|N{_QUOTED.format('n')}"
    r"|[fFmMgkY](?:\[[^\]\n]{0,200}+\]|\(..|[^\[(\n])"
    r"|s(?:[-+]?\[[^\]\n]{0,200}+\]|[-+]?'[^'\n]*'|[-+]?\([-+]?..|\([-+]..|[-+]?[0-9])"
    rf"|[hvlLDbxXSHRAB]{_QUOTED.format('h')}|w{_QUOTED.format('w')}|[oZ]{_QUOTED.format('o')}"
    r"|O(?:[0-4]|\[[^\]\n]{0,200}+\])|(?P<other>.)|$)"
)
_OTHERS = {
    **dict.fromkeys("&|^)%:/,dur{}!?zpa_", ""),
    "-": "-",
    " ": " ",
    "~": " ",
    "0": " ",
    "e": "\\",
    "\\": "\\",
    "E": "\\",
    "'": "'",
    "`": "`",
    "t": "\t",
    "c": JOINED,
    ".": ".",
    "_": "_",
}


def plain(text: str) -> str:
    """Text without escape sequences. Strings and registers have been put in before."""
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(escape: re.Match[str]) -> str:
    found = escape.groupdict()
    name = found["glyph"] if found["glyph"] is not None else found["pair"] or found["cinner"]
    if name is not None:
        return glyph(name)
    if found["ninner"] is not None:
        code = found["ninner"]
        return _character(int(code)) if re.fullmatch(r"\d{1,9}", code) else ""
    if found["oinner"] is not None:  # overstruck, or without width
        return plain(found["oinner"])
    if found["winner"] is not None:  # a width, in characters
        return str(24 * len(plain(found["winner"])))
    other = found["other"]
    return "" if other is None else _OTHERS.get(other, other)


def glyph(name: str) -> str:
    """The character of a name; "" for one that is not known."""
    if name in _GLYPHS:
        return _GLYPHS[name]
    if len(name) == 1:
        return name
    if len(name) == 2 and name[0] == "*" and name[1] in _GREEK:
        return _GREEK[name[1]]
    if name == "ts":
        return "ς"
    if len(name) == 2 and name[0] in _ACCENTS:
        return unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
    if re.fullmatch(r"u[0-9A-F]{4,6}(?:_[0-9A-F]{4,6})*", name):
        return unicodedata.normalize("NFC", "".join(_character(int(code, 16)) for code in name[1:].split("_")))
    if re.fullmatch(r"char\d{1,3}", name):
        return chr(int(name[4:]))
    return ""


def _character(code: int) -> str:
    """The character of a code point; "" where there is none, as for halves of a surrogate pair."""
    return chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else ""
