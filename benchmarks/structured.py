"""Structured output: schemas accepted, documents that validate, and what holding to a form costs.

Real schemas (jsonschemabench) and shapes made from seeds, written by a real model under several budgets: exactly the
shortest document, 8 tokens more, 128 and 512; greedy and at temperature 1. Every accepted schema's document must end
within its budget and validate by the jsonschema library (numbers as decimals), once without formats and once with those
that the library checks by itself. Times are of the processor, so that a busy machine does not blur them: restricting the
logits ("mask") and accepting what was drawn, with the search for endings ("ending"), each per token beside the engine's
own time per token. `--suite` reads the official test suite instead: documents that it calls invalid must be refused.

    python benchmarks/structured.py [--schemas 200] [--made 200] [--medium 200] [--long 40] [--suite] [--threads 1]
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import jsonschema
import torch
from jsonschema.validators import Draft202012Validator, validator_for
from llguidance import LLMatcher
from material import MODEL
from side import machine, print_table

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.opening import materialise
from charter.ground.settings.places import data_folder
from charter.ground.text.dialogue import user
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer
from charter_service.forms.alphabet import alphabet_of, bytes_vocabulary
from charter_service.forms.grammars import Compiled, Form, compile_form
from charter_service.forms.json_form import json_grammar

sys.path.append(str(Path(__file__).parents[1] / "tests" / "ground" / "generate"))
from made_schemas import random_schema

SLOTS = 32


@dataclass
class Cost:
    """Processor seconds of constraints, by part, and the tokens they were spent on."""

    mask: float = 0.0
    ending: float = 0.0
    tokens: int = 0
    refusals: int = 0
    slowest: float = 0.0


@dataclass
class Timed:
    """A constraint with a clock."""

    inner: Constraint
    cost: Cost

    def restrict(self, logits_V: torch.Tensor, remaining: int) -> None:
        """As the inner one."""
        started = time.thread_time()
        self.inner.restrict(logits_V, remaining)
        self.cost.mask += time.thread_time() - started

    def accept(self, token: int) -> bool:
        """As the inner one."""
        started = time.thread_time()
        taken = self.inner.accept(token)
        took = time.thread_time() - started
        self.cost.ending += took
        self.cost.slowest = max(self.cost.slowest, took)
        self.cost.tokens += taken
        self.cost.refusals += not taken
        return taken


@dataclass
class Tally:
    """Documents of one budget."""

    budget: str
    written: int = 0
    unended: int = 0
    over: int = 0
    invalid: int = 0
    invalid_formats: int = 0
    tokens: int = 0
    faults: list[str] = field(default_factory=list)


def real_schemas(count: int) -> list[tuple[str, Any]]:
    """Schemas of the sample in an order of their own, none chosen."""
    path = data_folder() / "json_schema" / "jsonschemabench_sample.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    found = [(row["id"], row["schema"]) for row in rows[:count]]
    return [(name, json.loads(schema) if isinstance(schema, str) else schema) for name, schema in found]


def compile_all(named: list[tuple[str, Any]], tokenizer: Tokenizer, title: str) -> list[tuple[str, Any, Compiled]]:
    """The accepted ones; prints shares, reasons and times."""
    accepted, refused, times, judged = [], Counter[str](), [], 0
    for name, schema in named:
        started = time.thread_time()
        try:
            form = compile_form(Form("json_schema", schema=schema), tokenizer)
        except CharterError as error:
            refused[str(error)[:90]] += 1
            continue
        times.append(time.thread_time() - started)
        judged += json_grammar(schema)[1] is not None
        accepted.append((name, schema, form))
    times.sort()
    share = len(accepted) / len(named)
    print(
        f"{title}: {len(accepted)} of {len(named)} accepted ({share:.1%}), {judged} of them with a judge; compiled in "
    )
    print(f"  {times[len(times) // 2] * 1e3:.1f} ms (median), {times[int(len(times) * 0.95)] * 1e3:.1f} ms (p95)")
    for reason, count in refused.most_common():
        print(f"  refused {count}: {reason}")
    return accepted


def budgets(least: int, place: int, longer: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """Names and tokens of the budgets of one schema."""
    yield "least", least
    yield "least + 8", least + 8
    if place < longer[0] and least <= 128:
        yield "128", 128
    if place < longer[1] and least <= 512:
        yield "512", 512


def judge_of(schema: Any, formats: bool) -> Callable[[str], str | None]:
    """What the reference validator says against a text; numbers are decimals."""
    kind = validator_for(schema, default=Draft202012Validator)
    checker = jsonschema.FormatChecker() if formats else None
    validator = kind(json.loads(json.dumps(schema), parse_float=Decimal), format_checker=checker)

    def fault(text: str) -> str | None:
        try:
            value = json.loads(text, parse_float=Decimal)
        except ValueError as error:
            return str(error)
        with localcontext(prec=600):  # multipleOf of a number of 200 digits
            return next((str(error.message)[:120] for error in validator.iter_errors(value)), None)

    return fault


def write_all(
    accepted: list[tuple[str, Any, Compiled]], engine: Engine, template: Template, longer: tuple[int, int]
) -> None:
    """Documents by the model, checked; prints a table and the costs."""
    tallies = {name: Tally(name) for name in ("least", "least + 8", "128", "512")}
    cost, started, asked = Cost(), time.thread_time(), dict[int, tuple[str, Any, str, int]]()
    for place, (name, schema, form) in enumerate(accepted):
        title = str((schema.get("title") or schema.get("description") or name) if isinstance(schema, dict) else name)
        prompt = template.encode_prompt([user(f"Give an example of this as JSON: {title[:200]}")])
        for budget, tokens in budgets(form.least, place, longer):
            for temperature in (0.0, 1.0):
                make = form.start(tokens)
                number = engine.submit(
                    prompt,
                    Sampling(temperature=temperature, max_tokens=tokens),
                    seed=place,
                    constraint=lambda make=make: Timed(make(), cost),
                )
                asked[number] = (name, schema, budget, tokens)
    while not engine.idle:
        for event in engine.step():
            if event.done:
                name, schema, budget, tokens = asked[event.request]
                check(tallies[budget], name, schema, event, tokens)
    spent = time.thread_time() - started
    own = (spent - cost.mask - cost.ending) / cost.tokens
    rows = [["budget", "documents", "unended", "over budget", "invalid", "invalid with formats", "tokens each"]]
    rows += [
        [
            t.budget,
            *map(str, (t.written, t.unended, t.over, t.invalid, t.invalid_formats)),
            f"{t.tokens / max(1, t.written):.0f}",
        ]
        for t in tallies.values()
    ]
    print_table(rows)
    for tally in tallies.values():
        for fault in tally.faults[:8]:
            print(f"  {tally.budget}: {fault}")
    print(
        f"per token, {SLOTS} streams: mask {cost.mask / cost.tokens * 1e3:.3f} ms, ending {cost.ending / cost.tokens * 1e3:.3f} "
        f"ms, model {own * 1e3:.2f} ms: {1 + (cost.mask + cost.ending) / cost.tokens / own:.3f}x of unconstrained; slowest "
        f"ending {cost.slowest * 1e3:.0f} ms; {cost.refusals} draws of {cost.tokens} refused"
    )


def check(tally: Tally, name: str, schema: Any, event: Any, tokens: int) -> None:
    """Count one document."""
    completion = event.completion
    tally.written += 1
    tally.tokens += len(completion.ids)
    tally.over += len(completion.ids) > tokens
    if event.error is not None or completion.stop != "end":
        tally.unended += 1
        tally.faults.append(f"{name}: {event.error or completion.stop}")
        return
    if fault := judge_of(schema, False)(completion.text):
        tally.invalid += 1
        tally.faults.append(f"{name}: {fault}")
    elif fault := judge_of(schema, True)(completion.text):
        tally.invalid_formats += 1
        tally.faults.append(f"{name}: format: {fault}")


def single(engine: Engine, template: Template, tokenizer: Tokenizer) -> None:
    """The cost for one stream: the same number of tokens free and held."""
    prompt = template.encode_prompt([user("Describe a person as JSON.")])
    text = {"type": "string", "minLength": 150}
    form = compile_form(
        Form("json_schema", schema={"type": "object", "properties": {"a": text}, "required": ["a"]}), tokenizer
    )
    ends, engine.ends = engine.ends, frozenset()
    spent = {}
    for name in ("free", "held", "free", "held"):
        started = time.thread_time()
        make = form.start(160)
        held = {"constraint": make} if name == "held" else {}
        engine.submit(prompt, Sampling(max_tokens=160), **held)
        count = 0
        while not engine.idle:
            count += len(engine.step())
        spent[name] = min(spent.get(name, 9e9), (time.thread_time() - started) / count)
    engine.ends = ends
    print(
        f"one stream: free {spent['free'] * 1e3:.2f} ms a token, held {spent['held'] * 1e3:.2f} ms: {spent['held'] / spent['free']:.3f}x"
    )


def suite() -> None:
    """Documents of the official test suite against grammar and judge, by keyword."""
    for file in ("test_suite_draft2020-12", "test_suite_draft7"):
        compiled = invalid = valid = taken = 0
        wrong, refused = Counter[str](), Counter[str]()
        with gzip.open(data_folder() / "json_schema" / f"{file}.jsonl.gz", "rt") as lines:
            groups = [json.loads(line) for line in lines]
        for group in groups:
            try:
                grammar, judge = json_grammar(group["schema"])
            except CharterError:
                refused[group["file"]] += 1
                continue
            compiled += 1
            matcher = LLMatcher(bytes_vocabulary(), json.dumps({"grammars": [grammar]}), log_level=0)
            for test in group["tests"]:
                text = json.dumps(test["data"], separators=(",", ":"), ensure_ascii=False)
                data = list(text.encode("utf-8", "surrogatepass"))
                matcher.reset()
                accepts = matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()
                accepts = accepts and (judge is None or judge.accepts(text))
                valid, taken = valid + test["valid"], taken + (test["valid"] and accepts)
                invalid += not test["valid"]
                wrong[group["file"]] += accepts and not test["valid"]
        print(f"{file}: {compiled} of {len(groups)} groups compile; {sum(wrong.values())} of {invalid} invalid documents taken; "
              f"{taken} of {valid} valid ones")  # fmt: skip
        print("  invalid taken:", {k: v for k, v in wrong.items() if v})
        print("  groups refused:", dict(refused))


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--schemas", type=int, default=200)
    options.add_argument("--made", type=int, default=200)
    options.add_argument("--medium", type=int, default=200, help="schemas that are also written within 128 tokens")
    options.add_argument("--long", type=int, default=40, help="schemas that are also written within 512 tokens")
    options.add_argument("--suite", action="store_true")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--model", default=MODEL)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    print(", ".join(f"{k} {v}" for k, v in machine(asked.threads).items()))
    if asked.suite:
        suite()
        return
    model, tokenizer = load_policy(materialise(asked.model))
    started = time.thread_time()
    alphabet_of(tokenizer)
    print(f"alphabet of {tokenizer.vocab_size} tokens: {time.thread_time() - started:.2f} s, once")
    engine, template = Engine(model, tokenizer, slots=SLOTS), Template(tokenizer, tokenizer.template)
    single(engine, template, tokenizer)
    real = compile_all(real_schemas(asked.schemas), tokenizer, "real schemas")
    write_all(real, engine, template, (asked.medium, asked.long))
    if asked.made:
        made = compile_all([(f"made {k}", random_schema(k)) for k in range(asked.made)], tokenizer, "made schemas")
        write_all(made, engine, template, (asked.medium, 0))


if __name__ == "__main__":
    main()
