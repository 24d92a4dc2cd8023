"""The names of the standards that mdoc(7) has a short form of (`.St -p1003.1-2008`), those that pages cite."""

from __future__ import annotations

_POSIX = (
    ("1003.1", "IEEE Std 1003.1"),
    ("1003.1-88", "IEEE Std 1003.1-1988"),
    ("1003.1-90", "ISO/IEC 9945-1:1990"),
    ("1003.1-96", "ISO/IEC 9945-1:1996"),
    ("1003.1-2001", "IEEE Std 1003.1-2001"),
    ("1003.1-2004", "IEEE Std 1003.1-2004"),
    ("1003.1-2008", "IEEE Std 1003.1-2008"),
    ("1003.1b", "IEEE Std 1003.1b"),
    ("1003.1b-93", "IEEE Std 1003.1b-1993"),
    ("1003.1c-95", "IEEE Std 1003.1c-1995"),
    ("1003.1g-2000", "IEEE Std 1003.1g-2000"),
    ("1003.2", "IEEE Std 1003.2"),
    ("1003.2-92", "IEEE Std 1003.2-1992"),
)
STANDARDS = {f"-p{short}": f"{name} (“POSIX.{short[5]}”)" for short, name in _POSIX}
STANDARDS |= {
    **dict.fromkeys(("-ansiC", "-ansiC-89"), "ANSI X3.159-1989 (“ANSI C89”)"),
    **dict.fromkeys(("-isoC", "-isoC-90"), "ISO/IEC 9899:1990 (“ISO C90”)"),
    "-isoC-99": "ISO/IEC 9899:1999 (“ISO C99”)",
    "-isoC-2011": "ISO/IEC 9899:2011 (“ISO C11”)",
    "-susv2": "Version 2 of the Single UNIX Specification (“SUSv2”)",
    "-susv3": "Version 3 of the Single UNIX Specification (“SUSv3”)",
    "-xpg3": "X/Open Portability Guide Issue 3 (“XPG3”)",
    "-xpg4": "X/Open Portability Guide Issue 4 (“XPG4”)",
    "-xpg4.2": "X/Open Portability Guide Issue 4, Version 2 (“XPG4.2”)",
    "-xsh5": "X/Open System Interfaces and Headers Issue 5 (“XSH5”)",
    "-ieee754": "IEEE Std 754-1985",
    "-iso8601": "ISO 8601",
}
