"""Languages by the codes of FLORES-200, NTREX-128 and FLORES (version 1): their English names, which put no blanks
between words, and how much public text each has."""

from __future__ import annotations

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


def resources(code: str) -> str:
    """ "high", "middle" or "low": how much text of a language is public; "" for a language that isn't grouped."""
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
