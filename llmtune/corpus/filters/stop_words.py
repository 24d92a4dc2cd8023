"""Frequent words without which there is hardly a text: Gopher's eight of English, and as many of other languages."""

from __future__ import annotations

# ISO 639 code → words. English: Rae et al. 2021, appendix A1.1.
STOP_WORDS = {
    code: tuple(words.split())
    for code, words in {
        "en": "the be to of and that have with",
        "ar": "في من على أن إلى التي عن هذا",
        "bg": "и на да се за от не че",
        "ca": "de la el que els per en amb",
        "cs": "a se na je že pro ve nebo",
        "da": "og at det er til en på som",
        "de": "der die und das in von zu mit",
        "el": "και το να του της για με που",
        "es": "de la que el en los por con",
        "et": "ja on ei et see kui ka või",
        "fa": "و در به از که این است را",
        "fi": "ja on ei että se tai kun ovat",
        "fr": "de la le et les des que pour",
        "he": "של את על לא הוא עם זה או",
        "hi": "के में की है और से को का",
        "hr": "je se na za da su koji ili",
        "hu": "az hogy és nem egy is ha vagy",
        "id": "yang dan di untuk dengan dari ini atau",
        "it": "di che il la per non con del",
        "ko": "수 있습니다 이 및 또는 그 것은 있는",
        "lt": "ir yra kad tai su ar iš kaip",
        "lv": "un ir ka ar uz no vai par",
        "nl": "de het een van en is dat te",
        "no": "og det er til som en på for",
        "pl": "się na nie że jest do lub jak",
        "pt": "de que em para com os uma não",
        "ro": "de să la este pe care sau pentru",
        "ru": "и в не на что для по как",
        "sk": "sa na je že ako pre alebo ktoré",
        "sl": "je se na za da so ali ki",
        "sr": "и је се на за да су који",
        "sv": "och att det är som en på för",
        "tr": "ve bir bu için ile olarak da veya",
        "uk": "і в не на що для або та",
        "ur": "کے میں کی ہے اور سے کا کو",
        "vi": "của và các không là có cho được",
    }.items()
}
