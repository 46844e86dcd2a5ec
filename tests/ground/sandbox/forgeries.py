"""Solutions that try to pass tests without passing them. Each defines `double`, wrongly, and something else.

docs/concepts/sandbox.md counts them.
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
        '        os.write(number, b\'{"passed": true, "error": ""}\\n\')\n    except OSError:\n        pass\n' + WRONG
    ),
    "report as process 1 does": (
        "import os\nfor number in range(64):\n    try:\n"
        '        os.write(number, b\'{"ready": true}\\n{"exit": 0, "cpu": 0}\\n\')\n'
        "    except OSError:\n        pass\n" + WRONG
    ),
    "print the verdict when Python ends": (
        "import atexit, os\natexit.register(lambda: (print('{\"passed\": true}', flush=True), os._exit(0)))\n" + WRONG
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
        '        os.write(number, b\'{"value": ["bool", true]}\\n\' * 9)\n    except OSError:\n        pass\n' + WRONG
    ),
    "send what is no answer": (
        "import os\nfor number in range(3, 64):\n    try:\n"
        "        os.write(number, b'{\"passed\": true}\\n[]\\nnull\\n')\n    except OSError:\n        pass\n" + WRONG
    ),
    "send an answer of an unknown kind": (
        "import os\nfor number in range(3, 64):\n    try:\n"
        '        os.write(number, b\'{"value": ["eval", "42"]}\\n\' * 9)\n    except OSError:\n        pass\n' + WRONG
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

GONE = "import os\ndef double(n):\n    os._exit(0)\n"
RAISES = "def double(n):\n    raise ValueError\n"

# solutions, and tests that drop what goes wrong in them; a right solution passes each of these tests
DROPPED = {
    "leave where the tests catch everything": (
        GONE,
        "try:\n    found = double(1)\nexcept:\n    found = 2\nassert found == 2\n",
    ),
    "send what is no answer where the tests catch everything": (
        "import os\ndef double(n):\n    for number in range(3, 64):\n        try:\n"
        "            os.write(number, b'[]\\n')\n        except OSError:\n            pass\n    return 2\n",
        "try:\n    found = double(1)\nexcept:\n    found = 2\nassert found == 2\n",
    ),
    "leave where the tests suppress everything": (
        GONE,
        "import contextlib\nwith contextlib.suppress(BaseException):\n    assert double(1) == 2\n",
    ),
    "leave where a `finally` of the tests returns": (
        GONE,
        "def test():\n    try:\n        assert double(1) == 2\n    finally:\n        return\ntest()\n",
    ),
    "leave where the tests gather errors as values": (
        GONE,
        "import asyncio\nasync def test():\n"
        "    await asyncio.gather(asyncio.to_thread(double, 1), return_exceptions=True)\nasyncio.run(test())\n",
    ),
    "leave in a thread of the tests": (
        GONE,
        "import threading\nthread = threading.Thread(target=double, args=(1,))\nthread.start()\nthread.join()\n",
    ),
    "leave in a process of the tests": (
        GONE,
        "import os\nchild = os.fork()\nif child == 0:\n    try:\n        assert double(1) == 2\n    finally:\n"
        "        os._exit(0)\nos.waitpid(child, 0)\n",
    ),
    "raise in a thread of the tests": (
        RAISES,
        "import threading\nthread = threading.Thread(target=double, args=(1,))\nthread.start()\nthread.join()\n",
    ),
    "be wrong in a thread that outlives the tests": (
        WRONG,
        "import threading\ndef test():\n    main.join()\n    assert double(1) == 2\n"
        "main = threading.main_thread()\nthreading.Thread(target=test).start()\n",
    ),
    "raise in `__del__` of the tests": (
        RAISES,
        "class Held:\n    def __del__(self):\n        double(1)\nheld = Held()\ndel held\n",
    ),
    "be wrong in `__del__` of what the tests still hold": (
        WRONG,
        "class Held:\n    def __del__(self):\n        assert double(1) == 2\nheld = Held()\n",
    ),
    "raise where a generator of the tests is closed": (
        RAISES,
        "def held():\n    try:\n        yield\n    finally:\n        double(1)\nheld = held()\nnext(held)\ndel held\n",
    ),
    "raise when the tests' Python ends": (RAISES, "import atexit\natexit.register(double, 1)\n"),
}
# the answer to the first question is right for the second
LATE = {
    "answer a question that the tests gave up": (
        "import time\ndef double(n):\n    if n == 21:\n        time.sleep(3)\n    return 2 if n == 21 else None\n",
        "import signal\ndef late(*_):\n    raise TimeoutError\nsignal.signal(signal.SIGALRM, late)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1)\ntry:\n    double(21)\nexcept TimeoutError:\n    pass\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\nassert double(1) == 2\n",
    )
}
