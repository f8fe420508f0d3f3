"""The verb probe: what events would cost, before they are switched on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qtctl.commands.context import Context, Result
from qtctl.commands.following import until_stopped
from qtctl.commands.formatting import own_words
from qtctl.commands.options import BACKEND, OWN, SELECTION
from qtctl.commands.progress import Progress
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import duration, selection
from qtctl.errors import UsageError
from qtctl.text.style import Style, counted
from qtctl.text.tables import table
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.session.probe import Price, Probe


@command(
    "probe",
    arguments=(
        *SELECTION,
        arg(
            "--each",
            metavar="TIME",
            type=duration,
            default=0.2,
            help="how long events are sampled (default: 200ms)",
        ),
        BACKEND,
        OWN,
    ),
    examples=(
        "qtctl probe 'virtio_*' @memory",
        "qtctl probe '*' --except 'qmp_*' --each 1s",
        "qtctl probe @kvm --json | jq '.events[] | select(.share > 0.1)'",
    ),
    details="""\
Switches events on for a moment, counts, and restores everything, also on Ctrl-C; the prices known
until then are printed. Events are sampled together as long as they log less than 10,000 lines/s in
sum; louder ones are sampled alone, and no longer than it takes to know the price. BUDGET is the
share of 200,000 lines/s. Events that were on before are counted as they are, and stay on.
Off a terminal a row is: name, lines/s, bytes/s, share of the budget in per cent.""",
    selects=True,
    guests="each",
)
async def probe(context: Context, options: Options) -> Result:
    """Sample events and list their prices."""
    from qtctl.session.probe import Probe

    chosen = selection(options)
    if not chosen:
        raise UsageError("probe needs a PATTERN or --file", hint="qtctl list")
    context.stops = True
    async with context.attached(lend=True) as session:
        prober = Probe(
            session, chosen, each_s=options.each, backend=options.backend, own=options.own
        )
        await _run(context, prober)
    if prober.unavailable:
        context.say(f"{counted(len(prober.unavailable), 'event')} cannot be switched on")
    if prober.stream.counts.perhaps_own:
        context.say(f"left out: {own_words(prober.stream.counts)}")
    return _result(context, prober)


async def _run(context: Context, prober: Probe) -> None:
    """Run the probe to its end or until stopped, with a progress line."""
    total = len(prober.picked)
    label = f"of {total} events priced"
    with Progress(context, total, lambda done: f"{done:.0f} {label}") as progress:
        async with (
            contextlib.aclosing(prober.run()) as samples,
            until_stopped(context.stop, None, prober.stop),
        ):
            async for left in samples:
                progress.update(total - left)


def _result(context: Context, prober: Probe) -> Result:
    from qtctl.analysis.flood import BUDGET_PER_S

    prices = sorted(prober.prices.values(), key=lambda price: (-price.per_s, price.name))
    loud = [price for price in prices if price.per_s]
    unknown = len(prober.picked) - len(prices) - len(prober.unavailable)
    document = {
        "budget_per_s": BUDGET_PER_S,
        "backend": str(prober.stream.backend),
        "complete": not unknown,
        "events": [
            {
                "name": price.name,
                "per_s": round(price.per_s, 1),
                "bytes_per_s": round(price.bytes_per_s, 1),
                "share": round(price.per_s / BUDGET_PER_S, 5),
                "seconds": round(price.seconds, 4),
                "alone": price.alone,
            }
            for price in prices
        ],
    }
    if len(prices) > len(loud):
        context.say(f"{counted(len(prices) - len(loud), 'event')} logged nothing")
    if unknown:
        context.say(f"{counted(unknown, 'event')} not sampled")
    return Result(document, lambda style: _lines(style, loud, BUDGET_PER_S))


def _lines(style: Style, prices: list[Price], budget: int) -> Iterator[str]:
    figure = short if style.terminal else "{:.0f}".format
    rows = [
        (
            price.name,
            figure(price.per_s),
            figure(price.bytes_per_s),
            f"{100 * price.per_s / budget:.1f}{'%' if style.terminal else ''}",
        )
        for price in prices
    ]
    roles = {"BUDGET": lambda cell: "bad" if float(cell.rstrip("%")) > 100 else None}
    return table(style, ("EVENT", "LINES/s", "BYTES/s", "BUDGET"), rows, roles=roles)
