#!/usr/bin/python3
"""Computes reference.json: the statistics of the recorded runs and series by NumPy and SciPy.

Nothing here is translated from the Go code: where SciPy has the statistic it is SciPy's, otherwise the
definition is written out with NumPy. Run it with Debian's python3-scipy:

    python3 golden/reference.py > golden/reference.json
"""

import itertools
import json
import pathlib
import sys

import numpy as np
import scipy
import scipy.stats as st

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNITS = ("ops/s", "p99-ns", "cpu-ns/op")


def samples(path):
    out = {}
    for line in path.read_text().splitlines():
        if not line.startswith("Benchmark"):
            continue
        name, _, *fields = line.split("\t")
        for field in fields:
            value, unit = field.split(" ")
            if unit in UNITS:
                out.setdefault(f"{name} {unit}", []).append(float(value))
    return out


def hettmansperger_sheather(values, level=0.95):
    """The interpolated interval, straight from the binomial distribution."""
    x, n = np.sort(values), len(values)
    if n < 6:
        return x[0], x[-1], 1 - 2 * st.binom.cdf(0, n, 0.5)
    gamma = lambda d: st.binom.cdf(n - d, n, 0.5) - st.binom.cdf(d - 1, n, 0.5)
    d = max(k for k in range(1, n // 2 + 1) if gamma(k) >= level)
    i = (gamma(d) - level) / (gamma(d) - gamma(d + 1))
    lam = (n - d) * i / (d + (n - 2 * d) * i)
    return (1 - lam) * x[d - 1] + lam * x[d], (1 - lam) * x[n - d] + lam * x[n - d - 1], level


def mann_whitney(a, b):
    if len(set(a) | set(b)) == len(a) + len(b):
        r = st.mannwhitneyu(a, b, alternative="two-sided", method="exact")
        return float(r.statistic), float(r.pvalue)
    ranks = st.rankdata(np.concatenate([a, b]))
    n, mean = len(a), len(a) * (len(ranks) + 1) / 2
    seen = abs(ranks[:n].sum() - mean)
    sums = np.array([ranks[list(c)].sum() for c in itertools.combinations(range(len(ranks)), n)])
    return float(ranks[:n].sum() - n * (n + 1) / 2), float(np.mean(np.abs(sums - mean) >= seen - 1e-9))


def autocorrelation(x, lag):
    d = np.asarray(x) - np.mean(x)
    return float(np.dot(d[: len(d) - lag], d[lag:]) / np.dot(d, d))


def batch_means(x, batches=10):
    size = len(x) // batches
    means = np.asarray(x[len(x) - size * batches :]).reshape(batches, size).mean(axis=1)
    return [float(v) for v in st.t.interval(0.95, batches - 1, means.mean(), st.sem(means))]


def geyer(x):
    """Geyer's initial monotone sequence: pairs of lags, running minimum, while positive."""
    pairs, lag = [], 0
    while lag + 1 < len(x) // 2:
        pairs.append(autocorrelation(x, lag) + autocorrelation(x, lag + 1))
        lag += 2
    stop = next((i for i, p in enumerate(pairs) if p <= 0), len(pairs))
    time = 2 * np.minimum.accumulate(pairs[:stop]).sum() - 1 if stop else 1
    return float(len(x) / max(1.0, time))


def mser5(x):
    """Truncation point of MSER-5 after clipping to the fences of the second half, as an index of the series."""
    x = np.asarray(x, dtype=float)
    q1, q3 = np.percentile(x[len(x) // 2 :], [25, 75])
    x = np.clip(x, q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))
    z = x[: len(x) // 5 * 5].reshape(-1, 5).mean(axis=1)
    scores = [np.var(z[d:]) / len(z[d:]) for d in range(len(z) // 2 + 1)]
    return 5 * int(np.argmin(scores))


def main():
    a, b = samples(ROOT / "recorded/a.txt"), samples(ROOT / "recorded/b.txt")
    rows, p_values = [], []
    for key in sorted(set(a) & set(b)):
        x, y = np.array(a[key]), np.array(b[key])
        lo, hi, confidence = hettmansperger_sheather(x)
        boot = st.bootstrap((x,), np.median, n_resamples=20000, method="percentile", random_state=1).confidence_interval
        u, p = mann_whitney(x, y)
        z = st.mannwhitneyu(x, y, alternative="two-sided", method="asymptotic").pvalue
        p_values.append(p)
        rows.append({
            "name": key, "mean": float(np.mean(x)), "stddev": float(np.std(x, ddof=1)), "median": float(np.median(x)),
            "lo": float(lo), "hi": float(hi), "confidence": float(confidence), "boot_lo": float(boot.low), "boot_hi": float(boot.high),
            "ratio": float(np.median(y) / np.median(x)), "u": u, "p": p, "p_normal": float(z),
        })
    order, running = np.argsort(p_values, kind="stable"), 0.0
    for rank, i in enumerate(order):  # Holm (1979), step down
        running = max(running, min(1.0, p_values[i] * (len(p_values) - rank)))
        rows[i]["p_holm"] = running
    series = []
    for name in ("Michelso", "Mavro"):
        x = [float(v) for v in (ROOT / f"nist/{name}.txt").read_text().split()]
        series.append({"name": name, "lag1": autocorrelation(x, 1), "lag7": autocorrelation(x, 7), "effective": geyer(x), "batch": batch_means(x), "steady_from": mser5(x)})
    for t in json.loads((ROOT / "recorded/pace.json").read_text()):
        x = [float(v) for v in t["answered"]]
        series.append({"name": f"{t['contender']} round {t['round']}", "lag1": autocorrelation(x, 1), "lag7": autocorrelation(x, 7), "effective": geyer(x), "batch": batch_means(x), "steady_from": mser5(x)})
    json.dump({"by": f"NumPy {np.__version__}, SciPy {scipy.__version__}", "samples": rows, "series": series}, sys.stdout, indent=1)
    print()


main()
