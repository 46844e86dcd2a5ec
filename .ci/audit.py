"""Known vulnerabilities of what is installed, or of a list of requirements: `python .ci/audit.py [FILE]`.

pip-audit asks the registry of packages about each. A found one fails; a registry that can't be reached, or that knows
nothing about vulnerabilities, is said in a line and fails nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys

SECONDS = 600


def ask(files: list[str]) -> str | None:
    """What pip-audit says in JSON, None where it couldn't ask."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "pypi", "--format", "json"]
    command += ["--progress-spinner", "off"]
    for file in files:
        command += ["--no-deps", "--disable-pip", "--requirement", file]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.stdout.lstrip().startswith("{") else None


def judged(said: str | None) -> tuple[int, list[str]]:
    """(exit status, lines to print) of what pip-audit said."""
    if said is None:
        return 0, ["audit skipped: pip-audit isn't installed, or no registry answers it"]
    packages = json.loads(said)["dependencies"]
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        return 0, [f"audit skipped: the registry tells nothing about any of {len(packages)} packages"]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in asked
        for found in package["vulns"]
    ]
    vulnerable = len(lines)
    silent = len(packages) - len(asked)
    lines.append(f"audit: {vulnerable} known vulnerabilities in {len(asked)} packages, {silent} not asked about")
    return int(vulnerable > 0), lines


if __name__ == "__main__":
    status, told = judged(ask(sys.argv[1:]))
    print("\n".join(told))
    sys.exit(status)
