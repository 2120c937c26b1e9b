"""Metrics of engines for Prometheus, with the extra ``szal[prometheus]``: see docs/observe.md."""

try:
    import prometheus_client as _prometheus_client
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    told = 'szal.contrib.prometheus needs prometheus-client: pip install "szal[prometheus]"'
    raise ModuleNotFoundError(told, name="prometheus_client") from None

from szal.contrib.prometheus.sink import PrometheusSink

__all__ = ["PrometheusSink"]

del _prometheus_client
