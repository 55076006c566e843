"""What ``import imagesmith`` and one spec cost over a bare interpreter, in milliseconds.

    python bench/import_time.py [--runs N] [--budget MS]

Each case is a fresh process; the median of its wall time, less that of ``pass``. Cases alternate, so that a
machine that changes its pace during the run changes them alike. Byte code is cached, as it is after the
first run of any program; "compiled" is that first run, with the byte code of imagesmith missing. With
``--budget`` the exit code is 1 when the whole (import, spec, id, is_container) costs more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHOLE = "import, spec, id, is_container"
CASES = {
    "bare": "pass",
    "standard library": "import base64, dataclasses, hashlib, json, typing",
    "import": "import imagesmith",
    WHOLE: "from imagesmith import ImageSpec\n"
    "spec = ImageSpec('app', packages=['numpy'], env={'A': '1'})\n"
    "spec.id, spec.is_container()",
}


def measure(runs: int) -> dict[str, float]:
    """Case -> median milliseconds of a process, less the bare one."""
    with tempfile.TemporaryDirectory() as cache:
        cached = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        cached["PYTHONPYCACHEPREFIX"] = str(Path(cache, "full"))
        compiled = {**cached, "PYTHONPYCACHEPREFIX": str(Path(cache, "less")), "PYTHONDONTWRITEBYTECODE": "1"}
        _run(CASES["standard library"], cached | {"PYTHONPYCACHEPREFIX": compiled["PYTHONPYCACHEPREFIX"]})
        cases = [(name, code, cached) for name, code in CASES.items()]
        cases.append((f"{WHOLE}, compiled", CASES[WHOLE], compiled))
        seconds: dict[str, list[float]] = {name: [] for name, _, _ in cases}
        for _ in range(runs + 1):
            for name, code, env in cases:
                seconds[name].append(_run(code, env))
    medians = {name: statistics.median(taken[1:]) * 1000 for name, taken in seconds.items()}
    return {name: each - medians["bare"] for name, each in medians.items()} | {"bare": medians["bare"]}


def _run(code: str, env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--budget", type=float, default=None, metavar="MS")
    options = parser.parse_args()
    costs = measure(options.runs)
    for name, cost in costs.items():
        print(f"{name:<42} {'' if name == 'bare' else '+'}{cost:.1f} ms")
    return int(options.budget is not None and costs[WHOLE] > options.budget)


if __name__ == "__main__":
    sys.exit(main())
