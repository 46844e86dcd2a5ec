"""Translation scores: corpus BLEU and chrF from summed counts, and their means over languages.

BLEU (Papineni 2002; as sacreBLEU, Post 2018, with exponential smoothing) and chrF2 (Popović 2015) are not means over
sentences. Both are functions of counts summed over sentences, so a resample of sentences has a score, too.

    BLEU = 100 exp( min(0, 1 - reference / hypothesis) + 1/4 sum_n log p_n ),  p_n = matched_n / hypothesis_n,
           and 1 / (2^k hypothesis_n) for the k-th order without a match
    chrF = 100 (1 + 4) P R / (4 P + R),  P and R the means over orders of matched_n over the hypothesis's and over the
           reference's

Languages go by the codes of FLORES-200, NTREX-128 and FLORES (version 1). Tables tell their
English names, which of them put no blanks between words, and how much public text each has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Floats, Statistic, Table, ratio, sum_by_cluster, tabulate

ENGLISH = frozenset({"eng", "eng_Latn", "en", "eng-GB", "eng-US", "eng-IN"})
# For these, scores that count words use characters instead.
_UNSPACED = "bod cmn dzo ja jpn khm km lao lo mya my shn tha th yue zh zho"
UNSPACED = frozenset(_UNSPACED.split())

_NAMES = """
ace Acehnese, acm Mesopotamian Arabic, acq Ta'izzi-Adeni Arabic, aeb Tunisian Arabic, af Afrikaans, afr Afrikaans,
ajp South Levantine Arabic, aka Akan, als Tosk Albanian, am Amharic, amh Amharic, apc North Levantine Arabic,
ar Modern Standard Arabic, arb Modern Standard Arabic, ars Najdi Arabic, ary Moroccan Arabic, arz Egyptian Arabic,
asm Assamese, ast Asturian, awa Awadhi, ayr Central Aymara, azb South Azerbaijani, aze Azerbaijani,
azj North Azerbaijani, bak Bashkir, bam Bambara, ban Balinese, bel Belarusian, bem Bemba, ben Bengali, bg Bulgarian,
bho Bhojpuri, bjn Banjar, bn Bengali, bod Standard Tibetan, bos Bosnian, bug Buginese, bul Bulgarian, ca Catalan,
cat Catalan, ceb Cebuano, ces Czech, cjk Chokwe, ckb Central Kurdish, cmn Mandarin Chinese, crh Crimean Tatar,
cs Czech, cy Welsh, cym Welsh, da Danish, dan Danish, de German, deu German, dik Southwestern Dinka, div Divehi,
dyu Dyula, dzo Dzongkha, el Greek, ell Greek, en English, eng English, epo Esperanto, es Spanish, est Estonian,
et Estonian, eu Basque, eus Basque, ewe Ewe, fa Persian, fao Faroese, fas Persian, fi Finnish, fij Fijian,
fil Filipino, fin Finnish, fon Fon, fr French, fra French, fuc Pulaar, fur Friulian, fuv Nigerian Fulfulde,
ga Irish, gaz West Central Oromo, gla Scottish Gaelic, gle Irish, glg Galician, grn Guarani, gsw Swiss German,
gu Gujarati, guj Gujarati, hat Haitian Creole, hau Hausa, he Hebrew, heb Hebrew, hi Hindi, hin Hindi,
hmn Hmong, hne Chhattisgarhi, hr Croatian, hrv Croatian, hu Hungarian, hun Hungarian, hy Armenian, hye Armenian,
ibo Igbo, ilo Ilocano, ind Indonesian, is Icelandic, isl Icelandic, it Italian, ita Italian, ja Japanese,
jav Javanese, jpn Japanese, ka Georgian, kab Kabyle, kac Jingpho, kam Kamba, kan Kannada, kas Kashmiri,
kat Georgian, kaz Kazakh, kbp Kabiye, kea Kabuverdianu, khk Halh Mongolian, khm Khmer, kik Kikuyu, kin Kinyarwanda,
kir Kyrgyz, kk Kazakh, km Khmer, kmb Kimbundu, kmr Northern Kurdish, kn Kannada, knc Central Kanuri, ko Korean,
kon Kikongo, kor Korean, lao Lao, lav Latvian, lij Ligurian, lim Limburgish, lin Lingala, lit Lithuanian,
lmo Lombard, lo Lao, lt Lithuanian, ltg Latgalian, ltz Luxembourgish, lua Luba-Kasai, lug Ganda, luo Luo,
lus Mizo, lv Latvian, lvs Standard Latvian, mag Magahi, mai Maithili, mal Malayalam, mar Marathi,
mey Hassaniya Arabic, min Minangkabau, mkd Macedonian, ml Malayalam, mlg Malagasy, mlt Maltese, mni Meitei,
mon Mongolian, mos Mossi, mr Marathi, mri Maori, ms Malay, msa Malay, my Burmese, mya Burmese, nb Norwegian Bokmål,
nde North Ndebele, ne Nepali, nep Nepali, nl Dutch, nld Dutch, nno Norwegian Nynorsk, nob Norwegian Bokmål,
npi Nepali, nso Northern Sotho, nus Nuer, nya Nyanja, oci Occitan, orm Oromo, ory Odia, pa Punjabi, pag Pangasinan,
pan Eastern Panjabi, pap Papiamento, pbt Southern Pashto, pes Western Persian, pl Polish, plt Plateau Malagasy,
pol Polish, por Portuguese, prs Dari, ps Pashto, pt Portuguese, pus Pashto, quy Ayacucho Quechua, ro Romanian,
ron Romanian, ru Russian, run Rundi, rus Russian, sag Sango, san Sanskrit, sat Santali, scn Sicilian, shi Tachelhit,
shn Shan, si Sinhala, sin Sinhala, sk Slovak, sl Slovenian, slk Slovak, slv Slovenian, smo Samoan, sna Shona,
snd Sindhi, som Somali, sot Southern Sotho, spa Spanish, sq Albanian, sqi Albanian, sr Serbian, srd Sardinian,
srp Serbian, ssw Swati, sun Sundanese, sv Swedish, sw Swahili, swa Swahili, swe Swedish, swh Swahili, szl Silesian,
ta Tamil, tah Tahitian, tam Tamil, taq Tamasheq, tat Tatar, te Telugu, tel Telugu, tgk Tajik, tgl Tagalog, th Thai,
tha Thai, tir Tigrinya, tl Tagalog, ton Tongan, tpi Tok Pisin, tr Turkish, tsn Tswana, tso Tsonga, tuk Turkmen,
tum Tumbuka, tur Turkish, twi Twi, tzm Central Atlas Tamazight, uig Uyghur, uk Ukrainian, ukr Ukrainian, umb Umbundu,
ur Urdu, urd Urdu, uzb Uzbek, uzn Northern Uzbek, vec Venetian, ven Venda, vi Vietnamese, vie Vietnamese, war Waray,
wol Wolof, xho Xhosa, ydd Eastern Yiddish, yo Yoruba, yor Yoruba, yue Cantonese, zh Chinese, zho Chinese,
zsm Standard Malay, zu Zulu, zul Zulu, zho_Hans Chinese (Simplified), zho_Hant Chinese (Traditional),
zho-CN Chinese (Simplified), zho-TW Chinese (Traditional), por-BR Brazilian Portuguese, spa-MX Mexican Spanish,
fra-CA Canadian French, srp-Latn Serbian (Latin script), srp-Cyrl Serbian (Cyrillic script)
"""
NAMES: dict[str, str] = dict(entry.strip().split(" ", 1) for entry in _NAMES.split(","))

# A grouping of our own, by how much text of a language is public; others have none.
_RESOURCES = {
    "high": "arb cat ces deu eus fin fra hin hun ita jpn kor nld pes pol por rus spa swe tur vie zho",
    "middle": "afr arz ben bul dan ell est heb ind kat kaz lit lvs ron slk slv tam tgl tha ukr urd zsm",
    "low": "amh ban cym gle hau hye ibo isl kan khm km lao mal mya ne npi ps pbt shn si sin som swa swh tir wol xho "
    "yor zul",
}
RESOURCES: dict[str, str] = {code: name for name, codes in _RESOURCES.items() for code in codes.split()}
BLEU_ORDER, CHRF_ORDER, BETA = 4, 6, 2.0
BUCKETS = ("high", "middle", "low")  # of languages, by their public text
UNDERSTANDABLE, GOOD = 30.0, 50.0  # the card's rule of thumb for BLEU, section 4.1


def resources(code: str) -> str:
    """How much text of a language is public: "high", "middle" or "low"; "" for a language that isn't grouped."""
    return RESOURCES.get(_plain(code), "")


def language(code: str) -> str:
    """The English name of a code, with or without its script or region. Raises ValueError for an unknown code."""
    name = NAMES.get(code) or NAMES.get(_plain(code))
    if name is None:
        raise ValueError(f"{code!r} is not a language that charter knows")
    return name


def unspaced(code: str) -> bool:
    """Whether the language puts no blanks between its words."""
    return _plain(code) in UNSPACED


def _plain(code: str) -> str:
    return code.partition("_")[0].partition("-")[0]


def bleu(sums: Floats) -> Floats:
    """Corpus BLEU, 0 to 100, from sums [..., 10]: words of the hypotheses, words of the references, then for orders 1
    to 4 the matched n-grams and the hypotheses' n-grams. nan without a reference."""
    words, reference_words = sums[..., 0], sums[..., 1]
    matched, hypothesis_grams = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    missed = np.cumsum(matched == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(matched > 0, matched, 0.5**missed) / hypothesis_grams
        score = 100 * np.exp(np.minimum(0.0, 1 - reference_words / words) + np.log(precision).mean(axis=-1))
    score = np.where((matched > 0).any(axis=-1) & (hypothesis_grams > 0).all(axis=-1), score, 0.0)
    return np.where(reference_words > 0, score, np.nan)


def chrf(sums: Floats) -> Floats:
    """Corpus chrF2, 0 to 100, from sums [..., 18]: for orders 1 to 6 the character n-grams of the hypotheses, of the
    references, and the matched ones. nan without a reference."""
    hypothesis, reference, matched = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    occurs = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(1, occurs.sum(axis=-1))
    precision = np.divide(matched, hypothesis, out=np.zeros_like(matched), where=occurs).sum(axis=-1) / orders
    recall = np.divide(matched, reference, out=np.zeros_like(matched), where=occurs).sum(axis=-1) / orders
    both = BETA**2 * precision + recall
    score = 100 * (1 + BETA**2) * np.divide(precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return np.where(reference[..., 0] > 0, score, np.nan)


def chrf_counts(hypothesis: str, reference: str) -> list[int]:
    """The counts that one sentence adds to `chrf`, without blanks. If the reference is too short for an order, the
    hypothesis counts 0 there."""
    counts: list[int] = []
    texts = ["".join(text.split()) for text in (hypothesis, reference)]
    for n in range(1, CHRF_ORDER + 1):
        hypothesis_grams, reference_grams = (Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in texts)
        counts += [
            hypothesis_grams.total() if reference_grams else 0,
            reference_grams.total(),
            (hypothesis_grams & reference_grams).total(),
        ]
    return counts


@dataclass(frozen=True, slots=True)
class OverGroups:
    """The mean of a statistic over groups, whose columns follow each other; with `above`, the share of groups in which
    it exceeds that. Groups without a value are excluded."""

    of: Statistic
    groups: tuple[str, ...]
    above: float | None = None

    def __call__(self, sums: Floats) -> Floats:
        each = self.of(sums.reshape(*sums.shape[:-1], len(self.groups), -1))
        defined = ~np.isnan(each)
        points = each if self.above is None else (each > self.above).astype(np.float64)
        return ratio(np.stack([np.where(defined, points, 0.0).sum(axis=-1), defined.sum(axis=-1)], axis=-1))


def over_languages(
    key: str, of: Statistic, above: float | None = None, bucket: str = ""
) -> Callable[[Sequence[Row]], Table]:
    """The mean over languages (`group`) of a corpus score, or the share of languages with more than `above`; with
    `bucket`, over the languages with so much public text. A row's counts are under `key`; a sentence is one cluster
    over all languages."""

    def table(rows: Sequence[Row]) -> Table:
        rows = [r for r in rows if resources(str(r["group"])) == bucket] if bucket else rows
        if not rows:
            return tabulate(())
        groups, width = tuple(sorted({str(r["group"]) for r in rows})), len(rows[0][key])
        at = {name: place * width for place, name in enumerate(groups)}
        columns = ((str(r["id"]), r[key], at[str(r["group"])]) for r in rows)
        return sum_by_cluster(columns, width * len(groups), OverGroups(of, groups, above))

    return table
