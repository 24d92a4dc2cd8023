"""A filter as Apertium's are, for tests: segments end with a zero byte, each is answered before the next is read.

    fake-filter -z -g DATA DIRECTION log=LOG

Forward, every word gets an `a`; back, it loses it, and neighbours change places. `stranger` comes out as an unknown
word, `wordy` twice, and a `stubborn` sentence as it was. `DIE` in a segment ends the process, `DIEONCE` only the first
time on the way there, `HANG` makes it silent. Each segment is a line of LOG, so that a test can count what was
translated. `pass` is a filter that lets everything through.
"""

import os
import sys
import time
from pathlib import Path


def translated(segment, direction):
    words = segment.split()
    if direction == "there":
        words = [word if word.startswith("[") else word + "a" for word in words]
        return " ".join(words).replace("stranger", "*stranger")
    words = [word if word.startswith("[") else word.removesuffix("a") for word in words]
    words = [twice for word in words for twice in ([word] * (1 + (word == "wordy")))]
    if "stubborn" in words:
        return " ".join(words)
    for at in range(1, len(words) - 1, 4):
        words[at : at + 2] = reversed(words[at : at + 2])
    return " ".join(words)


def main():
    direction, log = sys.argv[-2], sys.argv[-1].removeprefix("log=")
    rest = b""
    while chunk := os.read(0, 65536):
        if direction == "pass":
            os.write(1, chunk)
            continue
        *whole, rest = (rest + chunk).split(b"\0")
        for segment in (part.decode() for part in whole):
            if segment.strip():
                time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
                with open(log, "a") as file:
                    file.write(f"{direction}\t{segment.strip()}\n")
                if "HANG" in segment:
                    time.sleep(60)
                again = Path(log).read_text().count(f"{direction}\t{segment.strip()}") > 1
                if "DIE" in segment and not ("ONCE" in segment and (again or direction == "back")):
                    sys.exit("the filter died")
            ending = "\n" if segment.endswith("\n") else ""
            os.write(1, (translated(segment, direction) + ending).encode() + b"\0")


main()
