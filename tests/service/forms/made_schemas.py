"""The harshest sampler: random logits under a constraint, and what it wrote; schemas made from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from charter.ground.generate.constraint import MOST_REFUSALS, Constraint
from charter.ground.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Written:
    """A reply's text, its tokens with the end token, whether it ended, and how often a token was refused."""

    text: str
    tokens: int
    ended: bool
    refusals: int


def write(
    make: Callable[[], Constraint],
    tokenizer: Tokenizer,
    max_tokens: int,
    seed: int,
    greedy: bool = False,
    prefer: Callable[[torch.Tensor, int], None] | None = None,
) -> Written:
    """Draw a reply token by token; `prefer` changes the logits before they are restricted."""
    generator = torch.Generator().manual_seed(seed)
    constraint, ids, refusals = make(), list[int](), 0
    while len(ids) < max_tokens:
        logits_V = 2.0 * torch.randn(tokenizer.vocab_size + 3, generator=generator)
        if prefer is not None:
            prefer(logits_V, len(ids))
        before, tried = logits_V.clone(), 0
        while True:
            constraint.restrict(logits_V, max_tokens - len(ids))
            open_V = torch.isfinite(logits_V)
            assert open_V.any(), "nothing is left to draw"
            assert torch.equal(logits_V[open_V], before[open_V]), "a restriction changed an open token"
            weights = torch.softmax(logits_V, -1)
            token = int(weights.argmax() if greedy else torch.multinomial(weights, 1, generator=generator))
            if constraint.accept(token):
                break
            refusals, tried = refusals + 1, tried + 1
            assert tried <= MOST_REFUSALS
        ids.append(token)
        if token in tokenizer.ends:
            return Written(tokenizer.decode(ids[:-1], skip_special=False), len(ids), True, refusals)
    return Written(tokenizer.decode(ids, skip_special=False), len(ids), False, refusals)


def random_schema(seed: int) -> dict[str, Any]:
    """A schema that has documents, of a few levels, with most of what schemas can ask."""
    return _Maker(random.Random(seed)).schema(3)


class _Maker:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def schema(self, depth: int) -> dict[str, Any]:
        leaves = [self._text, self._number, self._choice, lambda: {"type": self._pick("boolean", "null")}]
        if depth == 0:
            return self._pick(*leaves)()
        inner: list[Callable[[], dict[str, Any]]] = [
            *leaves,
            lambda: self._object(depth - 1),
            lambda: self._object(depth - 1),
            lambda: self._object(depth - 1),
            lambda: self._array(depth - 1),
            lambda: self._array(depth - 1),
            lambda: {"anyOf": [self.schema(depth - 1) for _ in range(self._dice.randint(1, 3))]},
            lambda: {"type": ["string", "integer", "null"]},
            lambda: self._recursive(depth - 1),
            lambda: {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 2000}]},
        ]
        return self._pick(*inner)()

    def _pick(self, *options: Any) -> Any:
        return self._dice.choice(options)

    def _text(self) -> dict[str, Any]:
        least = self._dice.randint(0, 6)
        patterns = [
            "^[A-Z]{2}-[0-9]{3}$",
            "[a-z]+@[a-z]+",
            "^(ab|ba)*c$",
            "\\d{4}",
            "^[^ ]{3,9}$",
            "^https?://[a-z.]+/?",
        ]
        formats = ["date", "date-time", "time", "uuid", "email", "ipv4", "hostname"]
        return self._pick(
            {"type": "string"},
            {"type": "string", "minLength": least, "maxLength": least + self._dice.randint(0, 9)},
            {"type": "string", "pattern": self._pick(*patterns)},
            {"type": "string", "format": self._pick(*formats)},
        )

    def _number(self) -> dict[str, Any]:
        low = self._dice.randint(-50, 5000)
        return self._pick(
            {"type": self._pick("integer", "number")},
            {"type": "integer", "minimum": low, "maximum": low + self._dice.randint(0, 300)},
            {"type": "number", "exclusiveMinimum": low / 4, "exclusiveMaximum": low / 4 + 1},
            {"type": "number", "multipleOf": self._pick(0.01, 0.5, 3)},
        )

    def _choice(self) -> dict[str, Any]:
        values = ["red", "green", 'a "quoted" text', "", "née", 7, -2.5, True, None, ["x", 1], {"k": "v"}]
        return self._pick({"const": self._pick(*values)}, {"enum": self._dice.sample(values, self._dice.randint(1, 5))})

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._dice.sample(["id", "name", "tags", "a b", "x/y", "é", "items", "type", "$ref2", "n"], 4)
        named = {name: self.schema(depth) for name in names[: self._dice.randint(1, 4)]}
        schema: dict[str, Any] = {"type": "object", "properties": named}
        schema["required"] = [name for name in named if self._dice.random() < 0.6]
        if self._dice.random() < 0.6:
            schema["additionalProperties"] = self._pick(False, {"type": "integer"})
        if self._dice.random() < 0.1:
            schema["minProperties"] = 1
        return schema

    def _array(self, depth: int) -> dict[str, Any]:
        least = self._dice.randint(0, 3)
        schema: dict[str, Any] = {"type": "array", "items": self.schema(depth), "minItems": least}
        if self._dice.random() < 0.5:
            schema["maxItems"] = least + self._dice.randint(0, 3)
        if self._dice.random() < 0.25:
            schema |= {"items": {"type": "integer"}, "uniqueItems": True}
        return schema

    def _recursive(self, depth: int) -> dict[str, Any]:
        leaf = self.schema(0)
        node = {"type": "object", "properties": {"leaf": leaf, "next": {"$ref": "#/$defs/node"}}, "required": ["leaf"]}
        return {"$ref": "#/$defs/node", "$defs": {"node": node}} if depth == 2 else leaf


def compact(value: object) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
