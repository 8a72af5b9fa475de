"""Pure: what each table of the screen shows, as text. The same for a terminal screen and for `--once`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from daemonpulse.top.model import Daemon, Gpu, Instance, Request, Screen

NONE: Final = "-"
"""Shown for a missing value."""
_GIB: Final = 1 << 30
_KIBI: Final = 1024
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_FEW: Final = 100
BAR_CELLS: Final = 10
NAME_CHARS: Final = 26
"""Of a model or an instance on the screen."""
_BLOCKS: Final = "▏▎▍▌▋▊▉█"

GPU_COLUMNS: Final = ("GPU", "VRAM", "", "GiB", "util", "temp", "power", "throttle", "models")
INSTANCE_COLUMNS: Final = (
    "instance",
    "state",
    "run",
    "wait",
    "slots",
    "tok/s",
    "ctx",
    "TTL",
    "VRAM",
    "daemon",
)
REQUEST_COLUMNS: Final = ("model", "client", "phase", "TTFT", "tok/s", "in", "out", "reason", "time")


def number(value: float | None, suffix: str = "") -> str:
    """Write a number with few digits: 87.3 below 100, 1234 above."""
    if value is None:
        return NONE
    return (f"{value:.1f}" if 0 < abs(value) < _FEW and value != int(value) else f"{value:.0f}") + suffix


def percent(share: float | None) -> str:
    """Write a ratio as a percentage."""
    return NONE if share is None else f"{100 * share:.0f}%"


def gib(size: float | None) -> str:
    """Write bytes as GiB."""
    return NONE if size is None else f"{size / _GIB:.1f}"


def tokens(count: float | None) -> str:
    """Write a token count: 512, 8k, 128k."""
    if count is None:
        return NONE
    return f"{count / _KIBI:.0f}k" if count >= 8 * _KIBI else f"{count:.0f}"


def seconds(value: float | None) -> str:
    """Write a duration: 0.42s, 7.1s, 12m, 3h05m."""
    if value is None:
        return NONE
    if value < _MINUTE_S:
        return f"{value:.2f}s" if value < 1 else f"{value:.1f}s"
    if value < _HOUR_S:
        return f"{value / _MINUTE_S:.0f}m"
    return f"{value // _HOUR_S:.0f}h{value % _HOUR_S // _MINUTE_S:02.0f}m"


def bar(share: float | None, cells: int = BAR_CELLS) -> str:
    """Draw a ratio as a bar of so many cells, in eighths of a cell."""
    if share is None:
        return " " * cells
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest - 1] if rest else "")).ljust(cells, "░")


def short(name: str, width: int) -> str:
    """Cut a name in the middle, where model names differ least."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def gpu_cells(gpu: Gpu) -> tuple[str, ...]:
    """Return the row of a GPU, by GPU_COLUMNS."""
    if gpu.is_lost:
        return (gpu.index, "lost", "", NONE, NONE, NONE, NONE, "", "")
    share = gpu.used_bytes / gpu.total_bytes if gpu.used_bytes is not None and gpu.total_bytes else None
    power = (
        number(gpu.power_w)
        if gpu.power_limit_w is None
        else f"{number(gpu.power_w)}/{number(gpu.power_limit_w)}W"
    )
    models = ", ".join(f"{model.rpartition('/')[2]} {gib(size)}" for model, size in gpu.models)
    return (
        gpu.index,
        bar(share),
        percent(share),
        f"{gib(gpu.used_bytes)}/{gib(gpu.total_bytes)}",
        percent(gpu.utilization),
        number(gpu.temperature_c, "°C"),
        power,
        " ".join(gpu.throttle) or "none",
        models or NONE,
    )


_STATE_WORDS: Final = {
    "processing_prompt": "prefill",
    "generating": "decode",
    "computing_embedding": "embed",
    "idle": "idle",
}


def slot_text(instance: Instance) -> str:
    """Draw slots: `#` decodes, a digit is prefill in tenths, `.` is free; "-" when the engine does not log them."""
    if instance.slot_count is None and not instance.slots:
        return NONE
    busy = "".join("#" if share is None or share >= 1 else str(int(share * 10)) for share in instance.slots)
    return busy.ljust(min(instance.slot_count or 0, 16), ".")


def instance_cells(instance: Instance) -> tuple[str, ...]:
    """Return the row of an instance, by INSTANCE_COLUMNS."""
    ttl = "pinned" if instance.is_pinned else seconds(instance.ttl_left_s)
    return (
        short(instance.identifier, NAME_CHARS),
        _STATE_WORDS.get(instance.state or "", instance.state or NONE),
        number(instance.running),
        number(instance.waiting),
        slot_text(instance),
        number(instance.tokens_per_second),
        tokens(instance.context_length),
        ttl,
        gib(instance.vram_bytes),
        instance.daemon,
    )


def request_cells(request: Request) -> tuple[str, ...]:
    """Return the row of a request, by REQUEST_COLUMNS."""
    return (
        short(request.model, NAME_CHARS),
        request.client or NONE,
        request.phase or NONE,
        seconds(request.ttft_s),
        number(request.tokens_per_second),
        tokens(request.prompt_tokens),
        tokens(request.output_tokens),
        percent(request.reasoning_share),
        seconds(request.elapsed_s),
    )


def daemon_line(daemons: Sequence[Daemon]) -> str:
    """Sum up the daemons in one line."""
    if not daemons:
        return "no daemon"
    parts = [
        f"{one.name} {one.state}"
        + (f" {one.version}" if one.version else "")
        + (f" {number(one.tokens_per_second)} tok/s" if one.tokens_per_second is not None else "")
        for one in daemons[:4]
    ]
    more = len(daemons) - len(parts)
    return " · ".join(parts) + (f" · {more} more" if more else "")


def log_line(screen: Screen) -> str:
    """Sum up the server logs' lines by level."""
    order = ("error", "warn", "info", "debug")
    parts = [
        f"{level} {number(screen.log_messages[level])}" for level in order if level in screen.log_messages
    ]
    return "log lines: " + (", ".join(parts) or NONE)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """Lay out a table in plain text, cut at `width` columns; the first column gives way first."""
    cells = [list(columns), *([*row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    over = sum(widths) + len(widths) - 1 - width
    if over > 0:
        first = max(8, widths[0] - over)
        for row in cells:
            row[0] = short(row[0], first)
        widths[0] = min(widths[0], first)
    return [
        " ".join(text.ljust(size) for text, size in zip(row, widths, strict=True))[:width].rstrip()
        for row in cells
    ]


def plain(screen: Screen, *, width: int = 80, rows: int = 8) -> str:
    """Write the whole screen as text of `width` columns, `rows` rows a table at most."""
    sections = [
        (GPU_COLUMNS, [gpu_cells(gpu) for gpu in screen.gpus]),
        (INSTANCE_COLUMNS, [instance_cells(instance) for instance in screen.instances]),
        (REQUEST_COLUMNS, [request_cells(request) for request in screen.requests]),
    ]
    lines = [daemon_line(screen.daemons)[:width]]
    for columns, found in sections:
        if found:
            lines += ["", *table(columns, found[:rows], width=width)]
            if len(found) > rows:
                lines.append(f"… {len(found) - rows} more")
    return "\n".join([*lines, "", log_line(screen)[:width]])
