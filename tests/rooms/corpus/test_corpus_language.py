"""The detected language, on sentences of our own and, if present, on NTREX and FLORES."""

import gzip
import json
import os
from pathlib import Path

import pytest

from charter.rooms.corpus.language import detect

DATA = Path(os.environ.get("CHARTER_DATA", "nowhere"))
OURS = {
    "en": "The ferry leaves at noon, and nobody on the pier seems to mind that it is raining.",
    "de": "Am Sonntag gehen wir mit den Kindern in den Wald und suchen Pilze.",
    "fr": "Les enfants du village jouaient dehors jusqu'à la tombée de la nuit.",
    "es": "Mañana por la mañana tenemos que comprar pan y un poco de queso.",
    "it": "Il treno per Napoli parte dal binario quattro, ma è sempre in ritardo.",
    "pl": "Wczoraj wieczorem oglądaliśmy film o górach i długo rozmawialiśmy.",
    "ru": "Завтра мы поедем к бабушке в деревню и будем собирать яблоки.",
    "el": "Ο γείτονάς μου φυτεύει ντομάτες κάθε άνοιξη στον κήπο του.",
    "zh": "明天早上我们一起去市场买菜,然后回家做饭。",
    "ja": "昨日は雨が降っていたので、家で本を読んでいました。",
    "ko": "우리는 주말에 산에 올라가서 사진을 많이 찍었습니다.",
    "hi": "कल सुबह हम सब मिलकर नदी के किनारे घूमने जाएंगे।",
    "ar": "ذهبنا أمس إلى السوق واشترينا الخبز والفاكهة.",
    "th": "พรุ่งนี้เช้าเราจะไปตลาดด้วยกันแล้วกลับมาทำอาหารที่บ้าน",
}
CODE = '''def mean(values: list[float]) -> float:
    """The mean of the values, which must not be empty."""
    total = 0.0
    for value in values:
        total += value  # summed in order
    return total / len(values)
'''


@pytest.mark.parametrize("code", OURS)
def test_sentences_of_our_own(code: str) -> None:
    language, confidence = detect(OURS[code])
    assert language == code
    assert 0.5 < confidence <= 1


@pytest.mark.parametrize("text", ["", "12 + 30 = 42", "--- *** ---\n\n", "1 a 2 b", "\ud83d"])
def test_what_has_hardly_a_letter_is_undetermined(text: str) -> None:
    assert detect(text) == ("und", 0.0)


def test_code_with_english_comments_is_english() -> None:
    assert detect(CODE)[0] == "en"


def test_a_long_text_is_read_at_its_start_middle_and_end() -> None:
    german, english = OURS["de"] + " ", OURS["en"] + " "
    assert detect(german * 10 + english * 4000)[0] == "en"
    assert detect(german * 4000)[0] == "de"


@pytest.mark.skipif(not (DATA / "ntrex").is_dir(), reason="needs CHARTER_DATA with ntrex and flores_v1")
def test_accuracy_on_news_sentences_and_encyclopaedia() -> None:
    told = "eng en, deu de, fra fr, spa es, ita it, por pt, rus ru, jpn ja, kor ko, arb ar, hin hi, vie vi, tur tr"
    told += ", pol pl, swa sw, hau ha, tam ta, kat ka, isl is"
    codes = dict(pair.split() for pair in told.split(", "))
    with gzip.open(DATA / "ntrex" / "ntrex128_20langs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][::10]
    right = [detect(row[key])[0] == code for row in rows for key, code in codes.items()]
    assert sum(right) / len(right) > 0.985
    with gzip.open(DATA / "flores_v1" / "devtest_4langs.jsonl.gz", "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file][::20]
    right = [detect(row[code])[0] == code for row in pairs for code in ("ne", "si", "km", "ps") if code in row]
    assert sum(right) / len(right) > 0.985
