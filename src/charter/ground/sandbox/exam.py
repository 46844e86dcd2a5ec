"""Both sides of an examination: a candidate runs a solution, an examiner runs its tests; only values pass between.

Each side runs this file in its own sandbox, with nothing but the standard library. The
candidate's functions appear in the tests as functions that ask the other side, one JSON line a call and one a
reply. So the judging side (the tests, `assert`, `==`, the verdict) never shares a process with the solution: a
solution can exit, print, patch and kill whatever it finds, and an object that equals everything arrives as the
plain value that it carries.

The tests can't save a solution by catching errors either: if the candidate is gone or sends a malformed answer, the
examiner ends at once; so it does on an error that Python itself would drop, in a thread or in `__del__`.
"""

import atexit
import builtins
import gc
import importlib.util
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import IO, Any, NoReturn

LONGEST_ANSWER = 1 << 20  # bytes of one line
ENDED = "the program ended before it answered"
TOO_LONG = f"an answer is longer than {LONGEST_ANSWER} bytes"
_LONGEST_MESSAGE = 300
# errors that end a loop, and methods whose errors Python takes for an end or an absence: a test that meets either would
# continue as if nothing were wrong
_ENDS = (StopIteration, StopAsyncIteration)
_ASKED_BY_PYTHON = {"__getitem__", "__getattr__", "__getattribute__", "__len__", "__length_hint__"}


class Broken(BaseException):
    """The other side broke the protocol. The tests never see this error: it ends the examiner."""


class CandidateError(Exception):
    """An error of the candidate that is not a built-in one."""


def encode(value: object) -> list[Any]:
    """A plain value as JSON, with its type: instances of subclasses become what they extend. Raises TypeError
    for anything else, RecursionError for a value that is too deep or holds itself."""
    if value is None:
        return ["none"]
    if isinstance(value, bool):
        return ["bool", value]
    if isinstance(value, int):
        return ["int", hex(value)]  # decimal digits are limited to 4300
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, str):
        return ["str", str.__str__(value)]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            return [kind.__name__, *map(encode, kind.__iter__(value))]
    if isinstance(value, dict):
        return ["dict", *([encode(key), encode(item)] for key, item in dict.items(value))]
    raise TypeError(f"a value of type {type(value).__name__} can't be passed on")


def decode(data: Any) -> Any:
    """The value that `encode` wrote. Raises ValueError, TypeError, KeyError or IndexError for anything else."""
    name, *items = data
    if name == "none":
        return None
    if name == "bool":
        return items[0] is True
    if name == "int":
        return int(items[0], 16)
    if name == "float":
        return float.fromhex(items[0])
    if name == "complex":
        return complex(float.fromhex(items[0]), float.fromhex(items[1]))
    if name == "str":
        return str(items[0])
    if name == "bytes":
        return bytes.fromhex(items[0])
    if name == "dict":
        return {decode(key): decode(item) for key, item in items}
    kinds: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[name](decode(item) for item in items)


def load(name: str, names: dict[str, object]) -> ModuleType:
    """Run the file NAME.py of this folder as a module that knows `names` from the start."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    vars(module).update({key: value for key, value in names.items() if not key.startswith("__")})
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def candidate(channel: int) -> None:
    """Run the solution, then answer calls of its functions until the examiner hangs up."""
    with open(channel, "rb") as questions, open(channel, "wb", closefd=False) as answers:
        try:
            module = load("solution", {})
        except BaseException as error:
            _send(answers, {"error": _describe(error)})
            return
        _send(answers, {"value": encode(None)})
        for line in questions:
            try:
                name, arguments, keywords = json.loads(line)
                value = getattr(module, name)(*decode(arguments), **decode(keywords))
                answer: dict[str, object] = {"value": encode(value)}
            except BaseException as error:
                answer = {"error": _describe(error)}
            _send(answers, answer)


def examiner(channel: int, functions: list[str]) -> None:
    """Run the tests, and write the verdict as the only line of standard output: at once when something has failed,
    else when Python ends, after the last thread and the last `__del__` of the tests."""
    verdict = os.dup(1)
    os.dup2(2, 1)  # what tests print is not the verdict
    answers, questions = open(channel, "rb"), open(channel, "wb", closefd=False)  # noqa: SIM115 (threads may still ask)
    turn = threading.RLock()

    def end(error: BaseException | None) -> NoReturn:
        try:
            result = {"passed": error is None, "error": "" if error is None else _line(error)}
            os.write(verdict, json.dumps(result).encode())
        finally:
            os._exit(0)

    def report_pass() -> None:
        sys.modules.pop("tests", None)
        gc.collect()  # what `__del__` of the tests' objects still checks
        end(None)

    def report_drop(lost: Any) -> None:
        if lost.exc_type is not SystemExit:  # how a thread ends itself
            end(lost.exc_value or Broken("an error was dropped"))

    def proxy(name: str) -> Callable[..., Any]:
        def call(*arguments: object, **keywords: object) -> Any:
            question = [name, encode(arguments), encode(keywords)]
            with turn:
                try:
                    _send(questions, question)
                    error, value = _receive(answers)
                except BaseException as broken:  # a signal's too: its answer would be read as the next one
                    end(broken)
            return _raise(*error) if error else value

        return call

    atexit.register(report_pass)  # first, so that it runs after everything that the tests register
    threading.excepthook = sys.unraisablehook = report_drop
    try:
        error, _ = _receive(answers)  # the solution was loaded, or its error
        if error:
            _raise(*error)
        names = vars(load("prelude", {}))
        load("tests", names | {name: proxy(name) for name in functions})
    except BaseException as failure:
        end(failure)


def _send(stream: IO[bytes], what: object) -> None:
    try:
        stream.write(json.dumps(what).encode() + b"\n")
        stream.flush()
    except OSError as error:
        raise Broken(ENDED) from error


def _receive(stream: IO[bytes]) -> tuple[tuple[str, str] | None, Any]:
    """The name and text of the error that the next answer carries, or None and its value. Raises Broken."""
    line = stream.readline(LONGEST_ANSWER)
    if not line.endswith(b"\n"):
        raise Broken(TOO_LONG if len(line) >= LONGEST_ANSWER else ENDED)
    try:
        answer = json.loads(line)
        if "value" in answer:
            return None, decode(answer["value"])
        name, message = map(str, answer["error"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise Broken("the program sent something that is not an answer") from error
    return (name, message), None


def _raise(name: str, message: str) -> NoReturn:
    """Raise the candidate's error in the tests."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _ENDS) and _will_show():
        try:
            error = kind(message)
        except TypeError:  # UnicodeDecodeError and the like want more than a message
            error = CandidateError(f"{name}: {message}")
        raise error
    raise CandidateError(f"{name}: {message}")


def _will_show() -> bool:
    """Whether an error raised now reaches the tests, since no method that Python itself calls is running."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_name in _ASKED_BY_PYTHON:
            return False
    return True


def _describe(error: BaseException) -> list[str]:
    try:
        message = str(error)[:_LONGEST_MESSAGE]
    except BaseException:
        message = ""
    return [type(error).__name__, message]


def _line(error: BaseException) -> str:
    if isinstance(error, Broken | CandidateError):
        return str(error)
    return traceback.format_exception_only(error)[-1].strip()[:_LONGEST_MESSAGE]


if __name__ == "__main__":
    if sys.argv[1] == "candidate":
        candidate(int(sys.argv[2]))
    else:
        examiner(int(sys.argv[2]), sys.argv[3:])
