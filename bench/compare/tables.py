# SPDX-License-Identifier: Apache-2.0
"""The report in Markdown. PURE: text from runs."""
import matrix
import verdict

TEXT_OF_BAR = {
    "rate": "rate, times that of {against}: at least {least:g}",
    "cpu": "CPU time a mail, a fraction of that of {against}: at most 1/{least:g}",
    "share": "share of the rate without relay: at least {least:g}",
    "memory": "memory (PSS), a fraction of that of {against}: at most 1/{least:g}",
}


def number(value):
    """Three digits that count."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.2f}"


def with_spread(f):
    if f is None:
        return "–"
    if f.count == 1:
        return number(f.median)
    return f"{number(f.median)} ({number(f.least)} to {number(f.greatest)})"


def scaled(f, factor):
    return f and f._replace(median=f.median * factor, least=f.least * factor,
                            greatest=f.greatest * factor)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def show_bars(verdicts, title_of):
    rows = []
    for v in verdicts:
        text = TEXT_OF_BAR[v.bar.kind].format(against=title_of.get(matrix.AGAINST, matrix.AGAINST),
                                              least=v.bar.least)
        said = {None: "not measured", True: "met", False: "**not met**"}[v.met]
        value = with_spread(v.value)
        if v.value and v.bar.kind in ("cpu", "memory"):
            value = f"1/{number(v.value.median)}"
            if v.value.count > 1:
                value += f" (1/{number(v.value.least)} to 1/{number(v.value.greatest)})"
        rows.append((title_of.get(v.bar.relay, v.bar.relay), matrix.scenario(v.bar.scenario).title,
                     text, value, said))
    return table(("relay", "scenario", "bar", "measured", ""), rows)


def show_scenario(runs, scenario, relays):
    rows = []
    for relay in relays:
        def of(paths, factor=1.0, name=relay.name):
            return with_spread(scaled(verdict.figure(runs, scenario.name, name, paths), factor))

        times, normalised = "1", "1"
        if relay.name != verdict.SUBJECT:
            times = with_spread(verdict.ratio(runs, scenario.name, relay.name, verdict.RATE, True))
            normalised = with_spread(
                verdict.ratio(runs, scenario.name, relay.name, verdict.SHARE, True))
        rows.append((relay.title, of(verdict.RATE), times, normalised, of(verdict.SHARE),
                     of(verdict.CPU), of(verdict.MEMORY, 1 / (1 << 20)),
                     of(verdict.ACCEPT_P50, 1e-3), of(verdict.ACCEPT_P99, 1e-3)))
    head = ("relay", "mails/s", "Ringpost is times as fast", "the same, normalised",
            "share of the rate without relay", "CPU µs a mail", "PSS MiB",
            "accept p50 ms", "accept p99 ms")
    return table(head, rows)


def show_a_mail(runs, scenario, relays):
    """What else was counted: commands and bytes of a server beside a relay."""
    rows = []
    for relay in relays:
        names = sorted({name for run in runs if run["compare"]["relay"] == relay.name
                        for name in run["compare"].get("a_mail", {})})
        rows += [(relay.title, name.replace("_", " "), with_spread(verdict.figure(
            runs, scenario.name, relay.name, (f"compare.a_mail.{name}",)))) for name in names]
    return ["", *table(("relay", "counted", "a mail"), rows)] if rows else []


def show_relays(relays, syncs, versions):
    rows = []
    for relay in relays:
        seen = syncs.get(relay.name)
        rows.append((relay.title, versions.get(relay.name, "–"), relay.synced,
                     "not observed" if seen is None else str(seen), relay.delivery))
    return table(("relay", "version", "on stable storage before 250",
                  "syncs seen before the 250 of one mail", "delivery"), rows)


def show_losses(runs):
    rows = []
    for run in runs:
        totals = run["totals"]
        if any(totals.get(name) for name in ("lost", "duplicated", "mails_refused",
                                             "mails_in_doubt", "connection_errors")):
            rows.append((run["compare"]["relay"], run["compare"]["scenario"],
                         str(run["compare"]["round"]), str(totals.get("lost", 0)),
                         str(totals.get("duplicated", 0)), str(totals.get("mails_refused", 0)),
                         str(totals.get("mails_in_doubt", 0)),
                         str(totals.get("connection_errors", 0))))
    if not rows:
        return ["No run lost, duplicated or refused a mail."]
    return table(("relay", "scenario", "round", "lost", "duplicated", "refused", "in doubt",
                  "connection errors"), rows)


def show(runs, relays, syncs, versions, machine):
    title_of = {relay.name: relay.title for relay in relays}
    rounds = max((run["compare"]["round"] for run in runs), default=0)
    lines = ["# Relays side by side", "",
             f"{machine}. {rounds} rounds in alternation; medians, with the least and the greatest "
             f"in brackets; {matrix.CONNECTIONS} connections. Ratios are taken within a round. "
             "Normalised: each rate divided by the rate without relay of its own run.", "",
             "## Bars", "", *show_bars(verdict.judge(runs), title_of), "",
             "## Relays", "", *show_relays(relays, syncs, versions), ""]
    for scenario in matrix.SCENARIOS:
        if any(run["compare"]["scenario"] == scenario.name for run in runs):
            lines += [f"## {scenario.title}", "", *show_scenario(runs, scenario, relays),
                      *show_a_mail(runs, scenario, relays), ""]
    return "\n".join(lines + ["## Losses", "", *show_losses(runs), ""])
