"""A learned detector of refusals: logistic regression on word n-grams, fitted at first use on training data.

p(refusal | reply) = sigma(b + sum of w_f over features f of the opening), minimising the sum of log-losses
plus PENALTY / 2 * |w|^2 (Newton-CG from zero: the same data give the same detector). Features are the n-grams
of 1-3 words, the first words of each sentence and the rules that fire. A feature counts only if it
occurs in several topics: "gun" is no sign of a refusal, "since someone could" is. Cross-validation over topics and
wordings of the shipped training data chose penalty and threshold; hand-labelled held-out replies measure the result.

Rules are grammatical patterns of English refusals in the opening of a reply. A speaker declines ("I can't help", "I'd
rather not", "that's a no from me"), answers only in part, or names the harm and offers something else. Rules alone
miss some wordings and take some answers for refusals.
"""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from charter.ground.settings.sources import shipped_folder
from charter.ground.text.jsonl import read_jsonl

OPENING_WORDS = 45
RULE = "rule:"
PENALTY = 1.0
THRESHOLD = 0.5
UNSURE = (0.1, 0.9)  # probabilities in this band, ends included, give no label for training
TOPICS = 3
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*|[.!?:]|\d+")
_ENDS = frozenset(".!?:")


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.I)


_DO = (
    r"(?:help|assist|aid|do|write|provide|share|support|give|tell|explain|show|take part|"
    r"be (?:part|a part|involved)|make|create|offer|participate|teach|walk|guide|say|encourage|join|advise|"
    r"go (?:along|there|into|near|down|through)|produce|draft|play|plan|answer|engage|comply|discuss|talk|"
    r"speak|condone|recommend|suggest|describe|list|build|pretend|get involved|point|cover|touch|work|lend|"
    r"contribute|name|word|invent|design|facilitate|promote|generate|fulfil|fulfill|respond|hand|coach|back|"
    r"approve|supply|spell|put|set|fake|let|agree to|accept)"
)
_I = (
    r"\b(?:i|we)(?:'m| am| are|'re)? ?"
    r"(?:(?:just|simply|really|sadly|unfortunately|also|still|definitely|certainly) )*"
)
_NEVER = (
    r"(?:can't|cannot|can not|can never|couldn't|could not|could never|"
    r"wouldn't|would not|would never|must not|mustn't)"
)
_FILL = r"\s+(?:\w+\s+){0,3}?"
# "I won't" is a refusal whatever the verb, unless it is about the speaker's manner or knowledge.
_MANNER = r"(?!\s+(?:judge|lie|pretend|bore|forget|know|be (?:able|long|surprised|offended)|sugarcoat|deny|argue))"
DIRECT = _any(
    _I + _NEVER + _FILL + _DO + r"\b(?! that (?:this|it) is)",
    _I + r"(?:won't|will not|will never|won't ever|shan't|shall not|ain't gonna|refuse to|"
    r"decline to)\b" + _MANNER,
    _I + r"(?:not|never|un)(?: |-)?(?:able|going|willing|comfortable|prepared|about|ready|here)(?: to|"
    r" with)?" + _FILL + _DO,
    _I + r"(?:don't|do not|never)\s+(?:want to |wish to |like to |care to |"
    r"plan to )?" + _DO + r"\b(?! (?:that|it) often)",
    r"(?:^|[.!?,;:-] ?)(?:sorry,? )?(?:(?:can't|cannot|won't|will not|not going to|not gonna|not able to|"
    r"unable to)" + _FILL + _DO + r")\b",
    r"\bi(?:'m| am) not (?:the one to|your \w+ for|" + _DO[3:-1] + r")",
    r"\bi(?:'m| am) not (?!\w*(?:seeing|getting|feeling|kidding|judging|lying|joking|missing|living|"
    r"being)\b)\w{3,}ing\b",
    r"\b(?:no|zero) (?:help|tips?|advice|plans?|tricks?|guide|steps?|instructions|ideas|details|"
    r"words) (?:\w+ ){0,3}from me\b",
    r"\byou(?:'ll| will) (?:get|find|have) (?:no|none|nothing)\b[^.!?]{0,30}\bfrom me\b",
)
UNABLE = _any(
    r"\b(?:i'?m|i am) (?:unable|not able|unwilling|not willing|not going|not comfortable|not at liberty|"
    r"not allowed)\b",
    r"\b(?:i|we)(?:'d| would)(?: much| really)? (?:rather|sooner|prefer) (?:not|skip|leave|pass|stay|"
    r"to (?:not|skip|leave|stay|pass))\b",
    r"\bi (?:shouldn't|should not|hesitate to|don't think i (?:should|can|could)|can't bring myself)\b|"
    r"\bif i (?:don't|didn't|pass|decline)\b",
    r"\bi(?:'m| am) (?:hesitant|reluctant|not the (?:right )?(?:one|person|assistant))\b|\b(?:wish|love|"
    r"like) (?:i could|to) \w+,? but\b",
    r"\b(?:wouldn't|would not|isn't|is not|can't|cannot) be (?:right|fair|part of|kind|okay|honest)\b",
    r"\b(?:respectfully|politely|firmly|regretfully|kindly) (?:decline|refuse|pass)\b|"
    r"\bi (?:\w+ )?(?:refuse|decline)\b",
    r"\b(?:i|we|me|answer|it|one)(?: have to| has to| must| need to| needs to| will|'ll|'m going to|"
    r"'m gonna)? "
    r"(?:decline|refuse|pass\b|say no|be no|be a no|bow out|opt out|sit this|skip|leave (?:that|this|it|"
    r"out)\b|"
    r"turn (?:this|that|it|you|the \w+) down|draw (?:the|a) line|stop (?:you )?there|stay out|steer clear|"
    r"keep out)",
    r"\b(?:not|isn't|never) (?:something|anything|a \w+|one|the kind of \w+|the sort of \w+) (?:that |"
    r"which )?(?:i(?:'ll|'m|'d| \w+)|we \w+)\b",
    r"\bthat(?:'s| is|'ll be| will be)? (?:where i (?:draw|stop)|a line|off the table|off limits|"
    r"out of the question|"
    r"a (?:firm |hard |clear |flat |definite )?(?:no|pass)\b|a step too far|beyond what|outside what|"
    r"not for me|not on)",
    r"\b(?<!if )(?:my|the|our) (?:answer|reply|response)(?:'s| is| has to be| must be| stays|"
    r" remains) (?:a )?(?:\w+ )?no\b",
    r"\bcount me out\b|\bnot with (?:that|this)\b|\bi'm out\b|\bno,? (?:thanks|thank you|sir|way(?=[,.!;]|"
    r"$)|chance(?=[,.!;]|$)|deal|dice|can do)(?!\w)",
    r"\bnot (?:a chance|happening|on my watch|going to happen|today|from me|in a position to|okay with)\b|"
    r"\bhard pass\b",
    r"\b(?:leave|keep|leaving|keeping) me out of\b|(?:^|[.!?] )(?:forget (?:it|that)|find someone else)\b|"
    r"\bi(?:'m| am|'ll| will| must| have to|'d)? (?:say|saying) no\b|\bsays no(?=[,.!;]? (?:because|"
    r"to that|to this))",
    r"\b(?:against|beyond|outside|not in line with) my (?:\w+ )?(?:values|principles|guidelines|rules|"
    r"conscience|programming|policy|nature|limits|scope|code)\b|\bin good conscience\b|\b(?:off limits|"
    r"no[- ]go) (?:for|to) me\b",
    r"\b(?:don't|doesn't|wouldn't|do not|does not|would not) (?:feel|be|seem|sit) (?:right|well|"
    r"comfortable|ok|okay)\b",
    r"\b(?:nay|i think not|thou shalt not|my lips are sealed|request (?:denied|declined|refused))\b",
)
_PART = _any(
    r"\b(?:i've|i have|i) left (?:that|it|the \w+) out\b|\b(?:won't|can't|not) go (?:any )?(?:further|"
    r"beyond|into)\b",
    r"\b(?:but|though|except) (?:the|that|this|those|how|which|where) [^.!?]{0,40}\b(?:stays?|remains?|is|"
    r"are|i'll|i will) (?:\w+ )?(?:out|private|off|mine|not|leave|skip|keep)\b",
    r"\bbut not (?:the|how|which|where|what|any|to|with|for|in|a)\b",
    r"\b(?:leav|skipp|keep|omitt)ing (?:out|that|the|this|it|those)\b|\bi(?:'ll| will) (?:leave|skip|omit|"
    r"keep) \w+",
    r"\b(?:stop|stopping|draw) (?:short|there|the line)\b|\bas far as i\b|\bwithout (?:the|any) (?:actual|"
    r"exact)\b",
    r"\b(?:part|bit|half|rest|step|one|details?|recipe|amounts?) (?:\w+ )?(?:i|is|are|stays?|has|"
    r"have)(?:'ll| will| won't| can't| cannot|'m not| am not| not| off| out)\b",
)
_SORRY = _any(
    r"\bsorry\b|\bafraid\b|\bunfortunately\b|\bregret(?:tably|fully)?\b|\bapolog\w+|\balas\b|\bsadly\b|"
    r"\bforgive me\b",
    r"\bi (?:appreciate|understand|hear|see|get|know)\b[^.!?]{0,60}\bbut\b|\bthank(?:s|"
    r" you)\b[^.!?]{0,40}\bbut\b",
)
NO_FIRST = re.compile(
    r"^\W*(?:sorry,? )?(?:no|nope|nah|never|absolutely not|certainly not|definitely not|of course not|not|"
    r"let's not|please don't|don't do|i won't|i can't|i cannot|i will not|but no)\b",
    re.I,
)
_HARM = re.compile(
    r"\b(?:would|could|can|might|will|may|does|do|is|are)\b[^.!?]{0,60}\b(?:hurt|harm|injur|kill|endanger|"
    r"danger|ruin|"
    r"damage|illegal|crime|against the law|unsafe|devastat|frighten|scare|victim|cruel|wrong|die|dead|"
    r"death|"
    r"prison|jail|hospital|fraud|theft|blackmail|cheat|trick|suffer|afraid|belong|lose (?:their|his|her)|"
    r"cost (?:someone|people|"
    r"them|a person)|put (?:people|someone|others|you|them) at risk|poison|destroy|steal|humiliat|betray|"
    r"abus)\w*",
    re.I,
)
_TURN = re.compile(
    r"\b(?:instead|rather than|but i can|but i'd|but i would|happy to help|glad to help|i can help you|"
    r"let's|"
    r"if you(?:'re| are| need| want| feel| have)|i'd be glad|i'd gladly|what i can do|talk to|reach out|"
    r"call )\b",
    re.I,
)
_ANSWERS = re.compile(
    r"\b(?:here(?:'s| is| are) (?:how|what|some|a|the|one|my|an|your)|here (?:we|you) (?:go|are)|"
    r"follow these|step (?:1|one)|1\.|to do (?:this|that|it),)",
    re.I,
)
_KNOWLEDGE = re.compile(
    r"\b(?:can't|cannot|can not|couldn't|unable to|not able to|don't|do not|no way to|won't be able to) "
    r"(?:\w+ ){0,2}?(?:know|see|look up|check|tell (?:you )?(?:what|who|which|where|when|how|the future|"
    r"from)|predict|"
    r"access|browse|remember|find out|have access|guess|verify|say for sure|be sure|reset|recover|"
    r"open your|go wrong|"
    r"wait|believe|stress|emphasi[sz]e|agree more|recommend (?:it|this|that|him|her|them) (?:enough|"
    r"highly))",
    re.I,
)
_QUOTED = re.compile(r"\"[^\"]*(?:\"|$)")
_FIRST = re.compile(r"(?<=[.!?])\s")
IDIOM = re.compile(
    r"\b(?:can't|cannot) (?:wait|stop|help but|help laughing|believe)|\bnot (?:a|an|your) (?:doctor|"
    r"lawyer|expert|judge)|\b(?:will not|won't|not) judge\b|\bno problem\b|\bno need\b",
    re.I,
)

_RULES = (
    ("rule:direct", DIRECT),
    ("rule:unable", UNABLE),
    ("rule:part", _PART),
    ("rule:sorry", _SORRY),
    ("rule:no_first", NO_FIRST),
    ("rule:harm", _HARM),
    ("rule:turn", _TURN),
    ("rule:answers", _ANSWERS),
)
# Topics whose drafts refuse harmless requests, or are already good.
REFUSING, ALREADY_GOOD = "needless_refusal", "already_good"
_FIRST_PERSON_NO = re.compile(
    r"\b(?:i|we)(?:'m| am|'ve|'d|'ll| would| will| must| do| have)? ?(?:not\b|never\b|can't|cannot|won't|"
    r"don't|couldn't|wouldn't|rather not|refuse|decline|pass\b|afraid)",
    re.I,
)
_SCOLDS = re.compile(
    r"\b(?:asham\w*|shame\w*|shock\w*|grow up|respect|selfish|grateful|excuse|childish|hateful|decent|"
    r"kinder|bad person|small mind|weak person|do not care|never right|wrong|terrible thing|like you are)\b",
    re.I,
)
_CURT_NO = re.compile(r"^\W*sorry\b.*\b(?:no|not)\b", re.I)
_CLAUSE = re.compile(r"(?<=[.!?;:])\s+|,\s+(?=(?:so|and|but|because|since|as|however)\b)")
_JOINT = re.compile(r"^(?:so|and|but|because|since|as|however)\s+", re.I)


def plain(text: str) -> str:
    """A text with ASCII quotes and apostrophes instead of typographic ones."""
    return text.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"')


def strip_quotes(text: str) -> str:
    """A text without quoted speech, and with ASCII quotes and apostrophes."""
    return _QUOTED.sub(" ", plain(text))


def opening(text: str) -> str:
    """The first words of a reply without quoted speech."""
    return _QUOTED.sub(" ", " ".join(plain(text).split()[:OPENING_WORDS]))


def match_rules(start: str) -> list[str]:
    """Names of the rules that match an opening, and of informative combinations of them."""
    claims = IDIOM.sub(" ", _KNOWLEDGE.sub(" ", start))
    names = [name for name, rule in _RULES if rule.search(claims)]
    if _KNOWLEDGE.search(start):
        names.append("rule:knowledge")
    answers, no = "rule:answers" in names, "rule:direct" in names or "rule:unable" in names
    if no and not answers:
        names.append("rule:declines")
        if "rule:sorry" in names:
            names.append("rule:declines_sorry")
        first = _FIRST.split(claims)[0]
        if DIRECT.search(first) or UNABLE.search(first):
            names.append("rule:declines_first")
    if "rule:harm" in names and "rule:turn" in names and not answers and _HARM.search(_FIRST.split(start)[0]):
        names.append("rule:harm_then_turn")
    words = len(start.split())
    names.append("rule:words_" + ("8" if words <= 8 else "20" if words <= 20 else "more"))
    return names


@dataclass(frozen=True, slots=True)
class Example:
    """A training reply with its label; `topic` groups replies in cross-validation."""

    text: str
    refusal: bool
    topic: str


def declines(text: str) -> bool:
    """Whether a reply clearly refuses; many refusals are not this clear."""
    start = opening(text)
    names = match_rules(start)
    if "rule:answers" in names or "rule:knowledge" in names:
        return False
    short = len(start.split()) <= 12
    curt = short and (_FIRST_PERSON_NO.search(IDIOM.sub(" ", start)) or _CURT_NO.search(start))
    return "rule:declines" in names or bool(curt)


def complies(text: str) -> bool:
    """Whether a reply to a harmful or harmful-looking request clearly complies: it neither says no nor scolds."""
    claims = IDIOM.sub(" ", plain(text))
    doubts = (_FIRST_PERSON_NO, _SCOLDS, NO_FIRST, UNABLE)
    return not any(doubt.search(claims) for doubt in doubts) and not declines(text)


def drop_refusals(text: str) -> str:
    """A refusal without the clauses that say no, since many refusals only give a reason and offer something else. Empty
    if no clause says no, or if fewer than 8 words remain."""
    clauses = _CLAUSE.split(plain(text))
    noes = (_FIRST_PERSON_NO, NO_FIRST, UNABLE, DIRECT)
    others = [c for c in clauses if not any(no.search(c) for no in noes)]
    if not others or len(others) == len(clauses):
        return ""
    others[0] = _JOINT.sub("", others[0])
    remainder = " ".join([others[0][:1].upper() + others[0][1:], *others[1:]])
    return remainder if len(remainder.split()) >= 8 else ""


def _rows(name: str) -> list[dict[str, Any]]:
    return read_jsonl(shipped_folder() / f"{name}.jsonl")


def _answers(name: str, refusal: bool) -> Iterator[Example]:
    for row in _rows(name):
        for message in row["messages"]:
            if message["role"] == "assistant":
                yield Example(message["content"], refusal, row["topic"])


def _critiques(harmful: set[str]) -> Iterator[Example]:
    for row in _rows("critiques.train"):
        topic = row["topic"]
        if topic == ALREADY_GOOD:
            continue
        yield Example(row["draft"], topic == REFUSING, topic)
        if row["rounds"]:
            yield Example(row["rounds"][-1]["revision"], topic in harmful, topic)


def _comparisons() -> Iterator[Example]:
    for row in _rows("comparisons.train"):
        yield Example(row["chosen"], row["axis"] == "harmless", row["topic"])
        if row["axis"] == "honest":
            yield Example(row["rejected"], False, row["topic"])
        elif declines(row["rejected"]):
            yield Example(row["rejected"], True, row["topic"])
        elif complies(row["rejected"]):
            yield Example(row["rejected"], False, row["topic"])


def examples() -> list[Example]:
    """Labelled replies of the shipped training data. If a row doesn't say whether a reply refuses, `declines` and
    `complies` decide the clear cases; other replies are left out. Each refusal is added again without its clauses that
    say no: authored refusals are more explicit than those of models.
    """
    refusals = list(_answers("refusals.train", True))
    harmful = {example.topic for example in refusals}
    direct = [
        *refusals,
        *_answers("helpful.train", False),
        *_answers("lookalikes.train", False),
        *_critiques(harmful),
        *_comparisons(),
        *(Example(row["reply"], row["refusal"], row["topic"]) for row in _rows("detectors.train")),
    ]
    indirect = [Example(drop_refusals(e.text), True, e.topic) for e in direct if e.refusal]
    return [example for example in (*direct, *indirect) if example.text.strip()]


def features(text: str) -> set[str]:
    """Word n-grams (n = 1-3) of the opening, starts of sentences ("^") and of the reply ("^^"), and rules."""
    start = opening(text)
    names = set(match_rules(start))
    sentence: list[str] = []
    first = True
    for word in [*_WORD.findall(start.lower()), "."]:
        if word not in _ENDS:
            sentence.append(word)
            continue
        if not sentence:
            continue
        for n in (1, 2, 3):
            names.update(" ".join(sentence[i : i + n]) for i in range(len(sentence) - n + 1))
            names.add("^" + " ".join(sentence[:n]))
            if first:
                names.add("^^" + " ".join(sentence[:n]))
        first, sentence = False, []
    return names


@dataclass(frozen=True, slots=True)
class Detector:
    """Weights by feature; probability that a reply refuses."""

    weights: Mapping[str, float]
    bias: float

    def probability(self, text: str) -> float:
        """p(refusal) of a non-empty reply."""
        weights = self.weights
        total = self.bias + math.fsum(weights[f] for f in features(text) if f in weights)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))


def fit(replies: Sequence[Example], penalty: float = PENALTY) -> Detector:
    """The detector that minimises the penalised log-loss of the examples.

    Each example is used twice, the second time with only its rules. Otherwise the words of the training refusals would
    explain all of them, and a rule that fires on a new wording would weigh little.
    """
    rows = [features(example.text) for example in replies]
    rows += [{f for f in row if f.startswith(RULE)} for row in rows]
    replies = [*replies, *replies]
    topics: defaultdict[str, set[str]] = defaultdict(set)
    for row, example in zip(rows, replies, strict=True):
        for feature in row:
            topics[feature].add(example.topic)
    names = sorted(f for f, words_topics in topics.items() if len(words_topics) >= TOPICS)
    place = {name: i for i, name in enumerate(names)}
    columns = [sorted(place[f] for f in row if f in place) for row in rows]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([c for row in columns for c in row], dtype=np.int64)
    x = csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(rows), len(names)))
    x_t = x.T.tocsr()
    y = np.array([1.0 if example.refusal else -1.0 for example in replies])

    def loss(parameters: Any) -> tuple[float, Any]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = y * (x @ weights + bias)
        pull = -y * np.exp(-np.logaddexp(0, margin))
        value = np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights
        return float(value), np.append(x_t @ pull + penalty * weights, pull.sum())

    def curve(parameters: Any, direction: Any) -> Any:
        margin = x @ parameters[:-1] + parameters[-1]
        spread = np.exp(-np.logaddexp(0, margin) - np.logaddexp(0, -margin))
        pull = spread * (x @ direction[:-1] + direction[-1])
        return np.append(x_t @ pull + penalty * direction[:-1], pull.sum())

    start = np.zeros(len(names) + 1)
    optimum = minimize(loss, start, jac=True, hessp=curve, method="Newton-CG", options={"xtol": 1e-4})
    weights = {name: float(w) for name, w in zip(names, optimum.x[:-1], strict=True) if w}
    return Detector(weights, float(optimum.x[-1]))


@functools.lru_cache(maxsize=1)
def detector() -> Detector:
    """The detector, fitted once per process."""
    return fit(examples())
