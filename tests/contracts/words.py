"""The words that product text and names avoid, each with the word of the field that replaces it."""

import re
from typing import Final

from exporter.shared.linear import Pattern

AVOIDED: Final[dict[str, str]] = {
    # Names of things: one word each.
    r"\bcards?\b": "GPU",
    r"\bmachines?\b": "host",
    r"\bgatekeeper|\bdoorway": "middleware",
    r"\bkeeper\b": "reconciler",
    r"\btall(y|ies)\b": "metrics, counts",
    r"\bfinding[ _]out\b": "recovery",
    r"\bpump(s|ed|ing)?\b": "batch queue",
    r"\bnarrat\w+": "log lines",
    r"\bglance\b": "summary",
    # Panels and alerts.
    r"\bhalf of (all )?requests\b": "p50",
    r"\b95 of 100\b": "p95",
    r"\b99 of 100\b": "p99",
    r"\bnot well\b": "unhealthy",
    r"\bheld back\b": "throttle reasons",
    r"\bslowed by (heat|power)\b": "throttled",
    r"\bstays? loaded\b": "pinned",
    r"\bloaded twice\b": "duplicates",
    r"\bunloads in\b": "TTL left",
    r"\"(first token|whole request|per token)\"": "TTFT, E2E latency, TPOT",
    r"\bprompt read\b": "prefill progress",
    r"\bslots seen\b": "slots",
    r"\bwaiting for you\b": "pending approvals",
    r"\bpast the gate\b": "ungated",
    r"\bturned away\b": "rejected",
    r"\bcalls that wait\b": "pending calls",
    r"\btoo few lanes\b": "degraded PCIe links",
    r"\breplaced memory\b": "remapped rows",
    r"\bvideo units\b": "encoder, decoder",
    r"\btrouble with\b": "errors of",
    r"\bwe are blind\b": "is not scraped",
    r"\bwants? (a|no|the) (token|password|scope)\b": "requires a token",
    r"\btrying on\b": "retrying",
    r"\b(bug|error)s? of ours\b": "internal error, defect",
    r"\bdribbl\w+": "write timeout",
    r"\bfull sight\b": "metrics, traces, dashboards",
    # Persons that are none.
    r"\b(ours|ourselves)\b": "the program's name",
    r"\b(nobody|somebody|anybody|everybody|whoever)\b": "the client, the user, no process",
    r"\bpatien(ce|t)\b": "timeout",
    r"\bcomplain\w*": "reports, warning",
    r"\bwish(es|ed)?\b": "desired state",
    r"\bknows (no|nothing|neither|of no)\b": "does not depend on",
    r"\bwell\b": "healthy, correctly",
    r"\bgets? up\b": "requires action",
    r"\bmakes? up (its|their) mind\b": "decides",
}
"""Regular expressions, without regard to case."""

TERMS: Final = (
    r"state machines?", r"virtual machines?", r"model cards?", r"/drm(/|\", \")card(\d|\*)?", r"as well",
    r"well[- ](known|formed|behaved)", r"stays? loaded (until|past)",
)  # fmt: skip
"""Terms of the field that contain such a word."""

IN_NAMES: Final = {
    "anybody", "card", "cards", "complaint", "complaints", "doorway", "everybody", "gatekeeper", "glance", "keeper",
    "machine", "machines", "narration", "nobody", "ours", "ourselves", "patience", "pump", "pumps", "somebody", "tally",
    "trouble", "whoever", "wish", "wishes",
}  # fmt: skip
"""Words that no module, class, function or variable of the product has in its name."""


_ANY: Final = Pattern("(?i)" + "|".join(AVOIDED))
_TERMS: Final = re.compile("|".join(TERMS), re.IGNORECASE)


def found(text: str) -> list[str]:
    """Name each avoided word in the text, and what to write instead."""
    if not _ANY.found_in(text):
        return []
    text = _TERMS.sub(lambda term: "_" * len(term[0]), text)
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}; write: {instead}"
        for pattern, instead in AVOIDED.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
