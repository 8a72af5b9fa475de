"""Corrects the daemon's memory estimate by what past loads of the same model took.

Pure. `expected` is the middle of what was seen, `upper` what a load must be given to be called fitting.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
USED: Final = 12
"""Samples that count, newest first: an engine update changes what a load takes."""
ENOUGH: Final = 3
"""Below so many samples the margin is the one for an unmeasured model."""
UNMEASURED_SHARE: Final = 0.25
UNMEASURED_BYTES: Final = 768 * MIB
"""Margin for an unmeasured model. Observed in published captures: engines took 100 to 400 MB more than estimated, and a
543 MB file took 1239 MB. The share covers KV caches that are estimated too small."""
MEASURED_SHARE: Final = 0.03
MEASURED_BYTES: Final = 64 * MIB
"""Margin above the worst that was seen: noise, and drift since then."""
BEYOND: Final = 0.10
"""Further margin for a load that is twice as large as any that was measured; in proportion below that."""
RATIO_BOUNDS: Final = (0.25, 4.0)
"""A ratio beyond this is a measuring error: 2 and 0.5 were seen (22.92 GB estimated, 11.5 taken)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured load, in bytes."""

    estimated: int
    actual: int


@dataclass(frozen=True, slots=True)
class Corrected:
    """Expected memory of a load and its upper bound by past loads, in bytes."""

    expected: int
    upper: int
    samples: int


def corrected(estimated: int, samples: Sequence[Sample]) -> Corrected:
    """Correct an estimate by samples, newest first."""
    used = [sample for sample in samples if _is_sane(sample)][:USED]
    unmeasured = round(estimated * (1 + UNMEASURED_SHARE)) + UNMEASURED_BYTES
    if not used:
        return Corrected(estimated, unmeasured, 0)
    ratios = [sample.actual / sample.estimated for sample in used]
    excess = [sample.actual - sample.estimated for sample in used]
    expected = round(estimated * statistics.median(ratios))
    # A part of what the estimate lacks grows with the load and a part does not; the worse of both is assumed.
    worst = max(estimated * max(ratios), estimated + max(excess))
    largest = max(sample.estimated for sample in used)
    beyond = min(1.0, max(0.0, estimated / largest - 1)) * BEYOND
    upper = round(worst * (1 + MEASURED_SHARE + beyond)) + MEASURED_BYTES
    if len(used) < ENOUGH:
        upper = max(upper, unmeasured)
    return Corrected(expected, upper, len(used))


def _is_sane(sample: Sample) -> bool:
    if sample.estimated <= 0:
        return False
    return RATIO_BOUNDS[0] <= sample.actual / sample.estimated <= RATIO_BOUNDS[1]
