"""The corpus room over gigabytes under a memory cap: killed twice, it must end in the shards of a run never killed.

Text is made of what this machine has (the standard library, documents of installed packages, CHARTER_DATA/pretrain where
it is): runs of their words in which every seventh is another, so that few documents are near copies, with some true
copies, some rows that can't be read, and some personal data among them. It lies in large and packed files of rows and in
many small ones. The cap holds for all processes of the room together: in a control group where one can be made (then the
kernel kills what exceeds it), and by sums of resident memory, looked at 20 times a second.

    python benchmarks/corpus.py                   # 2 GB, 1 GiB; half an hour on two quiet cores, 10 GB of disk
    python benchmarks/corpus.py --megabytes 50
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from charter.ground.settings.places import data_folder

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[1]
CHANGED = 7  # every so manyth word is another
PRETRAIN = "pretrain"
# Sets of CHARTER_DATA that no document may hold items of, as far as they are there.
BENCHMARKS = (
    *("arc_challenge", "bbq", "gsm8k", "hhh_alignment", "humaneval", "mmlu", "mt_bench", "quality", "race_high"),
    *("triviaqa", "truthfulqa"),
)


def base_words(limit: int) -> list[str]:
    """Pieces between blanks of text that is here, line feeds included, up to `limit` bytes of each kind of source."""
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    documents = sorted(p for p in Path("/usr/share/doc").rglob("*") if p.suffix in (".txt", ".md", ".html"))
    packed = sorted((data_folder() / PRETRAIN).glob("*.gz"))
    words: list[str] = []
    for paths in (library, documents, packed):
        size = 0
        for path in paths:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                text = data.decode("utf-8")
                if path.name.endswith(".jsonl.gz"):
                    text = "\n".join(json.loads(line)["text"] for line in text.splitlines())
                size += len(text)
                words += text[: max(0, limit - size)].split(" ")
            if size > limit:
                break
    return words


def make_documents(total: int, seed: int) -> Iterator[str]:
    """Documents of about `total` bytes in all: 300 to 3,000 words, one in fifty a copy of one a little before."""
    rng = random.Random(seed)
    words = base_words(12 * MIB)
    recent: list[str] = []
    made = 0
    while made < total:
        if recent and rng.random() < 0.02:
            text = rng.choice(recent)
            text = text if rng.random() < 0.5 else f"{text} And one more word."
        else:
            count = rng.randint(300, 3000)
            start = rng.randrange(len(words) - count)
            chosen = words[start : start + count]
            for place in range(rng.randrange(CHANGED), count, CHANGED):
                chosen[place] = words[rng.randrange(len(words))]
            text = " ".join(chosen)
            recent = [*recent[-50:], text]
        if rng.random() < 0.01:
            text = f"{text} (write to someone{rng.randrange(999)}@mail.somewhere.org)"
        made += len(text)
        yield text


def write_input(folder: Path, total: int, seed: int) -> int:
    """Three quarters in large files of rows, one of them packed, the rest in small files; the bytes of text."""
    (folder / "small").mkdir(parents=True)
    size = number = 0
    with (
        (folder / "rows.jsonl").open("w", encoding="utf-8") as plain,
        gzip.open(folder / "packed.jsonl.gz", "wt", compresslevel=1, encoding="utf-8") as packed,
    ):
        for number, text in enumerate(make_documents(total, seed)):
            size += len(text)
            if number % 4 == 3:
                place = folder / "small" / f"{number // 4000:04d}"
                place.mkdir(exist_ok=True)
                (place / f"{number:07d}.txt").write_text(text, "utf-8")
            else:
                file = packed if number % 4 == 2 else plain
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                if number % 1000 == 0:
                    file.write('{"text": "a row that ends\n')
    return size


class Cap:
    """A control group with a limit of memory, where this process may make one; else nothing."""

    def __init__(self, limit: int) -> None:
        self.folder: Path | None = None
        for base, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            folder = Path(base) / f"charter-corpus-{os.getpid()}"
            with contextlib.suppress(OSError):
                folder.mkdir()
                self.folder = folder
                (folder / name).write_text(str(limit))
                break
            if self.folder is not None:
                self.remove()

    def enter(self) -> None:
        """Puts the calling process, and so all that it starts, into the group."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        if self.folder is not None:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    self.folder.rmdir()
                    break
                time.sleep(0.1)
            self.folder = None


def family_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and all below it; what they share counts for each."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


def attempt(recipe: Path, run: Path, cap: Cap, kill_at: str = "", count: int = 1) -> tuple[float, int, int | None]:
    """(seconds, peak bytes, exit status) of one `charter run`; killed once `count` files match `kill_at`."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "charter", "run", str(recipe), "--out", str(run)],
        env={**os.environ, "PYTHONPATH": str(recipe.parent / "src")},
        stdout=subprocess.DEVNULL,
        preexec_fn=cap.enter,
    )
    family, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, family_memory(family))
        if kill_at and len(list(run.glob(kill_at))) >= count:
            children = family.children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            _, alive = psutil.wait_procs(children, timeout=30)
            if alive:
                raise SystemExit(f"{len(alive)} workers outlived the room")
            return time.monotonic() - began, peak, None
        time.sleep(0.05)
    return time.monotonic() - began, peak, process.returncode


def digests(corpus: Path) -> dict[str, str]:
    """sha256 of all that follows from the text: shards, index, tokenizer, counts, page."""
    kept = (p for p in sorted(corpus.rglob("*")) if p.is_file() and p.name != "manifest.json")
    return {p.relative_to(corpus).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--cap-mib", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="charter-corpus-", dir=options.folder))
    try:
        facts = measure(options, work)
    finally:
        shutil.rmtree(work)
    print(json.dumps(facts, indent=1))
    if not facts["equal"] or facts["peak_mib"] > options.cap_mib:
        raise SystemExit("the shards differ, or the cap was exceeded")


def measure(options: argparse.Namespace, work: Path) -> dict[str, object]:
    """Makes the input, runs the room whole and killed twice, and compares."""
    size = write_input(work / "in", options.megabytes * 10**6, options.seed)
    tests = [f"data:{name}" for name in BENCHMARKS if (data_folder() / name).is_dir()]
    # edited sources would change the step's id between two attempts
    shutil.copytree(ROOT / "src", work / "src")
    recipe = work / "recipe.yaml"
    recipe.write_text(
        "name: corpus\nsteps:\n  - name: corpus\n    room: corpus\n"
        f"    from: {{sources: [./in/rows.jsonl, ./in/packed.jsonl.gz, ./in/small], benchmarks: {tests}}}\n"
        f"    settings: {{workers: {options.workers}, shard_tokens: {1 << 22}, vocabulary: {{size: 16384, sample_mib: 16}}}}\n"
    )
    cap = Cap(options.cap_mib * MIB)
    try:
        seconds, peak, status = attempt(recipe, work / "whole", cap)
        if status != 0:
            raise SystemExit(f"the run that nobody killed ended with {status}")
        batches = max(2, round(size / (4 * MIB)) // 3)
        state = ".partial/corpus"
        first = attempt(recipe, work / "killed", cap, f"{state}/state/examined/*.npz", batches)
        second = attempt(recipe, work / "killed", cap, f"{state}/files/train/*.tokens", 1)
        last = attempt(recipe, work / "killed", cap)
    finally:
        capped = cap.folder is not None
        cap.remove()
    if (first[2], second[2], last[2]) != (None, None, 0):
        raise SystemExit(f"expected two kills and an end, got {first[2]}, {second[2]}, {last[2]}")
    whole, killed = digests(work / "whole/corpus"), digests(work / "killed/corpus")
    counts = json.loads((work / "whole/corpus/counts.json").read_text())
    return {
        "megabytes": round(size / 1e6),
        "documents_read": counts["documents_read"],
        "documents_unique": counts["documents_unique"],
        "tokens": counts["tokens"],
        "benchmarks": len(tests),
        "dropped": {name: n for name, n in counts.items() if name.startswith("dropped_")},
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(size / 1e6 / seconds, 2),
        "seconds_killed": [round(one[0], 1) for one in (first, second, last)],
        "peak_mib": round(max(peak, *(one[1] for one in (first, second, last))) / MIB),
        "cap_mib": options.cap_mib,
        "kernel_enforced": capped,
        "files": len(whole),
        "shards": sum(name.endswith(".tokens") for name in whole),
        "equal": whole == killed,
    }


if __name__ == "__main__":
    main()
