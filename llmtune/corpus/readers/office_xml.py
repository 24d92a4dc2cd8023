"""Elements of Office files.

Elements are those of xml.etree or of lxml.
"""

from __future__ import annotations

from typing import Any


def local(element: Any) -> str:
    """An element's name without its namespace; of a comment, none that is asked for."""
    return str(element.tag).rpartition("}")[2]
