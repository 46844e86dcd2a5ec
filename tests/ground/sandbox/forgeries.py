"""Solutions that try to pass tests without passing them. Each defines `double`, wrongly, and something else.

The keys are the table of docs/sandbox.md.
"""

WRONG = "def double(n):\n    return n\n"

FORGERIES = {
    "leave with status 0 at once": "import os\nos._exit(0)\n",
    "leave by sys.exit(0)": "import sys\nsys.exit(0)\n",
    "leave with status 0 when called": "import os\ndef double(n):\n    os._exit(0)\n",
    "raise SystemExit when called": "def double(n):\n    raise SystemExit(0)\n",
    "print the verdict": 'print(\'{"passed": true, "error": ""}\', flush=True)\n' + WRONG,
    "write the verdict to every descriptor": (
        "import os\nfor number in range(64):\n    try:\n"
        '        os.write(number, b\'{"passed": true, "error": ""}\\n\')\n    except OSError:\n        pass\n'
        + WRONG
    ),
    "report as process 1 does": (
        "import os\nfor number in range(64):\n    try:\n"
        '        os.write(number, b\'{"ready": true}\\n{"exit": 0, "cpu": 0}\\n\')\n'
        "    except OSError:\n        pass\n" + WRONG
    ),
    "print the verdict when Python ends": (
        "import atexit, os\natexit.register(lambda: (print('{\"passed\": true}', flush=True), os._exit(0)))\n"
        + WRONG
    ),
    "make every assertion's error harmless": (
        "import builtins\nclass Quiet(BaseException):\n    pass\nbuiltins.AssertionError = Quiet\n" + WRONG
    ),
    "patch json": "import json\njson.loads = lambda *a: {'passed': True}\njson.dumps = lambda *a: '{\"passed\": true}'\n"
    + WRONG,
    "patch the runner's own module": (
        "import sys\nrunner = sys.modules['__main__']\n"
        "for name in ('encode', 'decode', '_receive', '_line', 'load', 'examiner'):\n"
        "    setattr(runner, name, lambda *a: ['bool', True])\n" + WRONG
    ),
    "return something that equals everything": (
        "class Any:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "def double(n):\n    return Any()\n"
    ),
    "return a number that equals everything": (
        "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\n"
        "def double(n):\n    return Any(0)\n"
    ),
    "return a list that equals everything": (
        "class Any(list):\n    def __eq__(self, other):\n        return True\ndef double(n):\n    return Any()\n"
    ),
    "read the tests": (
        "import os\ntexts = [open(os.path.join(top, name), errors='replace').read()\n"
        "         for top, _, names in os.walk('/box') for name in names]\n"
        "def double(n):\n    return 42 if any('double(21)' in text for text in texts) else None\n"
    ),
    "find the tests in memory": (
        "import gc, sys\ndef double(n):\n    seen = [str(o) for o in gc.get_objects() if isinstance(o, (dict, list, str))]\n"
        "    frame = sys._getframe()\n    while frame:\n        seen.append(str(frame.f_locals) + str(frame.f_code.co_consts))\n"
        "        frame = frame.f_back\n    return 42 if any('TO BE KEPT FROM THE SOLUTION' in text for text in seen) else None\n"
    ),
    "rewrite the tests": "open('tests.py', 'w').write('')\nopen('/box/tests.py', 'w').write('')\n" + WRONG,
    "kill everything": "import os, signal\nos.kill(-1, signal.SIGKILL)\n" + WRONG,
    "kill the runner": "import os, signal\ndef double(n):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    "send answers before they are asked for": (
        "import os\nfor number in range(3, 64):\n    try:\n"
        '        os.write(number, b\'{"value": ["bool", true]}\\n\' * 9)\n    except OSError:\n        pass\n'
        + WRONG
    ),
    "send what is no answer": (
        "import os\nfor number in range(3, 64):\n    try:\n"
        "        os.write(number, b'{\"passed\": true}\\n[]\\nnull\\n')\n    except OSError:\n        pass\n"
        + WRONG
    ),
    "send an answer of an unknown kind": (
        "import os\nfor number in range(3, 64):\n    try:\n"
        '        os.write(number, b\'{"value": ["eval", "42"]}\\n\' * 9)\n    except OSError:\n        pass\n'
        + WRONG
    ),
    "close the channel": "import os\nos.closerange(3, 64)\n" + WRONG,
    "raise what ends the examiner": (
        "class Broken(BaseException):\n    pass\ndef double(n):\n    raise Broken('passed')\n"
    ),
    "leave a child to answer": ("import os\nif os.fork():\n    os._exit(0)\n" + WRONG),
    "raise an error whose text fails": (
        "class Odd(Exception):\n    def __str__(self):\n        raise SystemExit(0)\ndef double(n):\n    raise Odd\n"
    ),
}
