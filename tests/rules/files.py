"""Files of a small rule book, and ways to change them."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.conftest import ROOT


def of_rules_md() -> dict[str, bytes]:
    """The example that RULES.md prints."""
    page = (ROOT / "gateway/rules/RULES.md").read_text(encoding="utf-8")
    files: dict[str, bytes] = {}
    for block in re.findall(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE):
        text = "".join(line[4:] + "\n" for line in block.splitlines()).strip("\n") + "\n"
        for mark, name in (
            ('"FeatureCollection"', "places.geojson"),
            ('"permits/v1"', "permits.toml"),
            ('"kitchens/v1"', "kitchens.toml"),
            ("[fume_limit]", "rules2.toml"),
            ('"rules/v1"', "rules.toml"),
        ):
            if mark in text:
                assert name not in files
                files[name] = text.encode()
                break
    return files


def feature(properties: dict[str, Any], coordinates: Any, kind: str = "Polygon") -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def geojson(*features: dict[str, Any], **members: Any) -> bytes:
    """A file with a feature to a line."""
    head = json.dumps({"type": "FeatureCollection", "datum": "WGS-84", **members}, ensure_ascii=False)
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in features)
    return f'{head[:-1]}, "features": [\n{lines}\n]}}'.encode()


def box(lon: float, lat: float, size: float = 0.002) -> list[list[list[float]]]:
    """Coordinates of a square."""
    return [[[lon, lat], [lon + size, lat], [lon + size, lat + size], [lon, lat + size], [lon, lat]]]


def site(place_id: str = "s1", lon: float = 121.0, lat: float = 30.7, **properties: Any) -> dict[str, Any]:
    return feature({"id": place_id, "kind": "site", "name": "工地", **properties}, box(lon, lat))


def problems(error: Any) -> list[str]:
    return [str(problem) for problem in error.value.problems]
