# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and ratios. PURE.

Rounds are taken in alternation, so that what disturbs the machine for a while disturbs all relays.
A ratio is taken within each round, of runs that lie minutes apart at most, and the median of these
is reported, with the least and the greatest.
"""
import collections

Figure = collections.namedtuple("Figure", "median least greatest count")


def median(values):
    """Of the middle, or the mean of the two in the middle. None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def figure(values):
    """What a table shows of values; those that are None were not measured and do not count."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Figure(median(known), min(known), max(known), len(known))


def ratios(above, below):
    """By round, {round: value} over {round: value}; only rounds that both have, above zero."""
    return figure([above[key] / below[key] for key in sorted(above.keys() & below.keys())
                   if above[key] is not None and below[key]])


def spread(f):
    """How far the values are apart, as a share of the median."""
    return (f.greatest - f.least) / f.median if f.median else None
