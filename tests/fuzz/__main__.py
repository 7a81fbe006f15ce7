"""Coverage-guided fuzzing of the codecs: `python -m tests.fuzz TARGET [libFuzzer options]`, such as

    python -m tests.fuzz jt808 -max_total_time=600 -rss_limit_mb=512 corpus/

Needs `atheris` in the environment (not in the lock files: it has no wheels for every supported Python). Whatever comes
in, a target must not raise, must give the same for every way to cut the stream, and must hold no more than its limit:
an assertion that fails is a finding, and libFuzzer writes the input that caused it.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["drivers", "firmware_profiles", "tests.fuzz.targets"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run one target until libFuzzer's options end it."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"tests.fuzz: no target {name!r}; one of: {', '.join(TARGETS)}")
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


main()
