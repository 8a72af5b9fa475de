"""The rules that publish our values under the names of vLLM and of llama.cpp's server: names, labels, values."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[2] / "dashboards" / "generated" / "rules"
WHERE = 'job="daemonpulse",instance="box:9810"'
MODEL = f'daemon="box",model="qwen3-8b",{WHERE}'
ONE = f'instance_id="q",{MODEL}'
SERIES = {
    f"llmster_num_requests_running{{{ONE}}}": "3x20",
    f"llmster_num_requests_waiting{{{ONE}}}": "2x20",
    f"llmster_prompt_tokens_total{{{MODEL}}}": "0+600x20",
    f"llmster_generation_tokens_total{{{MODEL}}}": "0+3600x20",
    f'llmster_request_success_total{{finished_reason="stop",{MODEL}}}': "0+6x20",
    f"llmster_time_to_first_token_seconds_sum{{{MODEL}}}": "0+60x20",
    f"llmster_e2e_request_latency_seconds_sum{{{MODEL}}}": "0+300x20",
    f'llmster_slot_context_tokens{{slot="0",{ONE}}}': "1000x20",
    f'llmster_slot_context_tokens{{slot="1",{ONE}}}': "3000x20",
    f"llmster_engine_slots{{{ONE}}}": "4x20",
    f"llmster_engine_slot_context_length_tokens{{{ONE}}}": "4000x20",
    f"llmster_prompt_cache_hit_tokens_total{{{ONE}}}": "0+100x20",
    f"llmster_prompt_cache_miss_tokens_total{{{ONE}}}": "0+300x20",
}
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "llmster_time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds": "llmster_time_per_output_token_seconds",
    "vllm:request_time_per_output_token_seconds": "llmster_time_per_output_token_seconds",
    "vllm:e2e_request_latency_seconds": "llmster_e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds": "llmster_request_queue_time_seconds",
    "vllm:request_prompt_tokens": "llmster_request_prompt_tokens",
    "vllm:request_generation_tokens": "llmster_request_generation_tokens",
}
OWN = tuple(dict.fromkeys(HISTOGRAMS.values()))
VLLM = {
    "vllm:num_requests_running": (ONE, 3),
    "vllm:num_requests_waiting": (ONE, 2),
    "vllm:prompt_tokens_total": (MODEL, 6000),
    "vllm:generation_tokens_total": (MODEL, 36000),
    "vllm:request_success_total": (f'finished_reason="stop",{MODEL}', 60),
    "vllm:kv_cache_usage_perc": (ONE, 0.25),
    "vllm:gpu_cache_usage_perc": (ONE, 0.25),
    "vllm:prefix_cache_hits_total": (ONE, 1000),
    "vllm:prefix_cache_queries_total": (ONE, 4000),
}
LLAMACPP = {
    "llamacpp:prompt_tokens_total": (MODEL, 6000),
    "llamacpp:prompt_seconds_total": (MODEL, 600),
    "llamacpp:tokens_predicted_total": (MODEL, 36000),
    "llamacpp:tokens_predicted_seconds_total": (MODEL, 2400),
    "llamacpp:prompt_tokens_seconds": (MODEL, 10),
    "llamacpp:predicted_tokens_seconds": (MODEL, 15),
    "llamacpp:kv_cache_tokens": (ONE, 4000),
    "llamacpp:kv_cache_usage_ratio": (ONE, 0.25),
    "llamacpp:requests_processing": (ONE, 3),
    "llamacpp:requests_deferred": (ONE, 2),
}


def recorded(name: str) -> set[str]:
    rules = yaml.safe_load((RULES / f"{name}.yaml").read_text(encoding="utf-8"))
    return {rule["record"] for group in rules["groups"] for rule in group["rules"]}


def judge(promtool: Path, name: str, expected: dict[str, tuple[str, float]], folder: Path) -> None:
    series = dict(SERIES)
    for number, own in enumerate(OWN):
        series |= {
            f'{own}_bucket{{le="0.5",{MODEL}}}': f"{10 + number}x20",
            f"{own}_count{{{MODEL}}}": f"{20 + number}x20",
        }
        series.setdefault(f"{own}_sum{{{MODEL}}}", f"{30 + number}x20")
    names = 'model_name="qwen3-8b",engine="0",' if name.startswith("vllm") else ""
    samples: list[dict[str, Any]] = [
        {
            "expr": f"round({record}, 0.0625)",  # a rate is not exact in its last bit
            "eval_time": "10m",
            "exp_samples": [{"labels": f"{{{names}{labels}}}", "value": value}],
        }
        for record, (labels, value) in expected.items()
    ]
    test = {
        "rule_files": [str(RULES / f"{name}.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": one, "values": values} for one, values in series.items()],
                "promql_expr_test": samples,
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_vllms_names_have_vllms_labels_and_our_values(promtool: Path, tmp_path: Path) -> None:
    sums = {"llmster_time_to_first_token_seconds": 600.0, "llmster_e2e_request_latency_seconds": 3000.0}
    expected: dict[str, tuple[str, float]] = dict(VLLM)
    for name, metric in HISTOGRAMS.items():
        number = OWN.index(metric)
        expected |= {
            f"{name}_bucket": (f'le="0.5",{MODEL}', 10 + number),
            f"{name}_count": (MODEL, 20 + number),
            f"{name}_sum": (MODEL, sums.get(metric, 30 + number)),
        }
    assert expected.keys() == recorded("vllm-names")
    judge(promtool, "vllm-names", expected, tmp_path)


def test_llamacpps_names_have_our_values(promtool: Path, tmp_path: Path) -> None:
    assert LLAMACPP.keys() == recorded("llamacpp-names")
    judge(promtool, "llamacpp-names", LLAMACPP, tmp_path)
