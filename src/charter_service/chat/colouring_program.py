"""The program that colours code, in a process of its own: a line of JSON with language and code, a line with HTML.

    python -I colouring_program.py

It imports nothing of Charter. A lexer is a list of regular expressions, and a match can't be interrupted from within:
the system ends this process when a block has taken `SECONDS` of processor time.
"""

import json
import re
import resource
import signal
import sys
from functools import cache
from typing import Any, ClassVar

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.lexers.jvm import JavaLexer

SECONDS = 0.2
MEMORY = 1 << 30
# the rule for signatures of methods, which takes quadratic time on words without brackets
_SIGNATURE = re.compile(r"\\\($|\(\\\(\)$")


class QuickJavaLexer(JavaLexer):
    """Java, without the rule that looks for the signature of a method at every word."""

    tokens: ClassVar[dict[str, list[Any]]] = {
        "root": [
            rule
            for rule in JavaLexer.tokens["root"]
            if not (isinstance(rule, tuple) and isinstance(rule[0], str) and _SIGNATURE.search(rule[0]))
        ]
    }


@cache
def lexer_of(language: str) -> Lexer:
    """The lexer of a language. Code within Markdown stays plain, for its languages are any."""
    if language == "java":
        return QuickJavaLexer()
    return get_lexer_by_name(language, **({"handlecodeblocks": False} if language == "markdown" else {}))


def main() -> None:
    """Colours until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    formatter = HtmlFormatter(nowrap=True)
    for line in sys.stdin:
        language, code = json.loads(line)
        lexer = lexer_of(language)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        html = highlight(code, lexer, formatter)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(html), flush=True)


if __name__ == "__main__":
    main()
