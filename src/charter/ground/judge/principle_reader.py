"""A labeller that reads principles: an encoder reads a principle and a reply apart, and a product joins them.

    score(principle, reply) = (A v(principle) + a) . (B v(reply)) + c * cos(u(principle), u(reply))
    label = sigma(score of the first reply - score of the second)

v: the means of the states after layers 1, 3 and 6 over a text's own tokens, each of length 1, and the logarithm of the
number of tokens. A reply is read behind the user's last message. The label has no order. Neither pole of a principle is
better on the whole: only the two together say which reply is, and the product has that form from the start.
u: the last of these means as the encoder gave it before it was taught. Lessons teach it their own kinds of principles
and cost it what it knew of others, which the cosine keeps. Letters: N texts, V numbers of v.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from charter.ground.constitution.lessons import Lesson
from charter.ground.learn.step import autocast
from charter.ground.model import sentence_encoder
from charter.ground.model.folder import damage_error, read_config
from charter.ground.model.sentence_encoder import SentenceEncoder, mean_state, pad
from charter.ground.settings.recognise import READER
from charter.ground.text.dialogue import Message
from charter.ground.text.tokenizer import Tokenizer

LAYERS = (0, 2, 5)
LONGEST = {"principle": 60, "prompt": 40, "reply": 130}  # tokens that are read
TOGETHER = 24  # texts read at once
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_HEAD, _UNTAUGHT = "head.", "untaught."  # what names of tensors begin with


class Head(nn.Module):
    """The two matrices of the product."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.of_principle, self.of_reply = nn.Linear(width, rank), nn.Linear(width, rank, bias=False)

    def forward(self, principles_NV: Tensor, differences_NV: Tensor) -> Tensor:
        """Gaps [N] between the scores of two replies, from v of the principle and the difference of v of the two."""
        product: Tensor = self.of_principle(principles_NV) * self.of_reply(differences_NV)
        return product.sum(1)


class PrincipleReader:
    """The encoder as a table of parameters, the head and the tokenizer. `tokens`: that the last `read` read."""

    def __init__(
        self,
        weights: dict[str, Tensor],
        head: Head,
        tokenizer: Tokenizer,
        device: str = "cpu",
        precision: str = "float32",
        untaught: tuple[dict[str, Tensor], float] = ({}, 0.0),
    ) -> None:
        self.device, self.precision, self.tokenizer = device, precision, tokenizer
        self.untaught = {name: weight.to(device) for name, weight in untaught[0].items()}, untaught[1]
        own = _without_pooler(weights)
        # a table of parameters can't have dots in its names
        self.encoder = nn.ParameterDict({name.replace(".", "/"): w.to(device) for name, w in own.items()})
        self.head = head.to(device)
        self._width = own["embeddings.word_embeddings.weight"].shape[1]
        self.tokens = 0

    @classmethod
    def start(cls, folder: Path, rank: int, device: str, precision: str, untaught: float = 0.0) -> PrincipleReader:
        """The encoder of a folder as it comes, with an untrained head; `untaught` is c."""
        weights, tokenizer = sentence_encoder.open_encoder(folder)
        width = weights["embeddings.word_embeddings.weight"].shape[1]
        copy = {name: weight.clone() for name, weight in _without_pooler(weights).items()} if untaught else {}
        return cls(weights, Head(len(LAYERS) * width + 1, rank), tokenizer, device, precision, (copy, untaught))

    @classmethod
    def open(cls, folder: Path, device: str = "cpu", precision: str = "float32") -> PrincipleReader:
        """The product of the room `labeller`. Raises CharterError for a damaged folder."""
        config = read_config(folder)
        try:
            tensors = load_file(folder / _WEIGHTS)
            head = Head(len(LAYERS) * int(config["hidden_size"]) + 1, int(config["rank"]))
            head.load_state_dict(_with_prefix(tensors, _HEAD))
            weights = {name: w for name, w in tensors.items() if not name.startswith((_HEAD, _UNTAUGHT))}
            untaught = _with_prefix(tensors, _UNTAUGHT), float(config.get("untaught", 0.0))
            return cls(weights, head, sentence_encoder.read_tokenizer(folder), device, precision, untaught)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise damage_error(folder / _WEIGHTS, error) from None

    def save(self, folder: Path) -> None:
        """Writes config.json, model.safetensors (encoder under the hub's names, and head) and tokenizer.json."""
        encoder = {name.replace("/", "."): w.detach().cpu().contiguous() for name, w in self.encoder.items()}
        head = {f"{_HEAD}{name}": w.cpu().contiguous() for name, w in self.head.state_dict().items()}
        untaught = {f"{_UNTAUGHT}{name}": w.cpu().contiguous() for name, w in self.untaught[0].items()}
        save_file(encoder | head | untaught, folder / _WEIGHTS)
        config = {
            "architectures": [READER],
            "model_type": "bert",
            "hidden_size": encoder["embeddings.word_embeddings.weight"].shape[1],
            "num_hidden_layers": sentence_encoder.LAYERS,
            "rank": self.head.of_reply.out_features,
            "untaught": self.untaught[1],
            "dtype": "float32",
        }
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save(folder)

    def score(self, lessons: Sequence[Lesson]) -> list[float]:
        """The gap between the scores of each pair's first and second reply; each text is read once."""
        if not lessons:
            return []
        principles = [("", lesson.principle) for lesson in lessons]
        firsts, seconds = (
            [(asked(lesson.messages), reply) for lesson, reply in zip(lessons, replies, strict=True)]
            for replies in ([lesson.first for lesson in lessons], [lesson.second for lesson in lessons])
        )
        weights, c = self.untaught
        with torch.no_grad(), autocast(self.device, self.precision):
            of_principles, of_firsts, of_seconds = (self._each(texts) for texts in (principles, firsts, seconds))
            gaps = self.head(of_principles, of_firsts - of_seconds).float()
            if c:
                of_principles, of_firsts, of_seconds = (
                    self._each(texts, weights)[:, -1 - self._width : -1].float()
                    for texts in (principles, firsts, seconds)
                )
                gaps = gaps + c * (of_principles * (of_firsts - of_seconds)).sum(1)
        return [float(gap) for gap in gaps]

    def read(self, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
        """v of the principles, and v of the first replies less that of the second, [N, V] each."""
        self.tokens = 0
        replies = [(asked(lesson.messages), reply) for lesson in lessons for reply in (lesson.first, lesson.second)]
        pairs = self._states(replies).view(len(lessons), 2, -1)
        return self._states([("", lesson.principle) for lesson in lessons]), pairs[:, 0] - pairs[:, 1]

    def _each(self, texts: Sequence[tuple[str, str]], weights: dict[str, Tensor] | None = None) -> Tensor:
        """v of each text; equal ones are read once, those of like length together."""
        alone = sorted(set(texts), key=lambda text: (len(text[0]) + len(text[1]), text))
        parts = [self._states(alone[n : n + TOGETHER], weights) for n in range(0, len(alone), TOGETHER)]
        place = {text: n for n, text in enumerate(alone)}
        return torch.cat(parts)[[place[text] for text in texts]] if parts else torch.empty(0)

    def _states(self, texts: Sequence[tuple[str, str]], weights: dict[str, Tensor] | None = None) -> Tensor:
        """v of each text behind what goes before it: nothing before a principle, the question before a reply. By the
        encoder as it is, or with other weights."""
        ids = []
        for before, text in texts:
            longest = LONGEST["reply" if before else "principle"]
            ids.append((self.tokenizer.encode(before)[-LONGEST["prompt"] :], self.tokenizer.encode(text)[:longest]))
        rows = pad(ids, self.device)
        self.tokens += sum(len(before) + len(text) for before, text in ids)
        encoder = SentenceEncoder(weights or {name.replace("/", "."): w for name, w in self.encoder.items()})
        x_NTD, means = encoder.embed(rows), list[Tensor]()
        for number in range(max(LAYERS) + 1):
            x_NTD = encoder.layer(x_NTD, rows, number)
            if number in LAYERS:
                means.append(mean_state(x_NTD, rows))
        lengths_N1 = rows.own_NT.sum(1, keepdim=True).float().log() / 5
        return torch.cat([*means, lengths_N1], 1)

    def fit_head(self, lessons: Sequence[Lesson], seed: int) -> None:
        """Fits the head to the encoder as it is, by three passes of AdamW over v of all lessons."""
        generator = torch.Generator().manual_seed(seed)
        parts = [lessons[n : n + TOGETHER] for n in range(0, len(lessons), TOGETHER)]
        with torch.no_grad(), autocast(self.device, self.precision):
            read = [self.read(part) for part in parts]
        principles, differences = (torch.cat([pair[n] for pair in read]).float().cpu() for n in (0, 1))
        middle, spread = principles.mean(0), 20 * (differences.std(0) + 1e-6)
        shape = principles.shape[1], self.head.of_reply.out_features
        a, b = (nn.Parameter(0.1 * torch.randn(shape, generator=generator)) for _ in range(2))
        optimizer = torch.optim.AdamW([a, b], lr=3e-3)
        for _ in range(3):
            for n in torch.randperm(len(lessons), generator=generator).split(256):  # type: ignore[no-untyped-call]
                gaps = 3 * (((principles[n] - middle) @ a) * ((differences[n] / spread) @ b)).sum(1)
                optimizer.zero_grad()
                (-F.logsigmoid(gaps).mean()).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        with torch.no_grad():
            self.head.of_principle.weight.copy_(a.T)
            self.head.of_principle.bias.copy_(-(middle @ a))
            # half the scale: a head that is sure of itself would leave the encoder little to learn from
            self.head.of_reply.weight.copy_((1.5 * b / spread[:, None]).T)


def _without_pooler(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in tensors.items() if name.startswith(prefix)}


def asked(messages: Sequence[Message]) -> str:
    """The last message, which the reply answers."""
    return messages[-1]["content"]
