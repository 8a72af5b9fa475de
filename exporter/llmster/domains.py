"""The kinds of models a daemon serves, as a table: which WebSocket namespace answers for each, and what it offers.

Source: the backend interfaces of lmstudio-js. A daemon without a namespace is normal for every row that is optional;
a model of a domain that is not in the table (drafter, imageGen, transcription, tts) is shown and cannot be commanded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of models. All share the base model interface: listLoaded, getInstanceProcessingState, loadModel."""

    name: str
    """Value of a model's `type`, and the path of its WebSocket namespace."""
    optional: bool
    """Whether a daemon may lack the namespace; it is then tried rarely and not logged."""
    has_load_config: bool
    """Whether its load configuration is known here: parallel sessions, GPU offload, VRAM estimate."""
    has_load_options: bool
    """Whether what a load can be told is known here, so that actions can load it. Any domain can be unloaded."""


DOMAINS: Final = (
    Domain("llm", optional=False, has_load_config=True, has_load_options=True),
    Domain("embedding", optional=False, has_load_config=False, has_load_options=True),
    # Assumed: the namespace is called as the domain is, like the two others. Source of the domain: lmstudio-js,
    # decisionBackendInterface (discovery and lifecycle only). No released llmster was seen with it.
    Domain("decision", optional=True, has_load_config=False, has_load_options=False),
)
BY_NAME: Final = {domain.name: domain for domain in DOMAINS}
LOADED_HERE: Final = tuple(domain.name for domain in DOMAINS if domain.has_load_options)
"""The domains whose models actions load."""
CORE: Final = tuple(domain.name for domain in DOMAINS if not domain.optional)
