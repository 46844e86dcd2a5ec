"""Adapters in the layout of PEFT, which vLLM and transformers read: `adapter_config.json` and a safetensors file with
an A and a B for every adapted part, under the names of the base model's own modules.

    W_p + alpha / rank * B_p A_p     A_p [rank, inputs], B_p [outputs, rank]
"""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model.linear import Projection
from charter.ground.model.transformer import Transformer

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_ROOT = "base_model.model.model.layers"


def save_adapter(model: Transformer, folder: Path | str, start: str = "") -> None:
    """Write a model's adapters; `start` names the checkpoint that they were trained on.

    Raises CharterError for a model without adapters.
    """
    tensors: dict[str, Tensor] = {}
    adapters = []
    for number, layer in enumerate(model.blocks()):
        for group, projections in (
            ("self_attn", (layer.qkv, layer.out)),
            ("mlp", (layer.gate_up, layer.down)),
        ):
            for projection in projections:
                for part, (low, high) in _parts(projection).items():
                    tensors[f"{_ROOT}.{number}.{group}.{part}.lora_A.weight"] = low
                    tensors[f"{_ROOT}.{number}.{group}.{part}.lora_B.weight"] = high
                if projection.adapter is not None:
                    adapters.append(projection.adapter)
    if not adapters:
        raise CharterError("the model has no adapters to write; train with lora, or write its whole weights")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": start,
        "r": adapters[0].rank,
        "lora_alpha": adapters[0].scale * adapters[0].rank,
        "lora_dropout": 0.0,
        "target_modules": sorted({part for adapter in adapters for part in adapter.parts}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _parts(projection: Projection) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each adapted part."""
    adapter = projection.adapter
    if adapter is None:
        return {}
    down = adapter.down.detach()
    return {
        name: (down[i * adapter.rank : (i + 1) * adapter.rank], adapter.up[name].detach())
        for i, name in enumerate(adapter.parts)
    }
