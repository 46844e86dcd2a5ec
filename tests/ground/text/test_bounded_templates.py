"""Chat templates are untrusted programs: they end soon, in bounded memory, and those in use still work."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.text import rendering
from charter.ground.text.rendering import render
from charter.ground.text.tokenizer import CHATML

MESSAGES = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "Hi"}]
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
X = "x" * 9000

DOUBLED = "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40

# what each does
HOSTILE = {
    "loop in loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loop over a long text": "{% for a in 'a' * 60000000 %}{% endfor %}",
    "macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "macro that calls itself": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "recursive loop": "{% for a in [[1]] recursive %}{{ loop([a, a]) }}{% endfor %}",
    "repeated text": "{{ 'a' * 10000000000 }}",
    "repeated list": "{{ [0] * 10000000000 }}",
    "doubled by ~": "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubled by +": "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "squares": "{% set n = namespace(k=9999) %}{% for i in range(40) %}{% set n.k = n.k * n.k %}{% endfor %}",
    "centred": "{{ 'a'.center(10000000000) }}{{ 'a' | center(10000000000) }}",
    "justified": "{{ 'a'.ljust(10000000000) }}",
    "filled": "{{ 'a'.zfill(10000000000) }}",
    "tabs": "{{ '\t'.expandtabs(10000000000) }}",
    "format by %": "{{ '%1000000000d' % 3 }}",
    "format by filter": "{{ '%1000000000d' | format(3) }}",
    "format": "{{ '{:1000000000}'.format(3) }}",
    "format in format": "{{ '{:{}}'.format(3, 1000000000) }}",
    "format_map": "{{ '{x:{y}}'.format_map({'x': 1, 'y': 99999999}) }}",
    "tojson": "{{ messages | tojson(indent=1000000000) }}",
    "lipsum": "{{ lipsum(n=10000000) }}",
    "indented": "{{ ('a\n' * 60000) | indent(9999) }}",
    "indented by text": "{{ ('a\n' * 60000) | indent('x' * 60000) }}",
    "replaced": "{{ ('a' * 9999).replace('a', 'b' * 9999).replace('b', 'c' * 9999) }}",
    "replaced by filter": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "joined": "{{ ('x' * 99999).join(range(99999) | map('string') | list) }}",
    "joined by filter": "{{ range(99999) | map('string') | list | join('x' * 99999) }}",
    "set block": f"{{% set b %}}{{% for i in range(90000) %}}{X}{{% endfor %}}{{% endset %}}",
    "output": f"{{% for i in range(90000) %}}{X}{{% endfor %}}",
    "output of a name": "{% set s = 'x' * 9999999 %}{% for i in range(90000) %}{{ s }}{% endfor %}",
    "output of a macro": f"{{% macro m() %}}{{% for i in range(90000) %}}{X}{{% endfor %}}{{% endmacro %}}{{{{ m() }}}}",
    "sliced": "{{ ('x' * 60000000) | upper | lower | upper | lower | upper | lower | upper | list | length }}",
    "sum of lists": "{{ ([[1]] * 500000) | sum(start=[]) | length }}",
    "lists in lists, compared": DOUBLED + "{{ a == b }}",
    "lists in lists, looked in": DOUBLED + "{{ a in [b] }}",
    "lists in lists, written": DOUBLED + "{{ a }}",
    "lists in lists, joined": DOUBLED + "{{ a ~ b }}",
    "lists in lists, as JSON": DOUBLED + "{{ a | tojson }}",
    "lists in lists, sorted": DOUBLED + "{{ [a, b] | sort }}",
    "lists in lists, as a text": DOUBLED + "{{ a | string }}",
    "slices": "{% set t = 'a' * 30000000 %}{% for i in range(99999) %}{% set u = t[1:] %}{% endfor %}",
    "comparisons": (
        "{% set t = 'a' * 30000000 %}{% set u = 'a' * 30000000 %}"
        "{% for i in range(99999) %}{% if t == u %}{% endif %}{% endfor %}"
    ),
    "tests": "{% set t = 'a' * 30000000 %}{% for i in range(99999) %}{% if t is lower %}{% endif %}{% endfor %}",
    "groups": "{{ ([{'a': 1}] * 30000000) | groupby('a') | list }}",
    "JSON that is deep in": "{{ ([1] * 1000000) | tojson(indent=10000) }}",
    "a text as a list": "{{ ('a' * 30000000) | list }}",
    "a text that is split": "{{ ('ab ' * 10000000).split() }}",
    "dates": "{{ strftime_now('%9999d' * 300000) }}",
    "joined by name": "{{ range(99999) | map('string') | list | join(d='x' * 99999) }}",
    "replaced by name": "{{ ('a' * 99999) | replace(old='a', new='b' * 99999) }}",
    "formatted by name": "{{ ('{x}' * 9999).format(x='b' * 99999) }}",
    "what no codec is": "{{ 'a'.encode('nope') }}",
    "a format without values": "{{ '{} {}'.format(1) }}",
    "loops within loops": "{% for a in [1] %}" * 25 + "{% endfor %}" * 25 + "{{ raise_exception('x') }}",
    "a long number": "{{ " + "9" * 5000 + " }}",
    "many brackets": "{{ " + "(" * 10000 + "1" + ")" * 10000 + " }}",
    "many words": "{{ " + "not " * 200000 + "1 }}",
    "batches": "{{ messages | batch(10000000000, 'x') | list }}",
}

# most of these are counted entry by entry, up to a bound; a lower bound shows the same
SLOWLY_COUNTED = {name for name in HOSTILE if name.startswith("lists in lists")} - {"lists in lists, compared"}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_for_ever_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    if name in SLOWLY_COUNTED:
        monkeypatch.setattr(rendering, "ENTRIES", 2**15)
    tracemalloc.start()
    try:
        with pytest.raises(CharterError, match="chat template"):
            render(HOSTILE[name], MESSAGES, NAMES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * 2**20


def test_the_clock_ends_what_the_count_lets_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "TURNS", 10**12)
    now = [0.0]

    def tick() -> float:
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(rendering, "time", SimpleNamespace(monotonic=tick))
    with pytest.raises(CharterError, match="10 seconds"):
        render("{% for a in range(99999) %}{{ a + 1 }}{% endfor %}", MESSAGES, NAMES)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index0 % 2 }}{{ loop.last }}{{ loop.length }},{% endfor %}", "0False2,1True2,"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content | trim | upper }}{% else %}-{% endfor %}", "HELLO THERE"),
        ("{% for m in messages[1:] %}{{ m['content'] }}{% endfor %}{{ messages[0].content[:5] }}", "Hihello"),
        ("{{ messages | map(attribute='content') | join(' | ') }}", "hello there | Hi"),
        ("{{ (messages | selectattr('role', 'equalto', 'user') | list | first).content }}", "hello there"),
        ("{{ bos_token ~ messages[0]['content'].split(' ')[-1].strip() + eos_token }}", "<s>there</s>"),
        ("{% set n = namespace(k=0) %}{% for m in messages %}{% set n.k = n.k + 1 %}{% endfor %}{{ n.k }}", "2"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "Hi"}]'),
        (["{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) }}", "(y) m2() %}{{ y }}{% endcall %}"][0], "[1]"),
        ("{{ '{} and {:>3}'.format('a', 'b') }}", "a and   b"),
        ("{{ 'ab' * 3 }}{{ [1, 2] + [3] }}{{ 7 // 2 }}{{ 2 * 3 - 1 }}", "ababab[1, 2, 3]35"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ 'x' if messages is defined and tools is none else 'y' }}{{ messages | length }}", "x2"),
        ("{% set s %}a{{ 1 }}{% endset %}{{ s }}{% filter upper %}b{% endfilter %}", "a1B"),
        ("{{ 'Tool: {}'.format('a') }} {{ '{0}-{1:>3}'.format('a', 'b') }} {{ '{:,}'.format(20000) }}", "Tool: a a-  b 20,000"),
        ("{{ '%s and %d' % ('x', 3) }} {{ '%s' | format('y') }} {{ x | default(32768) }}", "x and 3 y 32768"),
        ("{% set n = namespace(x=100000) %}{{ n.x + 1 }} {{ 70000 | string }} {{ [3, 1, 2] | sort }}", "100001 70000 [1, 2, 3]"),
        ("{{ [1, 2, 3] | sum }} {{ 'abc'[::-1] }} {{ 'a,b'.split(',')[-1] }} {{ {'a': [1]} | tojson(indent=2) | length }}", "6 cba b 22"),
        ("{% if 'a' in ['a'] and 'b' not in 'abc' %}x{% endif %}{{ 1 < 2 < 3 }}{{ none is none }}{{ 3 is odd }}", "TrueTrueTrue"),
        ("{% set j = joiner(', ') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}", "user, assistant"),
        ("{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
    ],
)  # fmt: skip
def test_what_templates_in_use_do_gives_what_jinja_gives(source: str, text: str) -> None:
    assert render(source, MESSAGES, NAMES) == text


def test_a_conversation_of_the_most_messages_is_rendered() -> None:
    many = MESSAGES * 50_000
    assert len(render(CHATML, many, NAMES)) > 100_000 * 20
