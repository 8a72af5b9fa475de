"""The cases of the alerts about sites."""

from tests.dashboards.alerts.case import GIB, HERE, Case, Series

SITE = {"site": "berlin"}


def on(daemon: str) -> str:
    return f'daemon="{daemon}",job="daemonpulse",instance="{daemon}:9810"'


def each(**series: Series) -> Series:
    """Name the series of each daemon; all of them are of one site."""
    return {
        (f"{name[:-1]},{on(daemon)}}}" if name.endswith("}") else f"{name}{{{on(daemon)}}}"): values
        for daemon, own in series.items()
        for name, values in {'llmster_site_info{site="berlin"}': "1x200", **own}.items()
    }


def version(number: str, kind: str = "daemon") -> Series:
    return {f'llmster_build_info{{version="{number}",build="1",kind="{kind}"}}': "1x200"}


def engines(*versions: str) -> Series:
    return {f'llmster_engine_info{{engine="llama.cpp",version="{one}"}}': "1x200" for one in versions}


def setting(name: str, value: int, **labels: str) -> Series:
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return {f"llmster_config_{name}" + (f"{{{inside}}}" if inside else ""): f"{value}x200"}


def memory(host: str, used: int, free: int) -> Series:
    """Two GPUs of a host, with so many GiB each, and the daemon that ties the host to its site."""
    gpus = {
        f'gpu_memory_{what}_bytes{{gpu="{gpu}",job="daemonpulse",instance="{host}:9810"}}': f"{size * GIB}x200"
        for gpu in (0, 1)
        for what, size in (("used", used), ("free", free))
    }
    return each(**{host: {}}) | gpus


DESIRED = f'daemonpulse_desired_instance_loaded{{daemon="box",instance_id="qwen",{HERE}}}'

CASES: dict[str, Case] = {
    "LlmsterVersionDrift": Case(
        fires=each(a=version("0.4.24"), b=version("0.4.25"), c=version("0.4.25")),
        labels={**SITE, "kind": "daemon"},
        summary="Site berlin runs 2 versions of the daemon.",
        quiet=each(a=version("0.4.24"), b=version("0.4.24"), c=version("0.3.9", kind="app")),
        at="2h",
    ),
    "LlmsterEngineDrift": Case(
        fires=each(a=engines("1.2", "1.3"), b=engines("1.2"), c={}),
        labels={**SITE, "engine": "llama.cpp"},
        summary="Versions of llama.cpp differ between the daemons of site berlin: 1 on some only.",
        quiet=each(a=engines("1.2", "1.3"), b=engines("1.3", "1.2"), c={}),
        at="2h",
    ),
    "LlmsterSettingsDrift": Case(
        fires=each(a=setting("cors", 0), b=setting("cors", 1), c=setting("cors", 1)),
        labels={**SITE, "setting": "cors"},
        summary="Setting cors has 2 values among the daemons of site berlin.",
        quiet=each(
            a=setting("cors", 1) | setting("guardrails", 1, mode="high"),
            b=setting("cors", 1) | setting("guardrails", 1, mode="high"),
            c=setting("jit_loading", 0),
        ),
        at="2h",
    ),
    "LlmsterDesiredInstanceMissing": Case(
        fires={DESIRED: "1x5 0x40"},
        labels={"daemon": "box", "instance_id": "qwen"},
        summary="qwen is desired on box and not loaded.",
        quiet={DESIRED: "1x25 0x40"},
    ),
    "LlmsterGroupIncomplete": Case(
        fires={f'daemonpulse_group_missing_daemons{{group="chat",{HERE}}}': "0x5 2x40"},
        labels={"group": "chat"},
        summary="Group chat lacks 2 daemons that serve its model.",
        quiet={f'daemonpulse_group_missing_daemons{{group="chat",{HERE}}}': "0x25 2x40"},
    ),
    "GpuSiteNotRedundant": Case(
        fires=memory("a", used=10, free=2) | memory("b", used=4, free=8),
        labels=SITE,
        summary="Site berlin lacks 4GiB of free VRAM to replace its largest host.",
        quiet=memory("a", used=8, free=4) | memory("b", used=4, free=8),
    ),
}
