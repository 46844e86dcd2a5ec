"""`generation_config.json`: the default sampling of a model, in the form of transformers.

Charter reads it, applies the fields that its sampler knows, and writes all fields with the models trained from it:

    do_sample false                   the likeliest token each time, whatever the temperature
    temperature, top_p, top_k         applied in the order temperature, top_k, top_p; defaults: 1, 1, 0 (off)
    SHAPING                           change the draw but are not applied: kept, and listed in `Decoding.ignored`
    all others                        kept

vLLM reads the file in the same way. transformers samples only with `do_sample` true and has a default `top_k` of 50, so
both are written beside a temperature. No torch.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import DAMAGE, inside, line_of, parse_json_file
from charter.ground.settings.packages import package_of

GENERATION = "generation_config.json"
MOST_TOP = 20  # likeliest tokens that are returned at most, as by OpenAI's API
_LARGEST = 2**63
# fields that change the draw, with the values at which they don't
SHAPING: Mapping[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "penalty_alpha": (0,),
    "guidance_scale": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "exponential_decay_length_penalty": (),
    "bad_words_ids": ((),),
    "sequence_bias": (),
    "suppress_tokens": ((),),
    "begin_suppress_tokens": ((),),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How replies are drawn. temperature 0 takes the likeliest token; top_p 1 and top_k 0 are off. `known`: it comes
    from a checkpoint, not from defaults. `ignored`: fields of the file that would change the draw but aren't
    applied."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    known: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, float | int]:
        """The settings that are on: equal for decodings that draw alike."""
        cuts = {"top_p": (self.top_p, 1), "top_k": (self.top_k, 0)}
        return {"temperature": self.temperature} | {k: value for k, (value, off) in cuts.items() if value != off}

    @property
    def words(self) -> str:
        """In words, such as "T 0.2, top-p 0.9"."""
        parts = [f"T {self.temperature:g}"]
        parts += [f"top-p {self.top_p:g}"] if self.top_p < 1 else []
        parts += [f"top-k {self.top_k}"] if self.top_k else []
        return ", ".join(parts)


UNKNOWN = Decoding()


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy; top_k 0 and top_p 1 are off; `stops` end a reply and are cut from its text;
    `top_logprobs`: how many of the likeliest tokens in each place are returned; `loop_stop` ends a free reply that
    repeats itself (`generate/samples.py`)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 128
    stops: tuple[str, ...] = ()
    top_logprobs: int = 0
    loop_stop: bool = False

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and self.top_k >= 0 and 0 < self.top_p <= 1 and self.max_tokens >= 1):
            raise CharterError(
                f"sampling needs temperature >= 0, top_k >= 0, 0 < top_p <= 1 and max_tokens >= 1; got {self}"
            )
        if not 0 <= self.top_logprobs <= MOST_TOP:
            raise CharterError(f"top_logprobs must be 0 to {MOST_TOP}; got {self.top_logprobs}")


def sampling_at(decoding: Decoding, max_tokens: int, stops: tuple[str, ...] = (), loop_stop: bool = False) -> Sampling:
    """The sampling of replies of at most `max_tokens` with a decoding."""
    return Sampling(decoding.temperature, decoding.top_k, decoding.top_p, max_tokens, stops, loop_stop=loop_stop)


def decoding_of(generation: Mapping[str, Any]) -> Decoding:
    """The decoding of a file's fields, which `read_generation` has checked."""
    settings = {key: generation.get(key) for key in ("temperature", "top_p", "top_k", "do_sample")}
    greedy = settings["do_sample"] is False
    return Decoding(
        temperature=0.0 if greedy else _number_or(settings["temperature"], 1.0),
        top_p=1.0 if greedy else _number_or(settings["top_p"], 1.0),
        top_k=0 if greedy else int(_number_or(settings["top_k"], 0)),
        known=any(value is not None for value in settings.values()),
        ignored=tuple(f"{key} {value}" for key, value in generation.items() if _shapes(key, value)),
    )


def talk_decoding(ref: str, own: Decoding) -> Decoding:
    """The default decoding for people who talk with the model of a reference: a packaged model's `talk`, else `own`."""
    package = package_of(ref)
    return decoding_of(package.talk) if package is not None and package.talk else own


def choose_decoding(own: Decoding, temperature: float | None, top_p: float | None, top_k: int | None) -> Decoding:
    """The requested decoding, or `own` if none is requested. It is chosen as a whole: the model's own top_p doesn't
    limit a temperature that is requested alone."""
    if temperature is None and top_p is None and top_k is None:
        return own
    return Decoding(1.0 if temperature is None else temperature, 1.0 if top_p is None else top_p, top_k or 0)


def read_generation(folder: Path) -> dict[str, Any]:
    """The fields of a checkpoint folder's file; {} without a file. Raises CharterError if it is damaged or holds an
    impossible value."""
    path = folder / GENERATION
    try:
        fields = parse_json_file(inside(folder, GENERATION))
    except FileNotFoundError:
        return {}
    except DAMAGE as error:
        raise CharterError(f"{path} cannot be read ({line_of(error)}); restore the file or remove it") from None
    if not isinstance(fields, dict):
        raise CharterError(f"{path} is not a JSON object; restore the file or remove it")
    _check(path, fields)
    return fields


def write_generation(folder: Path, generation: Mapping[str, Any], ids: Mapping[str, int | None]) -> None:
    """Writes the fields and adds what they lack: token ids (`eos_token_id` and so on), the tokenizer's end token among
    the ends, and `do_sample` for a temperature above 0."""
    kept_fields = {k: v for k, v in generation.items() if v is not None or k not in ids}
    fields = {k: v for k, v in ids.items() if v is not None} | kept_fields | {"_from_model_config": False}
    end, ends = ids.get("eos_token_id"), fields.get("eos_token_id")
    if end is not None and end not in (listed := ends if isinstance(ends, list) else [ends]):
        fields["eos_token_id"] = [*listed, end]
    if fields.get("do_sample") is None and (fields.get("temperature") or 0) > 0:
        fields["do_sample"] = True
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (folder / GENERATION).write_text(text + "\n", encoding="utf-8")


def generation_at(temperature: float) -> dict[str, Any]:
    """The fields of a model that is sampled at this temperature without top_k and top_p."""
    return {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}


def _check(path: Path, fields: Mapping[str, Any]) -> None:
    """Raises CharterError for an impossible value of a field that the sampler applies."""
    rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "do_sample": ("true or false", lambda value: isinstance(value, bool)),
        "temperature": ("a number from 0", lambda value: _number(value) and value >= 0),
        "top_p": ("a number above 0, at most 1", lambda value: _number(value) and 0 < value <= 1),
        "top_k": ("a whole number from 0", lambda value: _number(value) and value >= 0 and value == int(value)),
    }
    for key, (words, holds) in rules.items():
        value = fields.get(key)
        if value is not None and not holds(value):
            raise CharterError(f"{path}: {key} is {json.dumps(value)[:80]}; expected {words}; correct the file")


def _number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < _LARGEST


def _number_or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _shapes(key: str, value: object) -> bool:
    """Whether a field would change the draw."""
    if value is None or key not in SHAPING:
        return False
    return not any(value == off or (off == () and value == []) for off in SHAPING[key])
