"""The shape of a decoder, read from and written to a Hugging Face `config.json`.

One decoder (RMSNorm, RoPE, grouped-query attention, SwiGLU; optional biases and query/key norms; tied or
untied head) covers the Llama, Mistral, Qwen2, Qwen3 and SmolLM families. Everything else is refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.errors import CharterError

# model_type -> causal architecture; SmolLM and SmolLM2 checkpoints are "llama".
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")
_THETA = {"llama": 10_000.0, "mistral": 10_000.0, "qwen2": 10_000.0, "qwen3": 10_000.0}
_NORM_EPS = 1e-6
MOST_LAYERS = 1000  # each takes memory before its weights are read
_LARGEST = 2**31 - 1  # of all sizes
_SCALES = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "attention_factor")
_YARN = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")  # 0 means none


@dataclass(frozen=True)
class Shape:
    """Sizes and switches of one decoder. The base of RoPE is `rope_theta`, not in `rope_scaling`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    norm_eps: float = 1e-5
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    tied: bool = True
    family: str = "llama"
    sliding_window: int | None = None
    window_from: int = 0

    @property
    def context(self) -> int:
        """The longest path, in tokens, that this decoder computes exactly.

        Inside its window a sliding-window layer is plain causal attention, so a context no longer than the
        window needs no window; beyond it the model refuses.
        """
        return min(self.max_positions, self.sliding_window or self.max_positions)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, embeddings included (a tied head counts once)."""
        d, qkv = self.hidden_size, (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        layer = d * qkv + self.num_heads * self.head_dim * d + 3 * d * self.intermediate_size + 2 * d
        layer += qkv * self.qkv_bias + d * self.o_bias + 2 * self.head_dim * self.qk_norm
        return self.num_layers * layer + d + self.vocab_size * d * (1 if self.tied else 2)


def _size(name: str, value: Any, least: int = 1, most: int = _LARGEST) -> int:
    """A size in config.json. Raises CharterError if it is none."""
    if type(value) is not int or not least <= value <= most:
        raise CharterError(
            f"config.json holds a value that is no size: {name} is {str(value)[:40]}; expected a whole number from "
            f"{least} to {most:,}"
        )
    return value


def _real(name: str, value: Any, above: float = 0.0, most: float = 1e15) -> float:
    """A number in config.json. Raises CharterError if it is none, or outside these bounds."""
    if type(value) not in (int, float) or not above < value <= most:
        raise CharterError(
            f"config.json holds a value that can't be: {name} is {str(value)[:40]}; expected a number above {above:g}, "
            f"at most {most:g}"
        )
    return float(value)


def _rope(config: Mapping[str, Any], family: str) -> tuple[float, dict[str, Any] | None]:
    """(base, scaling) from either spelling: `rope_theta` and `rope_scaling`, or `rope_parameters`."""
    scaling = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    base = scaling.pop("rope_theta", None) or config.get("rope_theta")
    theta = _real("rope_theta", _THETA[family] if base is None else base, above=1.0)
    rope_type = scaling.pop("rope_type", None) or scaling.pop("type", None) or "default"
    scaling.pop("type", None)
    if rope_type not in ROPE_TYPES:
        raise CharterError(f"RoPE type {str(rope_type)[:80]!r} is not supported; supported: {', '.join(ROPE_TYPES)}")
    part = scaling.pop("partial_rotary_factor", None) or config.get("partial_rotary_factor") or 1.0
    if _real("partial_rotary_factor", part) != 1.0:
        raise CharterError("partial rotary embeddings are not supported; expected partial_rotary_factor 1.0")
    if rope_type == "default":
        return theta, None
    missing = [key for key in ("factor",) if scaling.get(key) is None and rope_type != "yarn"]
    if rope_type == "llama3":
        missing += [key for key in ("low_freq_factor", "high_freq_factor") if scaling.get(key) is None]
    if missing:
        raise CharterError(f"RoPE type {rope_type!r} in config.json lacks {', '.join(missing)}; add it")
    if rope_type in ("llama3", "yarn"):
        original = config.get("original_max_position_embeddings") or config["max_position_embeddings"]
        scaling.setdefault("original_max_position_embeddings", original)
    for key in (*_SCALES, *_YARN):
        if scaling.get(key) is not None and not (key in _YARN and scaling[key] == 0):
            _real(f"{key} of RoPE", scaling[key])
    if rope_type == "llama3" and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        raise CharterError("config.json: low_freq_factor of RoPE is not below high_freq_factor; correct it")
    return theta, {"rope_type": rope_type, **scaling}


def _window(config: Mapping[str, Any], family: str, layers: int) -> tuple[int | None, int]:
    """(window, first layer with it); (None, 0) if every layer attends to everything."""
    window = config.get("sliding_window")
    if window is None or family == "llama":
        return None, 0
    if family != "mistral" and not config.get("use_sliding_window", False):
        return None, 0
    window = _size("sliding_window", window)
    if family == "mistral":
        return window, 0
    kinds = config.get("layer_types")
    if kinds is not None:
        start = next((i for i, kind in enumerate(kinds) if kind == "sliding_attention"), layers)
        if any(kind != "sliding_attention" for kind in kinds[start:]):
            raise CharterError("layer_types mixes windowed and full layers; expected the window from some layer on")
    else:
        start = _size("max_window_layers", config.get("max_window_layers", 28), least=0)
    return (window, start) if start < layers else (None, 0)


def from_config(config: Mapping[str, Any]) -> Shape:
    """Shape of a parsed `config.json`.

    Raises CharterError for another architecture (naming those supported), an activation that is not SiLU, an
    unknown RoPE type, or a missing or inconsistent size.
    """
    if not config.get("model_type"):
        raise CharterError(
            f"config.json has no model_type; expected one of {', '.join(ARCHITECTURES)}, as a Hugging Face model has it"
        )
    family = str(config["model_type"])
    if family not in ARCHITECTURES:
        raise CharterError(
            f"architecture {family[:80]!r} is not supported; supported model types: {', '.join(ARCHITECTURES)} "
            "(SmolLM and SmolLM2 are 'llama')"
        )
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CharterError(f"activation {str(config['hidden_act'])[:80]!r} is not supported; expected 'silu'")
    if config.get("mlp_bias"):
        raise CharterError("mlp_bias is not supported; expected a feed-forward without bias")
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    lacking = [key for key in (*needed, "max_position_embeddings") if not isinstance(config.get(key), int)]
    if lacking:
        raise CharterError(f"config.json lacks {', '.join(lacking)}; expected a complete {family} config")
    vocab_size, hidden_size, intermediate_size, num_layers, num_heads = (
        _size(key, config[key], most=MOST_LAYERS if key == "num_hidden_layers" else _LARGEST) for key in needed
    )
    num_kv_heads = _size("num_key_value_heads", config.get("num_key_value_heads") or num_heads)
    width = config.get("head_dim") or (128 if family == "qwen3" else hidden_size // num_heads)
    head_dim = _size("head_dim", width)
    if head_dim % 2:
        raise CharterError(f"heads of {head_dim} can't be rotated by halves; expected an even head_dim")
    if num_heads % num_kv_heads:
        raise CharterError(f"{num_heads} query heads cannot share {num_kv_heads} key heads; expected a divisor")
    theta, scaling = _rope(config, family)
    window, window_from = _window(config, family, num_layers)
    bias = bool(config.get("attention_bias", False)) and family in ("llama", "qwen3")
    return Shape(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_positions=_size("max_position_embeddings", config["max_position_embeddings"]),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=_real("rms_norm_eps", config.get("rms_norm_eps", _NORM_EPS), most=1.0),
        qkv_bias=bias or family == "qwen2",
        o_bias=bias,
        qk_norm=family == "qwen3",
        tied=bool(config.get("tie_word_embeddings", False)),
        family=family,
        sliding_window=window,
        window_from=window_from,
    )


def to_config(
    shape: Shape, eos_id: int | None = None, bos_id: int | None = None, pad_id: int | None = None
) -> dict[str, Any]:
    """The `config.json` of this shape, in the spelling that all versions of transformers, vLLM and llama.cpp read."""
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[shape.family]],
        "model_type": shape.family,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "rope_scaling": shape.rope_scaling,
        "tie_word_embeddings": shape.tied,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": "float32",
        "torch_dtype": "float32",
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    if shape.family in ("llama", "qwen3"):
        config["attention_bias"] = shape.o_bias
    if shape.family == "llama":
        config["mlp_bias"] = False
    if shape.family == "mistral":
        config["sliding_window"] = shape.sliding_window
    if shape.family in ("qwen2", "qwen3"):
        config["use_sliding_window"] = shape.sliding_window is not None
        config["sliding_window"] = shape.sliding_window
        config["max_window_layers"] = shape.window_from if shape.sliding_window else shape.num_layers
    return config


# Named shapes for `random:<name>`: "tiny" is about a million parameters with its embeddings.
NAMED = {
    "tiny": Shape(2048, 128, 352, 4, 4, 2, 32, 1024),
    "mini": Shape(4096, 256, 704, 6, 4, 2, 64, 2048),
    "small": Shape(8192, 384, 1024, 8, 6, 2, 64, 2048),
    "smollm2-135m": Shape(49152, 576, 1536, 30, 9, 3, 64, 8192, rope_theta=100_000.0),
}


def parse_random(ref: str) -> tuple[str, Shape, int]:
    """(name, shape, seed) of `random:NAME[@SEED]`. Raises CharterError for an unknown name or a malformed seed."""
    name, _, seed = ref.removeprefix("random:").partition("@")
    if name not in NAMED:
        raise CharterError(f"unknown shape {name!r} in {ref}; named shapes: {', '.join(NAMED)}")
    if seed and not (seed.isascii() and seed.isdigit()):
        raise CharterError(f"the seed in {ref} is {seed!r}; expected random:{name}@<whole number>")
    return name, NAMED[name], int(seed or 0)
