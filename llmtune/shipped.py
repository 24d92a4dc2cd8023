"""Where the files that come along with the package are: recipes, and configurations for `accelerate launch`."""

from __future__ import annotations

import sysconfig
from pathlib import Path

INSTALLED = Path("share/llmtune")  # below the environment's data folder; pyproject's data-files put it there


def shipped_folder(name: str) -> Path | None:
    """The folder `name` of the checkout that this package runs from, else the one that was installed with it; None
    where there is neither. A checkout is known by its pyproject.toml: site-packages may hold a folder of that name."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    installed = Path(sysconfig.get_path("data")) / INSTALLED / name
    return installed if installed.is_dir() else None
