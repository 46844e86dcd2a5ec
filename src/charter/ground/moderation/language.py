"""Which language a text is in, as far as its script or its commonest words tell: the screen reads English alone.

A rough reader of a page of tables, for a note to people and for the enhanced level; nothing is stopped by it. A part in
another language counts from PART letters, so that a name or a quoted word doesn't make a text foreign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from charter.ground.text.dialogue import Message

MOST = 20_000  # characters read of a text, half from its beginning and half from its end
PART = 12  # least letters in the script of another language, of one line
LEAST = 3  # least different common words of another language, of one line; one less in a short line without English
SHORT = 8  # words of a short line
SHARE, MIXED = 0.2, 0.15  # of a line's words, at least; of those that English lacks
# languages by the letters that only they, or mainly they, use
_SCRIPTS = (
    ("ja", "\u3040-\u30ff"),
    ("ko", "\uac00-\ud7af\u1100-\u11ff"),
    ("zh", "\u4e00-\u9fff\u3400-\u4dbf"),
    ("ar", "\u0600-\u06ff\u0750-\u077f"),
    ("he", "\u0590-\u05ff"),
    ("ru", "\u0400-\u04ff"),
    ("el", "\u0370-\u03ff"),
    ("hi", "\u0900-\u097f"),
    ("bn", "\u0980-\u09ff"),
    ("ta", "\u0b80-\u0bff"),
    ("th", "\u0e00-\u0e7f"),
    ("ka", "\u10a0-\u10ff"),
    ("am", "\u1200-\u137f"),
    ("km", "\u1780-\u17ff"),
)
_LETTERS = [(code, re.compile(f"[{letters}]")) for code, letters in _SCRIPTS]
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_FREQUENT = {
    "en": "the of and to in is that it for was on are as with his they at be this have from or had by but not what "
    "all were when we there can an your which their how if will do you i my me would about them some could so "
    "no a write give make explain tell list use please",
    "de": "der die das und ist nicht ein eine einen einem einer ich du sie es wir mit auf f\u00fcr von zu zum zur "
    "den dem des im auch sich wie wird werden kann man ohne aus bei nach \u00fcber oder aber wenn als sind "
    "hat haben war mein meine meinem meinen um schreibe gib mir erkl\u00e4re bitte seine seiner ihr ihre "
    "diese dieser dieses bis vor unter mehr noch schon durch gegen wurde wurden worden sagte er am waren habe "
    "sei",
    "es": "el la los las de del que y en un una por con para no se su al lo como m\u00e1s pero sus le ya este esta "
    "est\u00e1 son ha sin sobre mi me es c\u00f3mo qu\u00e9 puedo hacer escribe dame",
    "fr": "le la les de des du et un une est que qui dans pour pas sur ne se ce cette il elle nous vous je au aux "
    "avec par plus sont ont sa son ses mais ou comment en mon ma mes sans \u00eatre fait \u00e9cris donne moi "
    "\u00e0 c'est d'un d'une qu'il n'est y a",
    "it": "il lo la i gli le di del della dei delle e che un una per non in con si da come sono pi\u00f9 ma al nel "
    "ha questo questa mi mia mio anche essere scrivi senza \u00e8 alla nella dal hanno suo sua loro era stato",
    "pt": "o a os as de do da dos das e que um uma para n\u00e3o com em no na por se mais como mas foi ao ele ela "
    "seu sua meu minha ou s\u00e3o est\u00e1 tem sem escreva",
    "nl": "de het een en van ik je dat die in is niet op te met voor zijn er aan om ook als bij naar dan maar was "
    "heeft worden wordt hoe mijn uit over door",
    "pl": "i w na z do nie si\u0119 \u017ce jest to o jak za od po przez dla co ale s\u0105 by\u0142 tak czy ich "
    "jego oraz kt\u00f3ry kt\u00f3re kt\u00f3ra tym r\u00f3wnie\u017c tylko ma mo\u017ce by\u0142a go jej pan",
    "tr": "ve bir bu i\u00e7in ile da de \u00e7ok daha olarak olan gibi kadar sonra en ne nas\u0131l ama var o her "
    "\u015fey \u00f6nce kar\u015f\u0131 taraf\u0131ndan etti oldu ise ya hem",
    "vi": "v\u00e0 c\u1ee7a l\u00e0 c\u00f3 \u0111\u01b0\u1ee3c trong cho m\u1ed9t kh\u00f4ng nh\u1eefng v\u1edbi "
    "\u0111\u00e3 n\u00e0y c\u00e1c ng\u01b0\u1eddi \u0111\u1ec3 khi t\u1eeb \u1edf nh\u01b0 v\u00e0o anh "
    "\u00f4ng \u0111\u00f3 v\u1ec1 ra h\u1ecd nhi\u1ec1u s\u1ebd l\u1ea1i b\u1ecb ph\u1ea3i \u0111\u1ebfn "
    "t\u00f4i c\u0169ng n\u00f3i l\u00e0m th\u00ec tr\u00ean n\u0103m",
    "id": "yang dan di dari untuk dengan ini itu pada tidak dalam adalah akan oleh ke mereka saya bisa telah juga "
    "sebagai karena lebih saat ada seorang kepada seperti tersebut orang tahun setelah para sudah kami anda",
    "sw": "na ya wa kwa ni za katika la cha hii kama kuwa yake au lakini baada hiyo watu vya",
    "ha": "da na a ta ya don cikin wannan ba ne shi ce suka kuma su sun an ga wani yana",
}
_WORDS = {code: frozenset(words.split()) for code, words in _FREQUENT.items()}


def unscreened(messages: Sequence[Message]) -> str:
    """The language other than English, by its two letters, that a user turn, the system text or a begun reply is in,
    the newest first; "" if none is told."""
    for message in reversed(messages):
        if language := foreign(message["content"]):
            return language
    return ""


def english_lines(messages: Sequence[Message]) -> list[Message]:
    """Messages without the lines that are told to be in another language; those that keep none are left out, those of
    more than MOST characters stay whole."""
    kept = [
        text if len(text) > MOST else "\n".join(line for line in text.splitlines() if not _language_of(line))
        for text in (m["content"] for m in messages)
    ]
    return [{**m, "content": text} for m, text in zip(messages, kept, strict=True) if text.strip()]


@lru_cache(maxsize=256)
def foreign(text: str) -> str:
    """The language of a text, or of a line of it, if that is not English; "" if it is or can't be told."""
    if len(text) > MOST:
        text = f"{text[: MOST // 2]}\n{text[-MOST // 2 :]}"
    return next(filter(None, map(_language_of, text.splitlines())), "")


def _language_of(line: str) -> str:
    return _by_script(line) or _by_words(line) if len(line) >= PART // 3 else ""


def _by_script(line: str) -> str:
    """The language of most letters of a line, if they aren't Latin."""
    if line.isascii():
        return ""
    letters = sum(map(str.isalpha, line))
    for code, script in _LETTERS:
        count = len(script.findall(line))
        # a sign of Chinese or Japanese says as much as three letters
        weight = 3 if code in ("zh", "ja", "ko") else 1
        if weight * count >= PART and weight * count > (letters - count) / 2:
            return code
    return ""


def _by_words(line: str) -> str:
    """The language whose common words a line has most of, if English has clearly fewer or the line is of both."""
    words = [word.lower() for word in _WORD.findall(line)]
    if len(words) < LEAST:
        return ""
    counts = {code: sum(word in common for word in words) for code, common in _WORDS.items()}
    code = max(counts, key=lambda name: counts[name])
    # names of variables are single letters, too
    kinds = len({word for word in words if word in _WORDS[code] and len(word) > 1})
    least = LEAST - (len(words) <= SHORT and not counts["en"])
    enough = counts[code] >= SHARE * len(words) and kinds >= least
    if code != "en" and enough and counts[code] > 2 * counts["en"]:
        return code
    # a line of two languages: words that English lacks
    lacking = {
        name: [word for word in words if word in common and word not in _WORDS["en"] and len(word) > 1]
        for name, common in _WORDS.items()
    }
    code, own = max(lacking.items(), key=lambda item: len(item[1]))
    mixed = len(own) >= MIXED * len(words) and 2 * len(own) >= counts["en"]
    return code if mixed and len({*own}) >= LEAST else ""
