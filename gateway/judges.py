"""The one table of judges: name -> what makes one. The name is part of what is remembered (gateway.judge)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.rules.judging import Judge


def judges() -> Mapping[str, Callable[[], Judge]]:
    """One for each family of devices. Imported here: they cost memory only where something is judged."""
    from gateway.rules.fume import Fume
    from gateway.rules.trucks import Trucks

    return {"trucks": Trucks, "fume": Fume}
