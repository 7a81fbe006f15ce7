"""Metrics: names by the rule, labels bounded, text that Prometheus reads."""

import re

from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics

LABELS = {"source", "kind", "result", "loop", "method", "status", "state", "outcome", "rule", "topic"}


def test_names_follow_the_rule_and_every_one_is_explained() -> None:
    for family in metrics.REGISTRY.collect():
        assert re.fullmatch(r"gateway(_[a-z]+)+", family.name)
        assert family.documentation
        assert family.type in {"counter", "gauge"}


def test_labels_come_from_a_closed_set() -> None:
    for collector in metrics.REGISTRY._collector_to_names:
        assert set(collector._labelnames) <= LABELS  # type: ignore[attr-defined]


def test_the_exposition_can_be_read_back() -> None:
    before = metrics.REGISTRY.get_sample_value("gateway_seals_total") or 0
    metrics.SEALS.inc()
    metrics.STAMPS.labels("stored").inc(0)
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert families["gateway_seals"].samples[0].value == before + 1
    assert "text/plain" in metrics.CONTENT_TYPE
