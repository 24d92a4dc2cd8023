"""What a person says about the clean-up. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmtune.settings import Settings

Action = Literal["mask", "drop", "keep"]


class PiiSettings(Settings):
    """What becomes of personal data and secrets, by kind. mask: a placeholder such as <EMAIL> stands in its place.
    drop: the document is left out. keep: not looked for."""

    email: Action = Field("mask", description="E-mail addresses; those of example.com and the like stay.")
    phone: Action = Field(
        "mask", description="Phone numbers: international ones, and national ones where the text says it is one."
    )
    ip: Action = Field(
        "keep",
        description="Public IP addresses (v4, v6); private, reserved and documentation addresses stay. In manuals they "
        "are content, in logs and tickets personal data: mask them there.",
    )
    key: Action = Field(
        "mask", description="API keys and tokens, by their prefixes, or by name and entropy (`secret = …`)."
    )
    private_key: Action = Field("mask", description="Private key blocks (PEM, OpenSSH, PGP).")
    credit_card: Action = Field("mask", description="Credit card numbers (issuer and Luhn check); test numbers stay.")
    iban: Action = Field("mask", description="Bank account numbers (IBAN) whose check digits are right.")
    national_id: Action = Field(
        "mask",
        description="National identity and social security numbers of some 16 countries, by check digits; the weaker "
        "ones only where the text names them.",
    )


class CleanSettings(Settings):
    """What is mended in a text and taken out of it before it is judged and compared."""

    mojibake: bool = Field(True, description="Mend text that was decoded by the wrong encoding (`cafÃ©`).")
    hyphens: bool = Field(
        True,
        description="Join words that are broken at line ends, where the source knows the whole word; only in formats "
        "that keep line breaks (text, PDF).",
    )
    boilerplate: float | None = Field(
        0.2,
        gt=0,
        le=1,
        description="Take out lines that stand in this share of a source's documents or more (headers, footers, "
        "licence blocks, navigation); the first document keeps them. null: do not look.",
    )
    pii: PiiSettings = Field(default_factory=PiiSettings, description="Personal data and secrets, by kind.")

    @property
    def modules(self) -> dict[str, str]:
        """The optional packages that are needed → what for."""
        checked = (self.pii.credit_card, self.pii.iban, self.pii.national_id)
        wanted = {
            "ftfy": ("mending text that was decoded wrongly", self.mojibake),
            "phonenumbers": ("looking for phone numbers", self.pii.phone != "keep"),
            "stdnum": ("looking for numbers with check digits", any(action != "keep" for action in checked)),
        }
        return {module: needed_for for module, (needed_for, is_wanted) in wanted.items() if is_wanted}
