"""`./dev bench [name …] [--json]`: every figure that the documents promise, measured in one run."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict

from tests.bench.figure import Figure

BENCHES = ("copy", "verify", "seal", "store", "uplink", "process", "trackers", "modbus")


def main(arguments: list[str]) -> int:
    """Run the named benches (all by default); exit 1 when a goal is missed."""
    as_json = "--json" in arguments
    chosen = [name for name in arguments if not name.startswith("-")] or list(BENCHES)
    unknown = sorted(set(chosen) - set(BENCHES))
    if unknown:
        sys.stderr.write(f"bench: no bench named {', '.join(unknown)}; there are {', '.join(BENCHES)}\n")
        return 2
    figures: list[Figure] = []
    for name in chosen:
        module = importlib.import_module(f"tests.bench.{name}")
        for figure in module.run():
            figures.append(figure)
            if not as_json:
                print(_line(figure), flush=True)
    if as_json:
        print(json.dumps([asdict(figure) for figure in figures]))
    return 1 if any(figure.met is False for figure in figures) else 0


def _line(figure: Figure) -> str:
    mark = {True: "met ", False: "MISS", None: "    "}[figure.met]
    value = f"{figure.value:,.2f}" if figure.value < 1000 else f"{figure.value:,.0f}"
    return f"{mark} {figure.name:<58} {value:>12} {figure.unit:<10} {figure.goal:<10} {figure.detail}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
