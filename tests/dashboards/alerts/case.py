"""What a case of an alert is: series that make it fire, what it then says, and series so close that it must not."""

from dataclasses import dataclass

GIB = 2**30
MIB = 2**20

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One alert's tests. Samples are a minute apart, in promtool's notation."""

    fires: Series
    labels: dict[str, str]
    """Of the firing alert, without alertname and severity."""
    summary: str
    quiet: Series
    at: str = "30m"
    cause: str = ""
    """What the annotation then says of the cause, if anything."""


HERE = 'job="daemonpulse",instance="box:9810"'
BOX = f'daemon="box",{HERE}'
ONE = f'daemon="box",model="qwen/qwen3-8b",instance_id="qwen",{HERE}'
WHO = {
    "daemon": "box",
    "model": "qwen/qwen3-8b",
    "instance_id": "qwen",
    "job": "daemonpulse",
    "instance": "box:9810",
}
PLACE = {"job": "daemonpulse", "instance": "box:9810"}
GPU = f'gpu="0",{HERE}'
ON_GPU = {"gpu": "0", "instance": "box:9810"}
DAEMON = {"daemon": "box"}


def state(**states: str) -> Series:
    return {f'llmster_daemon_state{{state="{name}",{BOX}}}': values for name, values in states.items()}


def histogram(name: str, bound: str, fast: int, every: int) -> Series:
    """So many of so many observations a minute are at most the bound, for hours."""
    return {
        f'{name}_bucket{{le="{bound}",{BOX}}}': f"0+{fast}x400",
        f"{name}_count{{{BOX}}}": f"0+{every}x400",
    }


def ended(**every: int) -> Series:
    """So many requests a minute ended for each reason, for hours."""
    return {
        f'llmster_request_success_total{{finished_reason="{reason}",model="m",{BOX}}}': f"0+{count}x400"
        for reason, count in every.items()
    }
