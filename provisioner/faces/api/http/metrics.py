"""Metrics for Prometheus: counted as events happen, or read from the store at each scrape."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from provisioner.core.cost.receipt import Receipt
from provisioner.service.tally import Tally

#: Upper bounds of histogram buckets in seconds. For phases: from a short wait in the queue to a long training.
PHASES = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)
PASSES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
REQUESTS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)


class Meters:
    """The implementation of provisioner.ports.meter.Meter, and counters of the API's requests; thread-safe.

    Counters restart at 0 with the process, as Prometheus expects, except those that are read from the store.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._passes = Histogram(
            "provision_pass_seconds", "Duration of a pass of the control plane.", buckets=PASSES, registry=registry
        )
        self._passed_at = Gauge(
            "provision_last_pass_timestamp_seconds",
            "Unix time of the last pass that saw the whole installation.",
            registry=registry,
        )
        self._refusals = Counter(
            "provision_launch_errors", "Rejected launches and offers, by AWS error code.", ["code"], registry=registry
        )
        self._phases = Histogram(
            "provision_phase_seconds",
            "Duration of the phases of finished runs.",
            ["phase"],
            buckets=PHASES,
            registry=registry,
        )
        self._seconds = Counter(
            "provision_machine_seconds",
            "Upper bound of the billed seconds of machines of finished runs.",
            ["market"],
            registry=registry,
        )
        self._requests = Counter(
            "provision_http_requests", "Answered HTTP requests.", ["method", "route", "status"], registry=registry
        )
        self._answers = Histogram(
            "provision_http_request_seconds",
            "Seconds until the answer began.",
            ["route"],
            buckets=REQUESTS,
            registry=registry,
        )
        self._reports = Counter(
            "provision_csp_reports", "Reports of browsers that refused to execute or load something.", registry=registry
        )
        #: Time of the last pass that saw the whole installation.
        self.passed_at = 0.0

    def passed(self, seconds: float, at: float, *, whole: bool) -> None:
        self._passes.observe(seconds)
        if whole:
            self.passed_at = at
            self._passed_at.set(at)

    def refused(self, code: str) -> None:
        self._refusals.labels(code or "unknown").inc()

    def ended(self, receipt: Receipt) -> None:
        for phase in receipt.phases:
            if phase.ended is not None and not phase.beside:
                self._phases.labels(phase.name).observe(max(0.0, phase.ended.at - phase.began.at))
        for machine in receipt.machines:
            self._seconds.labels(machine.market).inc(machine.seconds_at_most)

    def counted(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._answers.labels(route).observe(seconds)

    def reported(self) -> None:
        """Count a report of a browser that refused to execute or load something on the page."""
        self._reports.inc()

    def read(self, look: Callable[[], Tally], followers: Callable[[], int]) -> None:
        """Add the metrics that each scrape reads from the store."""
        self._registry.register(_Stored(look, followers))

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _Stored(Collector):
    def __init__(self, look: Callable[[], Tally], followers: Callable[[], int]) -> None:
        self._look = look
        self._followers = followers

    def describe(self) -> Iterator[Metric]:
        # The store is read at each scrape, and not when this collector is registered.
        return iter(())

    def collect(self) -> Iterator[Metric]:
        found = self._look()
        runs = GaugeMetricFamily(
            "provision_runs", "Runs that are not done, by state and cause of waiting.", labels=["state", "cause"]
        )
        for (state, cause), count in found.runs.items():
            runs.add_metric([state, cause], count)
        yield runs
        outcomes = CounterMetricFamily("provision_runs_ended", "Ended runs, by outcome.", labels=["outcome"])
        for outcome, count in found.outcomes.items():
            outcomes.add_metric([outcome], count)
        yield outcomes
        machines = GaugeMetricFamily(
            "provision_machines", "Machines that are not listed as terminated.", labels=["market", "state"]
        )
        for (market, kind), count in found.machines.items():
            machines.add_metric([market, kind], count)
        yield machines
        yield GaugeMetricFamily(
            "provision_oldest_obligation_seconds",
            "Seconds since the oldest decision to end a machine that is not listed as terminated yet; 0 if none.",
            value=found.oldest_obligation,
        )
        yield GaugeMetricFamily("provision_followers", "Followers of logs now.", value=self._followers())
