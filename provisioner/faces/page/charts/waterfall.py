"""Geometry of a run's waterfall: a row for each attempt, or for each rank of several, with its phases drawn to scale.

All rows share one axis from the trigger until now. The axis is not quite linear: a phase is at least `LEAST` units
wide, so that a second is visible beside an hour; and a wait that is longer than everything else is shortened.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor

from provisioner.core.protocol.words import Step
from provisioner.core.views.receipt import Phase, Receipt
from provisioner.core.views.run import Attempt

#: Width of the chart in units, which are about pixels on a wide screen; and of the shortest phase.
WIDTH, LEAST = 900.0, 7.0
#: Maximum number of rows, and of ranks of one attempt.
ROWS, RANKS = 48, 16
#: Kinds of phases that are not overhead: those that wait, and the command.
KINDS = {"queued": "wait", Step.BARRIER.value: "wait", "kept": "wait", Step.COMMAND.value: "work"}
#: Seconds between two ticks of the axis: one of these, or a multiple of a day.
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
#: Maximum number of ticks, and the least distance between two of them, in units.
TICKS, APART = 8, 100.0


@dataclass(frozen=True)
class Bar:
    """A phase in a row. `x` and `width` are in percent of the chart's width."""

    name: str
    #: `wait` for a machine or for other ranks, `work` while the command executes, `overhead` for all other phases.
    kind: str
    x: float
    width: float
    began: float
    #: None while it lasts.
    ended: float | None
    seconds: float
    #: Whether it ran parallel to another phase of the same row.
    beside: bool
    billed: bool
    source: str
    #: Whether it is drawn shorter than it was.
    shortened: bool = False

    @property
    def live(self) -> bool:
        return self.ended is None


@dataclass(frozen=True)
class Row:
    """The phases of one rank of an attempt, in order."""

    attempt: int
    rank: int
    #: How it ended, "" while it lasts.
    outcome: str
    seconds: float
    bars: tuple[Bar, ...]

    @property
    def live(self) -> bool:
        return any(bar.live for bar in self.bars)

    @property
    def drawn(self) -> Sequence[Bar]:
        """The bars that last, the widest first: on a narrow screen the short ones are then above the wide ones."""
        return sorted((bar for bar in self.bars if bar.width), key=lambda bar: -bar.width)


@dataclass(frozen=True)
class Tick:
    """A mark on the axis."""

    x: float
    #: Since the trigger.
    seconds: int

    @property
    def label(self) -> str:
        """The time in its units that are not zero: 90 min is `1 h 30 min`."""
        days, rest = divmod(self.seconds, 86400)
        parts = (days, "d"), (rest // 3600, "h"), (rest // 60 % 60, "min"), (rest % 60, "s")
        return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0"


@dataclass(frozen=True)
class Waterfall:
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    #: Number of ranks without a row of their own.
    hidden: int
    #: From the trigger until the end, or until now.
    seconds: float
    #: Whether rows are ranks.
    ranked: bool

    @property
    def shortened(self) -> bool:
        return any(bar.shortened for row in self.rows for bar in row.bars)


@dataclass(frozen=True)
class _Axis:
    """A map from times to units, linear between neighbours."""

    times: tuple[float, ...]
    units: tuple[float, ...]

    def at(self, time: float) -> float:
        after = min(max(1, bisect_right(self.times, time)), len(self.times) - 1)
        (t0, t1), (x0, x1) = self.times[after - 1 : after + 1], self.units[after - 1 : after + 1]
        return x0 + (x1 - x0) * min(1.0, max(0.0, (time - t0) / (t1 - t0)))


def waterfall(item: Receipt, attempts: Sequence[Attempt], now: float) -> Waterfall:
    """Return the geometry; open phases last until `now`."""
    rows, hidden = _rows(item.phases)
    shown = [phase for _, phases in rows for phase in phases]
    first = item.created_at
    last = max((_end(phase, now) for phase in shown), default=now)
    spans = sorted({(phase.began, _end(phase, now)) for phase in shown if _end(phase, now) > phase.began})
    long = _too_long(shown, now, last - first)
    axis = _axis(first, last, spans, long)
    drawn = tuple(_drawn(key, phases, axis, attempts, long, now, item) for key, phases in rows)
    ranked = any(each.rank for each in attempts)
    return Waterfall(drawn, tuple(_ticks(axis, first, last, long)), hidden, max(0.0, last - first), ranked)


_Key = tuple[int, int]
_Rows = list[tuple[_Key, list[Phase]]]
_Spans = Sequence[tuple[float, float]]


def _end(phase: Phase, now: float) -> float:
    return phase.ended if phase.ended is not None else max(now, phase.began)


def _rows(phases: Sequence[Phase]) -> tuple[_Rows, int]:
    """Return the phases by attempt and rank, and the number of ranks that are left out.

    If there would be more than ROWS rows, each attempt but the latest has one row: its main line.
    """
    number = len({(phase.attempt, phase.rank) for phase in phases if phase.name != "closing"})
    latest = max((phase.attempt for phase in phases), default=0)
    rows: dict[_Key, list[Phase]] = {}
    for phase in phases:
        key = phase.attempt, phase.rank
        if phase.name == "closing":
            # The run closes after its last attempt, or after its last wait.
            key = latest, 0
        elif number > ROWS and phase.attempt != latest:
            if phase.beside:
                continue
            key = phase.attempt, 0
        rows.setdefault(key, []).append(phase)
    kept = [(key, rows[key]) for key in sorted(rows) if key[1] < RANKS][-ROWS:]
    return kept, max(0, number - len(kept))


def _too_long(phases: Sequence[Phase], now: float, total: float) -> dict[tuple[float, float], float]:
    """Return the waits that are longer than everything else, each with the factor by which it is shortened."""
    if all(phase.name in ("queued", "closing") for phase in phases):
        return {}
    waits = {(phase.began, _end(phase, now)) for phase in phases if phase.name == "queued"}
    lengths = {span: span[1] - span[0] for span in waits}
    rest = total - sum(lengths.values())
    return {span: rest / length for span, length in lengths.items() if 0 < rest < length}


def _axis(first: float, last: float, spans: _Spans, long: Mapping[tuple[float, float], float]) -> _Axis:
    """Return the map from times to 0 … WIDTH, in which each span is at least LEAST wide if there is room for all."""
    if last <= first:
        return _Axis((first, first + 1), (0.0, WIDTH))
    times = sorted({first, last, *(each for span in spans for each in span)})
    place = {time: number for number, time in enumerate(times)}
    # Of the spans that end at a time, only the one that began last matters.
    begins = {place[ended]: place[began] for began, ended in spans}
    weights = [(b - a) * next((f for (c, d), f in long.items() if c <= a and b <= d), 1.0) for a, b in pairwise(times)]

    def placed(scale: float) -> list[float]:
        units = [0.0]
        for number, weight in enumerate(weights, 1):
            at = units[-1] + weight * scale
            units.append(max(at, units[begins[number]] + LEAST) if number in begins else at)
        return units

    low, high = 0.0, WIDTH / sum(weights)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if placed(middle)[-1] <= WIDTH else (low, middle)
    units = placed(low)
    return _Axis(tuple(times), tuple(unit * WIDTH / units[-1] for unit in units))


def _drawn(
    key: _Key,
    phases: Sequence[Phase],
    axis: _Axis,
    attempts: Sequence[Attempt],
    long: Mapping[tuple[float, float], float],
    now: float,
    item: Receipt,
) -> Row:
    attempt, rank = key
    known = next((each for each in attempts if (each.attempt, each.rank) == key), None)
    outcome = known.outcome if known else item.outcome
    bars: list[Bar] = []
    for phase in phases:
        began, ended = phase.began, _end(phase, now)
        x = axis.at(began)
        bars.append(
            Bar(
                name=phase.name,
                kind=_kind(phase),
                x=_percent(x),
                width=_percent(axis.at(ended) - x) if ended > began else 0.0,
                began=began,
                ended=phase.ended,
                seconds=ended - began,
                # In the row of another rank than the main line's, all phases are beside the main line.
                beside=phase.beside and any(bar.began < ended and began < bar.began + bar.seconds for bar in bars),
                billed=phase.billed,
                source=phase.source,
                shortened=(began, ended) in long,
            )
        )
    ordered = tuple(sorted(bars, key=lambda bar: (bar.began, bar.beside)))
    seconds = max(bar.began + bar.seconds for bar in ordered) - ordered[0].began
    return Row(attempt, rank, str(outcome or ""), seconds, ordered)


def _kind(phase: Phase) -> str:
    return KINDS.get(phase.name, "overhead")


def _percent(units: float) -> float:
    return round(100 * units / WIDTH, 3)


def _ticks(axis: _Axis, first: float, last: float, long: Mapping[tuple[float, float], float]) -> Iterable[Tick]:
    """Yield the marks of the axis; a shortened wait has none inside."""
    parts = list(pairwise([first, *(each for span in sorted(long) for each in span), last]))
    total = sum((end - begin) * long.get((begin, end), 1.0) for begin, end in parts)
    step = next((each for each in STEPS if total / each <= TICKS), 0) or 86400 * max(1, round(total / 86400 / TICKS))
    before = -APART
    for begin, end in parts:
        if (begin, end) in long:
            continue
        for seconds in range(step * ceil((begin - first) / step), floor(end - first) + 1, step):
            x = axis.at(first + seconds)
            if x - before >= APART and x <= WIDTH - APART / 2:
                before = x
                yield Tick(_percent(x), seconds)
