# SPDX-License-Identifier: Apache-2.0
"""Two loads on one relay in alternation: which share of the rate of the first has the second?"""
import statistics

from endure import tell


def compare(names, load, rounds, mode, least=0.90):
    """True where the median of the shares is at least `least` and no mail was lost. load(name,
    round) gives a result of ringpost-bench; who goes first changes from round to round."""
    base, other = names
    shares, good = [], True
    for n in range(rounds):
        rates, costs = {}, {}
        for name in names if n % 2 == 0 else reversed(names):
            result = load(name, n)
            rates[name] = result["rate"]["delivered_per_s"]
            costs[name] = result["relay"]["cpu_us_per_mail"]
            good &= result["totals"]["lost"] == 0
        shares.append(rates[other] / rates[base])
        print(f"{mode}: {base} {rates[base]:.0f}/s, {costs[base]:.1f} us; {other} "
              f"{rates[other]:.0f}/s, {costs[other]:.1f} us of CPU a mail: {shares[-1]:.3f}",
              flush=True)
    share = statistics.median(shares)
    return good & tell(f"rate {other} against {base}, {mode}", f"{share:.3f}",
                       f"at least {least:.2f}", share >= least)
