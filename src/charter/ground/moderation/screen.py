"""The screen: compares classifiers' scores with thresholds and turns them into one verdict by the policy.

Each classifier's violation score is compared with its own threshold of the sensitivity level. The text is a violation
if any score reaches its threshold. The verdict shows the score that is furthest above (or least below) its threshold,
on a scale with 0 at the threshold and 1 at the highest score. The category is the one with the largest share among
classifiers that give categories; a category that the policy doesn't have is permitted. A prompt is also compared with
the high-risk rules, and the stricter action wins. Empty texts are allowed unread.

An operator's own system text can be trusted. It counts for severe categories, and where its score is at least halfway
between the standard threshold and 1. Unless it alone reaches a threshold, it is also read before the user's turns, and
then counts as the user's: a request may begin in the one and end in the other.

The classifiers know English: at the enhanced level a prompt with another language is judged as at the standard one, and
the English lines of it as enhanced. Its language is told roughly, by its script or its commonest words, for this and
for a note to people; nothing is stopped by it. A part in another language counts from PART letters, so that a name or a
quoted word doesn't make a text foreign.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import Steps
from charter.ground.moderation.actions import Level, Side, Verdict
from charter.ground.moderation.classifiers.classifier import Classifier, Conversation, Scores, follow, read_prompt
from charter.ground.moderation.places import with_system
from charter.ground.moderation.policy import ORDER, Category, Policy, by_level
from charter.ground.moderation.thresholds import Levels, Thresholds
from charter.ground.text.dialogue import Message, system, user

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
STANDARD: Level = "standard"
TRUST = 0.5  # least margin at which trusted text counts: 0 at the threshold, 1 at a score of 1


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
    english = [
        text if len(text) > MOST else "\n".join(line for line in text.splitlines() if not _language_of(line))
        for text in (m["content"] for m in messages)
    ]
    return [{**m, "content": text} for m, text in zip(messages, english, strict=True) if text.strip()]


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
    code, code_words = max(lacking.items(), key=lambda item: len(item[1]))
    mixed = len(code_words) >= MIXED * len(words) and 2 * len(code_words) >= counts["en"]
    return code if mixed and len({*code_words}) >= LEAST else ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One classifier's scores of a text."""

    classifier: str
    scores: Scores
    thresholds: Thresholds

    def margin(self, side: Side, level: Level) -> float:
        """How far the violation score is above its threshold: 0 at the threshold, 1 at a score of 1, -1 at 0."""
        levels = self.thresholds.of(side)
        assert levels is not None
        score, at = self.scores.violation, levels.at(level)
        if score >= at:
            return (score - at) / (1 - at) if at < 1 else 1.0
        return score / at - 1


class Screen:
    """A policy with its classifiers. It keeps no state between calls and is safe to call from several threads."""

    def __init__(
        self, policy: Policy, classifiers: Sequence[Classifier], thresholds: Mapping[str, Thresholds] | None = None
    ) -> None:
        """thresholds: by version of the classifier; else the classifier's own. Raises CharterError if one has none."""
        self.policy, self.classifiers = policy, tuple(classifiers)
        if not self.classifiers:
            raise CharterError("a screen needs at least one classifier, such as probe")
        self.thresholds = {c.version: _thresholds(c, thresholds or {}) for c in self.classifiers}
        self.versions = {c.name: c.version for c in self.classifiers}

    def prompt(self, messages: Conversation, sensitivity: Level = "standard") -> Verdict:
        """The verdict on the last request of a conversation."""
        return self.prompts([messages], sensitivity)[0]

    def reply(self, messages: Conversation, reply_so_far: str, sensitivity: Level = "standard") -> Verdict:
        """The verdict on a reply, complete or not."""
        return self.replies([(messages, reply_so_far)], sensitivity)[0]

    def prompts(self, conversations: Sequence[Conversation], sensitivity: Level = "standard") -> list[Verdict]:
        """Verdicts on many prompts at once; `milliseconds` is each one's share of the time."""
        start = time.perf_counter()
        parts = [by_language(messages, sensitivity) for messages in conversations]
        readings = iter(self.read_prompts([part for prompt_parts in parts for part, _ in prompt_parts]))
        verdicts = [self.judge_parts([(next(readings), level) for _, level in prompt_parts]) for prompt_parts in parts]
        return _note_languages(self._set_time(verdicts, start), conversations)

    def replies(self, items: Sequence[tuple[Conversation, str]], sensitivity: Level = "standard") -> list[Verdict]:
        """Verdicts on many replies at once."""
        start = time.perf_counter()
        verdicts = [self.judge(r, "reply", sensitivity) for r in self.read_replies(items)]
        return self._set_time(verdicts, start)

    def steps(
        self, messages: Conversation, sensitivity: Level = "standard", whose: str = "", trusted: str = ""
    ) -> Steps[Verdict]:
        """The verdict of `prompt`, in steps; other work may run between steps, and `milliseconds` includes it. Only the
        owner `whose` can notice by the time that a prompt was read before. `trusted`: the operator's system text, which
        is not among the messages."""
        start = time.perf_counter()
        verdicts, parts = list[Verdict](), by_language(messages, sensitivity)
        for part, level in parts:
            readings = yield from self._steps(part, whose)
            verdicts += self._verdicts(readings, "prompt", level)
        if trusted.strip():
            readings = yield from self._steps([system(trusted)], whose)
            verdicts += filter(self._weighs, self._verdicts(readings, "prompt", "standard"))
            # what the system text says alone is trusted, also in front of a question
            suspect = any(map(_acts, self._verdicts(readings, "prompt", sensitivity)))
            counts, parts = (self._weighs, [(messages, STANDARD)]) if suspect else (_acts, parts)
            for part, level in parts:
                questions = [m["content"] for m in part if m["role"] == "user" and m["content"].strip()]
                for text in with_system(trusted, questions):
                    readings = yield from self._steps([user(text)], whose)
                    verdicts += filter(counts, self._verdicts(readings, "prompt", level))
        verdict = self._set_time([_strictest(verdicts)], start)
        return _note_languages(verdict, [messages])[0]

    def _steps(self, messages: Conversation, whose: str) -> Steps[list[Reading]]:
        readings = list[Reading]()
        classifiers = [c for c in self.classifiers if "prompt" in c.sides] if _says(messages) else []
        for classifier in classifiers:
            scores = yield from read_prompt(classifier, messages, whose)
            readings.append(Reading(classifier.name, scores, self.thresholds[classifier.version]))
        return readings

    def _weighs(self, verdict: Verdict) -> bool:
        """Whether a verdict counts against a trusted text."""
        severities = {category.id: category.severity for category in self.policy.categories}
        if severities.get(verdict.category) == "severe":
            return True
        margin = (verdict.score - verdict.threshold) / max(1 - verdict.threshold, 1e-9)
        return verdict.action == "block" and margin >= TRUST

    def follow(self, messages: Conversation, sensitivity: Level = "standard") -> Callable[[str], Steps[Verdict]]:
        """Verdicts on one reply as it grows, equal to those of `reply`, in steps; classifiers may keep what they have
        read. Their memory is freed with the function, which is for one thread at a time."""
        readers = [(c, follow(c, messages)) for c in self.classifiers if "reply" in c.sides]
        opened = _opens(messages)

        def verdict(reply_so_far: str) -> Steps[Verdict]:
            start, readings = time.perf_counter(), list[Reading]()
            for classifier, reader in readers if opened or reply_so_far.strip() else ():
                scores = yield from reader(reply_so_far)
                readings.append(Reading(classifier.name, scores, self.thresholds[classifier.version]))
            return self._set_time([self.judge(readings, "reply", sensitivity)], start)[0]

        return verdict

    def read_prompts(self, conversations: Sequence[Conversation]) -> list[list[Reading]]:
        """Every classifier's scores of each prompt, which can be judged at any level."""
        nonempty = [n for n, messages in enumerate(conversations) if _says(messages)]
        prompts = [conversations[n] for n in nonempty]
        classifiers = [c for c in self.classifiers if "prompt" in c.sides and prompts]
        return self._by_item([(c, c.prompts(prompts)) for c in classifiers], nonempty, len(conversations))

    def read_replies(self, items: Sequence[tuple[Conversation, str]]) -> list[list[Reading]]:
        """Every classifier's scores of each reply."""
        nonempty = [n for n, (messages, reply) in enumerate(items) if reply.strip() or _opens(messages)]
        replies = [items[n] for n in nonempty]
        classifiers = [c for c in self.classifiers if "reply" in c.sides and replies]
        return self._by_item([(c, c.replies(replies)) for c in classifiers], nonempty, len(items))

    def judge(self, readings: Sequence[Reading], side: Side, level: Level) -> Verdict:
        """The verdict of readings at a sensitivity level: the strictest action for any place of a text, and of equal
        ones the highest score. A milder category must not hide a stricter one in another place. Turns that each stay
        below the threshold are also judged together (`Levels.running_score`)."""
        return _strictest(self._verdicts(readings, side, level))

    def judge_parts(self, parts: Sequence[tuple[Sequence[Reading], Level]]) -> Verdict:
        """The strictest verdict on the parts of a prompt, each at its level; see `by_language`."""
        return _strictest([self.judge(readings, "prompt", level) for readings, level in parts])

    def _verdicts(self, readings: Sequence[Reading], side: Side, level: Level) -> list[Verdict]:
        """The verdicts on all places that reach a threshold, and on the worst one anyway."""
        verdicts = [self._judge(readings, side, level)]
        for n, reading in enumerate(readings):
            levels = reading.thresholds.of(side)
            for scores in _other_scores(reading.scores, levels) if levels is not None else ():
                if levels is not None and scores.violation >= levels.at(level):
                    alone = [*readings[:n], replace(reading, scores=scores), *readings[n + 1 :]]
                    verdicts.append(self._judge(alone, side, level))
        return verdicts

    def _judge(self, readings: Sequence[Reading], side: Side, level: Level) -> Verdict:
        readings = [r for r in readings if r.thresholds.of(side) is not None]
        if not readings:
            return Verdict(side)
        chief = max(readings, key=lambda r: r.margin(side, level))
        levels = chief.thresholds.of(side)
        assert levels is not None
        verdict = Verdict(side, "", chief.scores.violation, levels.at(level), "allow", classifiers=self.versions)
        violation = self._violation(verdict, readings, level) if verdict.score >= verdict.threshold else None
        rule = self._high_risk(verdict, readings, level) if side == "prompt" else None
        verdicts = [v for v in (violation, rule) if v is not None]
        return max(verdicts, key=lambda v: ORDER[v.action]) if verdicts else verdict

    def _violation(self, verdict: Verdict, readings: Sequence[Reading], level: Level) -> Verdict | None:
        """The verdict on a text that violates a category of this policy, None if it violates only another's."""
        category = self._category(verdict.side, readings, level)
        if category is None:
            return None
        action = category.action(verdict.side, level)
        return replace(
            verdict,
            category=category.id,
            action=action,
            safety_prompt=(category.safety_prompt or "") if action == "safety_prompt" else "",
            reason="" if action == "allow" else self.policy.reason(category, action, verdict.side),
        )

    def _category(self, side: Side, readings: Sequence[Reading], level: Level) -> Category | None:
        """The category with the largest shares, None if this policy doesn't have it and so permits it. If no classifier
        gives categories, the one with the strictest action."""
        shares: dict[str, float] = {}
        for reading in readings:
            for id, share in reading.scores.categories.items():
                shares[id] = shares.get(id, 0.0) + share
        if not shares:
            return max(self.policy.categories, key=lambda c: ORDER[c.action(side, level)])
        chief = max(shares, key=lambda id: shares[id])
        return next((c for c in self.policy.categories if c.id == chief), None)

    def _high_risk(self, verdict: Verdict, readings: Sequence[Reading], level: Level) -> Verdict | None:
        """The verdict of the high-risk rule furthest above its threshold, None if no rule applies."""
        candidates = [
            (r.scores.high_risk.get(rule.id, 0.0), r.thresholds.high_risk.at(level), rule)
            for r in readings
            if r.thresholds.high_risk is not None
            for rule in self.policy.high_risk
        ]
        if not candidates:
            return None
        score, at, rule = max(candidates, key=lambda entry: entry[0] - entry[1])
        action = by_level(rule.action, level)
        if score < at or action == "allow":
            return None
        return replace(
            verdict,
            category=rule.id,
            score=score,
            threshold=at,
            action=action,
            safety_prompt=rule.disclosure if action == "safety_prompt" else "",
            reason=self.policy.reason(rule, action, verdict.side),
        )

    def _by_item(
        self, answers: Sequence[tuple[Classifier, list[Scores]]], nonempty: Sequence[int], count: int
    ) -> list[list[Reading]]:
        """Readings of `count` items; empty items have none. `nonempty`: the numbers of the others."""
        by_item: list[list[Reading]] = [[] for _ in range(count)]
        for classifier, scores in answers:
            for place, score in zip(nonempty, scores, strict=True):
                by_item[place].append(Reading(classifier.name, score, self.thresholds[classifier.version]))
        return by_item

    def _set_time(self, verdicts: Sequence[Verdict], start: float) -> list[Verdict]:
        share = 1000 * (time.perf_counter() - start) / max(1, len(verdicts))
        return [replace(v, milliseconds=share) for v in verdicts]


def _acts(verdict: Verdict) -> bool:
    return verdict.action in ("flag", "block")


def _strictest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict with the strictest action, of equal ones that with the highest score."""
    return max(verdicts, key=lambda verdict: (ORDER[verdict.action], verdict.score))


def _note_languages(verdicts: Sequence[Verdict], conversations: Sequence[Conversation]) -> list[Verdict]:
    """Verdicts on prompts with the language that isn't screened, if there is one."""
    languages = map(unscreened, conversations)
    return [replace(v, unscreened=code) for v, code in zip(verdicts, languages, strict=True)]


def by_language(messages: Conversation, level: Level) -> list[tuple[Conversation, Level]]:
    """What of a prompt is judged at which level: all of it, and at the enhanced level the English lines of one with
    another language, if there are any, apart."""
    if level == STANDARD or not unscreened(messages):
        return [(messages, level)]
    english = english_lines(messages)
    return [(messages, STANDARD), *([(english, level)] if english else [])]


def _other_scores(scores: Scores, levels: Levels) -> list[Scores]:
    """Scores to judge beside the worst place: the other places, and all turns of a conversation together."""
    if len(scores.turns) < 2:
        return list(scores.places)
    return [*scores.places, replace(scores, violation=levels.running_score(scores.turns), places=(), turns=())]


def _says(messages: Conversation) -> bool:
    """Whether a conversation has any text."""
    return any(m["content"].strip() for m in messages)


def _opens(messages: Conversation) -> bool:
    """Whether messages end in an opened assistant's turn, which a reply continues."""
    return bool(messages) and messages[-1]["role"] == "assistant" and bool(messages[-1]["content"].strip())


def _thresholds(classifier: Classifier, by_classifier: Mapping[str, Thresholds]) -> Thresholds:
    thresholds = by_classifier.get(classifier.version)
    if thresholds is None:  # choosing a classifier's own may take a while
        thresholds = getattr(classifier, "thresholds", None)
    if thresholds is None:
        raise CharterError(
            f"the classifier {classifier.name} has no thresholds; measure it with the acceptable_use evaluation and "
            "pass the file of thresholds that it writes"
        )
    missing = [side for side in sorted(classifier.sides) if thresholds.of(side) is None]
    if missing:
        raise CharterError(f"the thresholds of {classifier.name} lack {missing[0]}; measure it on that side")
    return thresholds
