"""Programs and their tests: each verdict, none of which the program can choose, and values that arrive as they are."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from forgeries import DROPPED, FORGERIES, LATE
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.sandbox.exam import decode, encode
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Sandbox
from charter.ground.sandbox.program import Outcome, Program, Verdict, check_all, check_program
from charter.ground.settings.places import data_folder

LIMITS = Limits(seconds=20, cpu_seconds=1, memory_mb=128)
TESTS = "# TO BE KEPT FROM THE SOLUTION\nassert double(21) == 42\nassert double('ab') == 'abab'\n"


def check(box: Sandbox, solution: str, tests: str = TESTS, prelude: str = "") -> Outcome:
    return check_program(box, Program(solution, tests, ("double",), prelude), LIMITS)


def test_a_right_program_passes(box: Sandbox) -> None:
    outcome = check(box, "def double(n):\n    return n + n\n")
    assert (outcome.verdict, outcome.error) == (Verdict.PASSED, "")


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_forgery_passes(forgery: str, any_box: Sandbox) -> None:
    outcome = check(any_box, FORGERIES[forgery])
    assert outcome.verdict is Verdict.FAILED, outcome


@pytest.mark.parametrize("forgery", DROPPED | LATE)
def test_nothing_that_the_tests_drop_passes(forgery: str, any_box: Sandbox) -> None:
    solution, tests = (DROPPED | LATE)[forgery]
    outcome = check(any_box, solution, tests)
    assert outcome.verdict is Verdict.FAILED, outcome


@pytest.mark.parametrize("forgery", DROPPED)
def test_a_right_program_passes_the_tests_that_drop_errors(forgery: str, any_box: Sandbox) -> None:
    outcome = check(any_box, "def double(n):\n    return n + n\n", DROPPED[forgery][1])
    assert (outcome.verdict, outcome.error) == (Verdict.PASSED, "")


@pytest.mark.parametrize(
    "tests",
    [
        "try:\n    double(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False\n",
        "import contextlib\nwith contextlib.suppress(ValueError):\n    double(-1)\n    assert False\n",
        "import threading\nfound = []\ndef test():\n    try:\n        double(-1)\n    except ValueError as error:\n"
        "        found.append(error)\nthread = threading.Thread(target=test)\nthread.start()\nthread.join()\n"
        "assert found\n",
        "import asyncio\nasync def one():\n    double(-1)\nasync def test():\n"
        "    found, = await asyncio.gather(one(), return_exceptions=True)\n    assert type(found) is ValueError\n"
        "asyncio.run(test())\n",
        "import sys, threading\nthread = threading.Thread(target=sys.exit)\nthread.start()\nthread.join()\n",
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(8)\n"
        "assert list(pool.map(double, range(99))) == list(range(0, 198, 2))\n",
    ],
)
def test_errors_that_tests_expect_pass(tests: str, any_box: Sandbox) -> None:
    solution = "def double(n):\n    if n < 0:\n        raise ValueError(n)\n    return n + n\n"
    outcome = check(any_box, solution, tests)
    assert (outcome.verdict, outcome.error) == (Verdict.PASSED, "")


# `kind` is the built-in error that a test names; each solution makes it come to the test in its own way
RAISING = {
    "raised": "raise kind",
    "raised with a cause": "raise kind from ValueError('cause')",
    "raised as a subclass": "raise type('Sub', (kind,), {})",
    "raised as another class of that name": "raise type(n, (Exception,), {})",
    "raised with text that fails": "raise type(n, (Exception,), {'__str__': failing})",
    "from a generator": "return list(generator())",
    "from __eq__": "return type('T', (), {'__eq__': failing})() == 1",
    "from __iter__": "return list(type('T', (), {'__iter__': failing})())",
    "from __next__": "return next(type('T', (), {'__next__': failing})())",
    "from __bool__": "return 1 if type('T', (), {'__bool__': failing})() else 2",
    "from __hash__": "return {type('T', (), {'__hash__': failing})()}",
    "from __exit__": "with type('T', (), {'__enter__': id, '__exit__': failing})(): pass",
    "from a coroutine": "return asyncio.run(coroutine())",
    "from a thread": "return ThreadPoolExecutor(1).submit(failing).result()",
    "while its value is passed on": "return type('T', (list,), {'__iter__': failing})([1])",
    "while an item is passed on": "return type('T', (list,), {'__iter__': lambda self: self, '__next__': failing})([1])",
}
RAISES = """
import asyncio, builtins
from concurrent.futures import ThreadPoolExecutor
def double(n):
    kind = getattr(builtins, n)
    def failing(*_):
        raise kind
    def generator():
        yield 1
        raise kind
    async def coroutine():
        raise kind
    HERE
"""
# ways of writing a test; an error that ends a loop, or that Python takes for one, would let most of them pass
WAYS = """
import asyncio, builtins, contextlib, functools, operator, unittest
names = [n for n, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)]
ways = {}

def way(test):
    ways[test.__name__] = test

def check(right):
    assert right

for name, test in {
    "all": lambda n: check(all(x == 42 for x in map(double, [n]))),
    "any": lambda n: check(not any(map(double, [n]))),
    "zip": lambda n: check(all(a == b for a, b in zip(map(double, [n]), [42]))),
    "list": lambda n: check(list(map(double, [n])) == []),
    "filter": lambda n: check(list(filter(double, [n])) == []),
    "iter": lambda n: check(next(iter(lambda: double(n), 42), 42) == 42),
    "sum": lambda n: check(sum(map(double, [n])) == 0),
    "set": lambda n: check({*map(double, [n])} <= {42}),
    "next": lambda n: check(next(map(double, [n]), 42) == 42),
    "max": lambda n: check(max(map(double, [n]), default=42) == 42),
    "reduce": lambda n: check(functools.reduce(operator.add, map(double, [n]), 42) == 42),
    "call": lambda n: check((lambda *found: set(found) <= {42})(*map(double, [n]))),
    "in": lambda n: check([1] not in map(double, [n])),
}.items():
    ways[name] = test

@way
def plain(n):
    assert double(n) == 42

@way
def loop(n):
    for found in map(double, [n]):
        assert found == 42

@way
def comprehension(n):
    assert [x for x in map(double, [n]) if x != 42] == []

@way
def generator(n):
    def found():
        yield double(n)
    for one in found():
        assert one == 42

@way
def delegated(n):
    def found():
        yield from map(double, [n])
    assert set(found()) <= {42}

@way
def unpacked(n):
    first, *rest = 42, *map(double, [n])
    assert set(rest) <= {42}

@way
def caught(n):
    try:
        found = double(n)
    except AssertionError:
        raise
    else:
        assert found == 42

@way
def finally_checked(n):
    try:
        found = double(n)
    finally:
        pass
    assert found == 42

@way
def in_a_context(n):
    @contextlib.contextmanager
    def around():
        yield double(n)
    with around() as found:
        assert found == 42

@way
def within_a_context(n):
    @contextlib.contextmanager
    def around():
        yield
    with around():
        assert double(n) == 42

@way
def on_leaving_a_context(n):
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: check(double(n) == 42))

@way
def awaited(n):
    async def test():
        assert double(n) == 42
    asyncio.run(test())

@way
def looped_over_without_waiting(n):
    class Found:
        def __aiter__(self):
            return self
        async def __anext__(self):
            return double(n)
    async def test():
        async for found in Found():
            assert found == 42
            break
    asyncio.run(test())

@way
def generated_without_waiting(n):
    async def found():
        yield double(n)
    async def test():
        async for one in found():
            assert one == 42
    asyncio.run(test())

@way
def iterated(n):
    class Found:
        def __iter__(self):
            return self
        def __next__(self):
            return double(n)
    for found in Found():
        assert found == 42
        break

@way
def by_place(n):
    class Found:
        def __getitem__(self, place):
            return double(n)
    for found in Found():
        assert found == 42
        break

@way
def by_attribute(n):
    class Found:
        def __getattr__(self, name):
            return double(n)
    assert getattr(Found(), "value", 42) == 42

@way
def by_hint_of_length(n):
    class Found(list):
        def __length_hint__(self):
            return 0 if double(n) == 42 else -1
        __len__ = None
    assert operator.length_hint(Found(), 0) == 0

@way
def as_a_unit(n):
    class Test(unittest.TestCase):
        def test(self):
            self.assertEqual(double(n), 42)
    result = unittest.TestResult()
    Test("test").run(result)
    assert result.wasSuccessful() and not result.skipped

forged = []
for name in names:
    for title, test in ways.items():
        try:
            test(name)
        except Exception:
            continue
        forged.append((name, title))
assert len(names) > 60 and len(ways) > 30 and forged == [], forged
"""


@pytest.mark.parametrize("how", RAISING)
def test_no_error_that_a_program_raises_lets_a_test_pass(how: str, any_box: Sandbox) -> None:
    """Every built-in error, raised in one way, met by every way of writing a test."""
    program = Program(RAISES.replace("HERE", RAISING[how]), WAYS, ("double",))
    outcome = check_program(any_box, program, Limits(seconds=60, cpu_seconds=30))
    assert outcome.verdict is Verdict.PASSED, outcome.error


@pytest.mark.parametrize(
    ("solution", "verdict", "error"),
    [
        ("def double(n):\n    return n\n", Verdict.FAILED, "AssertionError"),
        ("def double(n):\n    return n / 0\n", Verdict.FAILED, "ZeroDivisionError: division by zero"),
        ("def double(n):\n", Verdict.FAILED, "IndentationError: "),
        (
            "def other(n):\n    return n\n",
            Verdict.FAILED,
            "AttributeError: module 'solution' has no attribute 'double'",
        ),
        ("class E(Exception):\n    pass\ndef double(n):\n    raise E('why')\n", Verdict.FAILED, "E: why"),
        ("def double(n):\n    b'\\xff'.decode()\n", Verdict.FAILED, "UnicodeDecodeError: 'utf-8' codec"),
        ("def double(n):\n    return double\n", Verdict.FAILED, "TypeError: a value of type function"),
        ("def double(n):\n    return double(n)\n", Verdict.FAILED, "RecursionError: "),
        ("def double(n):\n    n = []\n    n.append(n)\n    return n\n", Verdict.FAILED, "RecursionError: "),
        ("import ctypes\nctypes.string_at(0)\n", Verdict.FAILED, "the program was killed by SIGSEGV"),
        ("import os\nos._exit(0)\n", Verdict.FAILED, "the program ended before it answered"),
        ("while True:\n    pass\n", Verdict.TIMED_OUT, "timed out"),
        ("def double(n):\n    while True:\n        pass\n", Verdict.TIMED_OUT, "timed out"),
        ("held = 'x' * (1 << 40)\n", Verdict.OUT_OF_MEMORY, "MemoryError"),
        ("def double(n):\n    return 'x' * (1 << 40)\n", Verdict.OUT_OF_MEMORY, "MemoryError"),
        ("while True:\n    print('x' * 999)\n", Verdict.TOO_MUCH_OUTPUT, "output over the limit"),
        ("def double(n):\n    return 'x' * (1 << 21)\n", Verdict.TOO_MUCH_OUTPUT, "an answer is longer than"),
        ("def double(n):\n    return '\ud800'\n", Verdict.FAILED, "SyntaxError: "),
    ],
)
def test_each_verdict_has_its_error(solution: str, verdict: Verdict, error: str, any_box: Sandbox) -> None:
    outcome = check(any_box, solution)
    assert outcome.verdict is verdict, outcome
    assert outcome.error.startswith(error)
    assert "\n" not in outcome.error


def test_memory_of_children_counts(any_box: Sandbox) -> None:
    code = "import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        break\n"
    outcome = check(any_box, code + "held = bytearray(os.urandom(1 << 20)) * 50\ntime.sleep(99)\n")
    assert outcome.verdict is Verdict.OUT_OF_MEMORY


def test_threads_that_live_at_once_cost_no_memory_that_they_do_not_use(any_box: Sandbox) -> None:
    tests = (
        "import threading\nmeeting, found = threading.Barrier(9), []\ndef one():\n    found.append(double(2))\n"
        "    meeting.wait()\nthreads = [threading.Thread(target=one) for _ in range(8)]\n"
        "for thread in threads:\n    thread.start()\nmeeting.wait()\nassert found == [4] * 8\n"
    )
    program = Program("def double(n):\n    return n + n\n", tests, ("double",), "")
    outcome = check_program(any_box, program, LIMITS.model_copy(update={"memory_mb": 256}))
    assert (outcome.verdict, outcome.error) == (Verdict.PASSED, "")


def test_a_sandbox_that_does_not_start_says_nothing_about_the_program(any_box: Sandbox) -> None:
    gone = replace(any_box, view=replace(any_box.view, shown=("/no/such/folder",)))
    outcome = check(gone, "def double(n):\n    return n + n\n")
    assert outcome.verdict is Verdict.ENVIRONMENT_FAILED
    assert "/no/such/folder" in outcome.error or "No such file" in outcome.error


def test_a_program_cannot_claim_a_failed_environment(any_box: Sandbox) -> None:
    code = "import os\nfor n in range(1, 65):\n    os.kill(1, n) if n not in (9, 19) else None\n" + "os.kill(0, 9)\n"
    assert check(any_box, code).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("tests", "error"),
    [
        ("import os\nos._exit(0)\n", "the tests ended without a verdict"),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
        ("print('{\"passed\": true}')\nassert False, 'really'\n", "AssertionError: really"),
        ("try:\n    double(1)\nexcept Exception:\n    pass\n", ""),
        ("double(object())\n", "TypeError: a value of type object can't be passed on"),
    ],
)
def test_tests_that_go_wrong_do_not_pass_a_program(tests: str, error: str, any_box: Sandbox) -> None:
    outcome = check(any_box, "def double(n):\n    raise ValueError\n", tests)
    assert outcome.verdict is (Verdict.FAILED if error else Verdict.PASSED)
    assert outcome.error.startswith(error)


def test_tests_that_catch_errors_do_not_catch_a_program_that_is_gone(any_box: Sandbox) -> None:
    tests = "try:\n    double(1)\nexcept Exception:\n    pass\n"
    assert check(any_box, "import os\ndef double(n):\n    os._exit(0)\n", tests).verdict is Verdict.FAILED


def test_tests_see_the_prelude_and_the_solution_does_not(any_box: Sandbox) -> None:
    prelude = "import math\ndef half(n):\n    return n // 2\ndef double(n):\n    'to be written'\n"
    tests = "assert half(double(5)) == 5 and math.pi > 3\n"
    assert check(any_box, "def double(n):\n    return n * 2\n", tests, prelude).verdict is Verdict.PASSED
    outcome = check(any_box, "def double(n):\n    return half(n) * 4\n", tests, prelude)
    assert outcome.error == "NameError: name 'half' is not defined"


def test_a_solution_keeps_its_state_and_an_argument_is_a_copy(any_box: Sandbox) -> None:
    solution = "seen = []\ndef double(n, *, by=2):\n    seen.append(n.pop())\n    return seen * by\n"
    tests = "given = [1]\nassert double(given) == [1, 1]\nassert given == [1]\nassert double([2], by=1) == [1, 2]\n"
    outcome = check(any_box, solution, tests)
    assert outcome.verdict is Verdict.PASSED, outcome


def test_dataclasses_and_annotations_work(any_box: Sandbox) -> None:
    solution = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Pair:\n    a: int\n    b: int = 2\n"
        "def double(n):\n    return n * Pair(1).b\n"
        "if __name__ == '__main__':\n    raise SystemExit\n"
    )
    assert check(any_box, solution).verdict is Verdict.PASSED


def test_many_programs_come_back_in_order(any_box: Sandbox) -> None:
    programs = [Program(f"def f():\n    return {n}\n", "assert f() % 2 == 0, f()\n", ("f",)) for n in range(8)]
    outcomes = list(check_all(any_box, programs, LIMITS, 3))
    assert [o.verdict for o in outcomes] == [Verdict.PASSED, Verdict.FAILED] * 4
    assert [o.error for o in outcomes[1::2]] == [f"AssertionError: {n}" for n in (1, 3, 5, 7)]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(codec=None))
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.integers() | st.text())
    ),
)


def same(a: Any, b: Any) -> bool:
    """Equal in value and in the type of every part; not a number equals itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_values_arrive_as_they_were(value: Any) -> None:
    assert same(decode(json.loads(json.dumps(encode(value)))), value)


def test_numbers_of_any_length_arrive() -> None:
    assert decode(json.loads(json.dumps(encode(-(1 << 40_000))))) == -(1 << 40_000)


@pytest.mark.parametrize("data", [["eval", "1"], [], None, "text", ["int"], ["dict", 1], ["set", ["list"]], 3])
def test_what_is_no_value_is_refused(data: Any) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        decode(data)


@pytest.mark.slow
def test_all_of_humaneval_s_own_solutions_pass_and_broken_ones_do_not(any_box: Sandbox) -> None:
    path = data_folder() / "humaneval" / "HumanEval.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]

    def programs(bodies: list[str]) -> list[Program]:
        return [
            Program(
                row["prompt"] + body,
                f"{row['test']}\ncheck({row['entry_point']})\n",
                (row["entry_point"],),
                row["prompt"],
            )
            for row, body in zip(rows, bodies, strict=False)
        ]

    right = check_all(any_box, programs([row["canonical_solution"] for row in rows]), LIMITS, 2)
    assert [o.verdict for o in right] == [Verdict.PASSED] * len(rows)
    wrong = check_all(any_box, programs(["    return None\n"] * 20), LIMITS, 2)
    assert [o.verdict for o in wrong] == [Verdict.FAILED] * 20
