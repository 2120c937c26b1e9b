"""Metrics of engines for Prometheus, with the extra ``szal[prometheus]``: see docs/observe.md."""

from szal.extra import optional

with optional("prometheus_client", extra="prometheus", feature="szal.contrib.prometheus"):
    import prometheus_client  # noqa: F401 (what is below needs it)

from szal.contrib.prometheus.sink import PrometheusSink

__all__ = ["PrometheusSink"]
