"""Serve /files: takes files that clients upload, and keeps nothing of them but their count.

Does not depend on models: no simulated model reads an image.
"""

from __future__ import annotations

import base64
import binascii
from itertools import count
from pathlib import PurePosixPath
from typing import Any, Final

from llmster_sim import errors
from llmster_sim.wire.envelopes import Namespace, Rpc
from llmster_sim.wire.model_calls import answering
from llmster_sim.wire.schema import record, string

# Source: fileTypeSchema of the official SDK. Assumed: the daemon tells the type by the name.
_TYPES: Final = {
    ".png": "image", ".jpg": "image", ".jpeg": "image", ".webp": "image", ".gif": "image", ".bmp": "image",
    ".txt": "text/plain", ".pdf": "application/pdf", ".docx": "application/word", ".md": "text/other",
    ".csv": "text/other", ".json": "text/other",
}  # fmt: skip


def files() -> Namespace:
    """Make the namespace of one daemon."""
    numbers = count(1_795_351_872_000)

    def upload(parameter: dict[str, Any]) -> dict[str, Any]:
        name, content = parameter["name"], parameter["contentBase64"]
        try:
            size = len(base64.b64decode(content, validate=True))
        except (binascii.Error, ValueError):
            raise errors.DaemonError(f"{name} is not valid base64") from None  # Assumed: the wording.
        suffix = PurePosixPath(name).suffix.lower()
        return {
            "identifier": f"{next(numbers)} - {name}",
            "fileType": _TYPES.get(suffix, "unknown"),
            "sizeBytes": size,
        }

    shape = record({"name": string, "contentBase64": string})
    return Namespace(
        name="files", rpcs={"uploadFileBase64": Rpc(handle=answering(upload), check=shape)}, streams={}
    )
