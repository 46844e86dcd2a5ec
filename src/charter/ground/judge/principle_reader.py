"""A labeller that reads principles: an encoder turns a principle into what is to be looked for, programs and the same
encoder before teaching say what a reply has of it.

    score(principle, reply) = S(W u(principle)) . t(reply) + c u(principle) . u0(reply)
    label = sigma(score of the first reply - score of the second)

u: the mean state of the encoder over the principle's tokens, of length 1. t: the traits that programs measure
(traits.py), in units of the difference that makes a pair. u0: the same mean of the reply behind the user's last
message, by the encoder as it was before it was taught. S moves each number by `SHRINK` towards 0, since a principle is
about few traits; the loss takes the numbers as they are. The second term is for what no program measures. The label has
no order. Only principles are taught: replies are read once. Letters: N pairs, R traits, D width of the encoder.
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

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.lessons import Lesson
from charter.ground.judge.traits import TRAITS
from charter.ground.learn.step import autocast
from charter.ground.model import sentence_encoder
from charter.ground.model.folder import damage_error, read_config
from charter.ground.model.sentence_encoder import SentenceEncoder, mean_state, pad
from charter.ground.settings.recognise import READER
from charter.ground.text.dialogue import Message
from charter.ground.text.tokenizer import Tokenizer

LONGEST = {"principle": 60, "prompt": 40, "reply": 130}  # tokens that are read
TOGETHER = 24  # texts read at once
SHRINK = 0.5
LARGEST = 2.0  # difference in a trait, in units of `apart`, beyond which more doesn't count
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_HEAD, _TAUGHT = "head.", "taught."  # what names of tensors begin with
_LAYER = "encoder.layer."


class Head(nn.Module):
    """W, and c as the only entry of `cosine`."""

    def __init__(self, width: int, cosine: float) -> None:
        super().__init__()
        self.of_traits = nn.Linear(width, len(TRAITS), bias=False)
        nn.init.zeros_(self.of_traits.weight)
        self.cosine = nn.Parameter(torch.tensor([cosine]))

    def forward(self, principles_ND: Tensor, traits_NR: Tensor, states_ND: Tensor) -> Tensor:
        """Gaps [N] between the scores of two replies, from u of the principle and the differences in t and u0."""
        wanted_NR = self.of_traits(principles_ND)
        if not self.training:
            wanted_NR = F.softshrink(wanted_NR, SHRINK)
        of_traits = (wanted_NR * traits_NR).sum(1)
        gaps: Tensor = of_traits + self.cosine * (principles_ND * states_ND).sum(1)
        return gaps


class PrincipleReader:
    """The encoder as it comes, its taught layers as a table of parameters, the head and the tokenizer. `tokens`: that
    the last call of `principles` read."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        taught: Mapping[str, Tensor],
        head: Head,
        tokenizer: Tokenizer,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.device, self.precision, self.tokenizer = device, precision, tokenizer
        self._weights = {n: w.to(device) for n, w in weights.items() if not n.startswith("pooler.")}
        # a table of parameters can't have dots in its names
        self.taught = nn.ParameterDict({name.replace(".", "/"): w.to(device) for name, w in taught.items()})
        self.head = head.to(device)
        self.tokens = 0

    @classmethod
    def start(cls, folder: Path, cosine: float, device: str, precision: str) -> PrincipleReader:
        """The encoder of a folder as it comes: no trait counts, and the cosine has the given weight."""
        weights, tokenizer = sentence_encoder.open_encoder(folder)
        taught = {name: weight.clone() for name, weight in weights.items() if name.startswith(_LAYER)}
        width = weights["embeddings.word_embeddings.weight"].shape[1]
        return cls(weights, taught, Head(width, cosine), tokenizer, device, precision)

    @classmethod
    def open(cls, folder: Path, device: str = "cpu", precision: str = "float32") -> PrincipleReader:
        """The product of the room `labeller`. Raises CharterError for a damaged folder, or one of other traits."""
        config = read_config(folder)
        if config.get("traits") != list(TRAITS):
            raise CharterError(f"{folder}: its labeller learnt other traits than this version measures; teach it again")
        try:
            tensors = load_file(folder / _WEIGHTS)
            head = Head(int(config["hidden_size"]), 0.0)
            head.load_state_dict(_with_prefix(tensors, _HEAD))
            weights = {name: w for name, w in tensors.items() if not name.startswith((_HEAD, _TAUGHT))}
            tokenizer = sentence_encoder.read_tokenizer(folder)
            return cls(weights, _with_prefix(tensors, _TAUGHT), head, tokenizer, device, precision)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise damage_error(folder / _WEIGHTS, error) from None

    def save(self, folder: Path) -> None:
        """Writes config.json, model.safetensors (encoder under the hub's names, taught layers and head) and
        tokenizer.json."""
        taught = {f"{_TAUGHT}{name.replace('/', '.')}": w.detach() for name, w in self.taught.items()}
        head = {f"{_HEAD}{name}": w for name, w in self.head.state_dict().items()}
        tensors = self._weights | taught | head
        save_file({name: w.cpu().contiguous() for name, w in tensors.items()}, folder / _WEIGHTS)
        config = {
            "architectures": [READER],
            "model_type": "bert",
            "hidden_size": self.head.of_traits.in_features,
            "num_hidden_layers": sentence_encoder.LAYERS,
            "traits": list(TRAITS),
            "dtype": "float32",
        }
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save(folder)

    def score(self, lessons: Sequence[Lesson]) -> list[float]:
        """The gap between the scores of each pair's first and second reply; each text is read once."""
        if not lessons:
            return []
        traits_NR, states_ND = self.differences(lessons)
        texts = list(dict.fromkeys(lesson.principle for lesson in lessons))
        place = {text: n for n, text in enumerate(texts)}
        with torch.no_grad(), autocast(self.device, self.precision):
            parts = [self.principles(texts[n : n + TOGETHER]) for n in range(0, len(texts), TOGETHER)]
            principles_ND = torch.cat(parts)[[place[lesson.principle] for lesson in lessons]]
            gaps_N = self.head.eval()(principles_ND, traits_NR, states_ND).float()
        return [float(gap) for gap in gaps_N]

    def principles(self, texts: Sequence[str]) -> Tensor:
        """u of principles, [N, D]; gradients reach the taught layers."""
        rows: list[tuple[list[int], list[int]]] = [
            ([], self.tokenizer.encode(text)[: LONGEST["principle"]]) for text in texts
        ]
        self.tokens = sum(len(own) for _, own in rows)
        taught = {name.replace("/", "."): w for name, w in self.taught.items()}
        return self._means(rows, {**self._weights, **taught})

    def differences(self, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
        """The first reply less the second: in the traits [N, R], at most `LARGEST` each, and in u0 [N, D]."""
        questions = [_asked(lesson.messages) for lesson in lessons]
        firsts, seconds = (
            list(zip(questions, replies, strict=True))
            for replies in ([lesson.first for lesson in lessons], [lesson.second for lesson in lessons])
        )
        # equal texts are read once, those of like length together
        alone = sorted({*firsts, *seconds}, key=lambda text: (len(text[0]) + len(text[1]), text))
        with torch.no_grad(), autocast(self.device, self.precision):
            parts = [self._replies(alone[n : n + TOGETHER]) for n in range(0, len(alone), TOGETHER)]
        states = dict(zip(alone, torch.cat(parts).float(), strict=True))
        traits = {
            text: torch.tensor([trait.measure(*text) / trait.apart for trait in TRAITS.values()]) for text in alone
        }
        between = list(zip(firsts, seconds, strict=True))
        traits_NR = torch.stack([traits[a] - traits[b] for a, b in between]).clamp(-LARGEST, LARGEST)
        return traits_NR.to(self.device), torch.stack([states[a] - states[b] for a, b in between])

    def _replies(self, texts: Sequence[tuple[str, str]]) -> Tensor:
        """u0 of replies behind what was asked, [N, D]."""
        encode = self.tokenizer.encode
        rows = [(encode(a)[-LONGEST["prompt"] :], encode(reply)[: LONGEST["reply"]]) for a, reply in texts]
        return self._means(rows, self._weights)

    def _means(self, texts: Sequence[tuple[list[int], list[int]]], weights: dict[str, Tensor]) -> Tensor:
        encoder, rows = SentenceEncoder(weights), pad(texts, self.device)
        x_NTD = encoder.embed(rows)
        for number in range(sentence_encoder.LAYERS):
            x_NTD = encoder.layer(x_NTD, rows, number)
        return mean_state(x_NTD, rows)


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in tensors.items() if name.startswith(prefix)}


def _asked(messages: Sequence[Message]) -> str:
    """The last message, which the reply answers."""
    return messages[-1]["content"]
