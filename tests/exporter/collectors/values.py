"""Runs one collector and returns its samples in a form that is easy to compare; repeats are refused."""

from exporter.collectors.base import Collect, Samples, Scrape

Labels = frozenset[tuple[str, str]]


def collected(collect: Collect, scrape: Scrape) -> dict[str, dict[Labels, float]]:
    """Return every sample by name and labels. Two samples with the same labels would lose the whole scrape."""
    out = Samples()
    collect(scrape, out)
    found: dict[str, dict[Labels, float]] = {}
    for family in out.collect():
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name}{sample.labels} twice"
            found[sample.name][labels] = sample.value
    return found


def one(samples: dict[str, dict[Labels, float]], name: str) -> tuple[dict[str, str], float]:
    """Return the labels and the value of a metric that has exactly one sample."""
    [(labels, value)] = samples[name].items()
    return dict(labels), value


def by(samples: dict[str, dict[Labels, float]], name: str, *labels: str) -> dict[str, float]:
    """Return a metric's values by the values of some labels, joined by a space; {} when it is absent."""
    return {
        " ".join(dict(pairs)[label] for label in labels): value
        for pairs, value in samples.get(name, {}).items()
    }
