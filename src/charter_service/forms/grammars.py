"""The public entry of structured output: the form of a reply, compiled once, and the constraint of a sample.

    compiled = compile_form(Form("json_schema", schema=schema), tokenizer)
    engine.submit(prompt, Sampling(max_tokens=200), constraint=compiled.start(200))

Every reply under a form is, within its tokens, a text that a parser of that form reads. If that is impossible, the
request is refused before anything is sampled, with the numbers.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

from llguidance import LLMatcher, LLParserLimits, regex_to_lark

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter_service.forms.alphabet import Alphabet, alphabet_of, bytes_vocabulary
from charter_service.forms.constrained import MOST_BYTES, Document, Held, Triggered
from charter_service.forms.ending import Hints
from charter_service.forms.json_form import json_grammar, pattern_words
from charter_service.forms.schema import Judge, Schema, rebase
from charter_service.forms.shapes import shapes_of
from charter_service.forms.table_form import table_rules
from charter_service.forms.xml_form import xml_rules
from charter_service.forms.yaml_form import yaml_rules

Kind = Literal["json_schema", "json_object", "regex", "grammar", "xml", "yaml", "table", "code"]
Inner = Literal["json", "yaml", "xml"]
LARGEST = 2**18  # characters of a form's content
KEPT = 256  # compiled forms of a tokenizer that are kept
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{0,40}")
# free code, which never closes its own fence
_CODE = "start: LINE*\nLINE: /(`{0,2}[^`\\n\\x00-\\x08\\x0b-\\x1f\\x7f])*`{0,2}\\n/"


@dataclass(frozen=True, slots=True)
class Form:
    """The form that a reply must have.

    schema: of `json_schema`, `xml`, `yaml` and `table`, and of `code` that holds one of these. pattern: of `regex`, the
    whole text matches it. grammar: of `grammar`, in llguidance's dialect of Lark, with a rule `start`. root: the name
    of the outermost XML element. language: of the code fence; `inner` names its content if there is a schema.
    before, after: text that the reply begins and ends with.
    """

    kind: Kind
    schema: Schema | bool | None = None
    pattern: str = ""
    grammar: str = ""
    root: str = "document"
    language: str = ""
    inner: Inner | None = None
    before: str = ""
    after: str = ""

    def key(self) -> str:
        """The form's content as one text, with the order of a schema's properties."""
        content = [self.kind, self.schema, self.pattern, self.grammar, self.root, self.language, self.inner]
        try:
            return json.dumps([*content, self.before, self.after], ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise CharterError(f"the form's schema is not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a reply may call, and the schema of its input."""

    name: str
    schema: Schema


@dataclass(slots=True, eq=False)
class Compiled:
    """A form ready for use with one tokenizer; shared by threads. `least`: tokens of the shortest document found, its
    end token included."""

    form: Form
    least: int
    _alphabet: Alphabet
    _document: Document
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, max_tokens: int) -> None:
        """Raises CharterError with the numbers if no document of the form fits."""
        if max_tokens < self.least:
            raise CharterError(
                f"the shortest document of this form takes {self.least} tokens with its end token, "
                f"max_tokens is {max_tokens}; ask for more tokens or a smaller form"
            )

    def start(self, max_tokens: int) -> Callable[[], Constraint]:
        """Returns a maker of constraints that hold a sample to the form from its first token. Raises as `check`."""
        self.check(max_tokens)
        return lambda: Held(self._alphabet, self._copy())

    def start_after(self, marker: str, again: bool = False) -> Callable[[], Constraint]:
        """Returns a maker of constraints that leave the text free up to `marker` and then hold it to the form. With
        `again` the text is free once more after a document, up to the next marker. No document begins that would
        not fit."""
        if not marker:
            raise CharterError("a triggered form needs a marker, the text that it follows; got none")
        return lambda: Triggered(self._alphabet, self._copy(), marker.encode(), again)

    def _copy(self) -> Document:
        with self._lock:
            return self._document.copy()


_known: WeakKeyDictionary[Alphabet, OrderedDict[tuple[str, str], Compiled]] = WeakKeyDictionary()
_lock = threading.Lock()


def compile_form(form: Form, tokenizer: Any, ends: Collection[int] = (), whose: str = "") -> Compiled:
    """Compile a form for a tokenizer. Results are cached by content for each owner (`whose`): a shorter time would
    tell others that the form was used. `ends`: tokens that end a reply beside the tokenizer's own.

    Raises CharterError naming what is malformed or not supported, with the JSON pointer in schemas.
    """
    if (cached := known_form(form, tokenizer, ends, whose)) is not None:
        return cached
    alphabet = alphabet_of(tokenizer, ends)
    compiled = _compile(form, alphabet)
    with _lock:
        forms = _known[alphabet]
        forms[whose, form.key()] = compiled
        while len(forms) > KEPT:
            forms.popitem(last=False)
    return compiled


def known_form(form: Form, tokenizer: Any, ends: Collection[int] = (), whose: str = "") -> Compiled | None:
    """The form's earlier result for the same owner, if any. Raises CharterError if it is not JSON or too large."""
    if len(key := form.key()) > LARGEST:
        raise CharterError(
            f"the form has {len(key):,} characters, of which a schema, pattern or grammar may have {LARGEST:,}; "
            "simplify it"
        )
    with _lock:
        forms = _known.setdefault(alphabet_of(tokenizer, ends), OrderedDict())
        if (compiled := forms.get((whose, key))) is not None:
            forms.move_to_end((whose, key))
        return compiled


def tool_calls(tools: Sequence[Tool], before: str = "", after: str = "") -> Form:
    """The form of one call of one of some tools: {"name": ..., "arguments": {...}}, between two texts."""
    if not tools:
        raise CharterError("a call needs at least one tool")
    schemas = {f"tool_{i}": rebase(tool.schema, f"#/$defs/tool_{i}") for i, tool in enumerate(tools)}
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/tool_{i}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for i, tool in enumerate(tools)
    ]
    schema: Schema = {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "$defs": schemas}
    return Form("json_schema", schema=schema, before=before, after=after)


def _compile(form: Form, alphabet: Alphabet) -> Compiled:
    original, form = form, _unfence(form)
    body, judge, quoted = _body(form)
    grammar = {"grammars": [body]}
    if form.before or form.after:
        around = f"start: {json.dumps(form.before)} @body {json.dumps(form.after)}"
        grammar = {"grammars": [{"lark_grammar": around}, {**body, "name": "body"}]}
    text = json.dumps(grammar)
    failed, messages = LLMatcher.validate_grammar_with_warnings(text)
    if failed:
        raise CharterError(f"the {form.kind} form can't be compiled: {messages[0].strip()[:300]}")
    limits = LLParserLimits(verbose_errors=False)
    matcher = LLMatcher(alphabet.vocabulary, text, log_level=0, limits=limits)
    twin = LLMatcher(bytes_vocabulary(), text, log_level=0, limits=limits)
    for reader in (matcher, twin):
        if reader.is_error():
            raise CharterError(f"the {form.kind} form can't be compiled: {reader.get_error()[:300]}")
    after = form.after.encode()
    words = pattern_words(form.schema) if isinstance(form.schema, dict) else ()
    if form.kind == "table":  # a cell's text ends at its bar
        words = tuple([*word, *b" |"] for word in words)
    hints = Hints((after, b"\n" + after) if original.kind == "code" else (), words)
    accepts = _reply_judge(judge, form) if judge is not None else None
    document = Document(alphabet, matcher, twin, quoted, accepts, hints)
    if not document.begin(MOST_BYTES):
        raise CharterError(
            f"no document of this {form.kind} form was found: it allows none, or the search found none of up to "
            f"{MOST_BYTES} bytes; simplify the form"
        )
    return Compiled(original, len(document.plan) + 1, alphabet, document)


def _reply_judge(judge: Judge, form: Form) -> Callable[[bytes], bool]:
    """The judge of a whole reply: it reads the text between `before` and `after`."""
    start, stop = len(form.before.encode()), len(form.after.encode())

    def accepts(text: bytes) -> bool:
        return judge.accepts(text[start : len(text) - stop].decode(errors="replace"))

    return accepts


def _body(form: Form) -> tuple[Mapping[str, Any], Judge | None, bool]:
    """The grammar of the text between `before` and `after`, its judge, and whether it is JSON."""
    if form.kind == "json_object":
        return *json_grammar({"type": "object"}), True
    if form.kind == "json_schema":
        return *json_grammar(_schema(form)), True
    if form.kind == "regex":
        if not form.pattern:
            raise CharterError("a regex form needs a pattern")
        pattern = form.pattern.removeprefix("^")
        anchored = pattern.endswith("$") and not pattern.endswith("\\$")
        pattern = regex_to_lark(pattern[:-1] if anchored else pattern, use_ascii="d")
        return {"lark_grammar": f"start: /(?s:{pattern})/"}, None, False
    if form.kind == "grammar":
        if "start" not in form.grammar:
            raise CharterError("a grammar form needs a rule named start")
        return {"lark_grammar": form.grammar}, None, False
    if form.kind == "code":
        return {"lark_grammar": _CODE}, None, False
    shapes = shapes_of(form.schema, form.kind)
    if form.kind == "xml":
        return {"lark_grammar": xml_rules(shapes, form.root)}, None, False
    return {"lark_grammar": yaml_rules(shapes) if form.kind == "yaml" else table_rules(shapes)}, None, False


def _unfence(form: Form) -> Form:
    """A code fence as the form of its content, with the fence around it."""
    if form.kind != "code":
        return form
    before, after = form.before + _opening(form.language or form.inner or ""), "```" + form.after
    if form.inner is None:
        if form.schema is not None:
            raise CharterError("a code form with a schema needs inner, the content of the fence: json, yaml or xml")
        return replace(form, before=before, after=after)
    kind: Kind = "json_schema" if form.inner == "json" else form.inner
    return replace(form, kind=kind, before=before, after="\n" + after)


def _opening(language: str) -> str:
    """The first line of a code fence. Raises CharterError for a language that would not be one word."""
    if not _LANGUAGE.fullmatch(language):
        raise CharterError(f"the language of a code fence is one word such as python; got {language!r}")
    return f"```{language}\n"


def _schema(form: Form) -> Schema | bool:
    if form.schema is None:
        raise CharterError(f"a {form.kind} form needs a schema")
    return form.schema
