"""The demo's status line, from scrapes."""

from daemonpulse.demo.status_line import StatusLine
from daemonpulse.top.model import Sample


def scrape(tokens: float, *, running: float = 0) -> list[Sample]:
    box = {"daemon": "box"}
    return [
        ("llmster_daemon_state", {**box, "state": "running"}, 1),
        ("llmster_daemon_state", {**box, "state": "down"}, 0),
        ("llmster_instance_info", {**box, "instance_id": "qwen"}, 1),
        ("llmster_num_requests_running", {**box, "instance_id": "qwen"}, running),
        ("llmster_num_requests_waiting", {**box, "instance_id": "qwen"}, 2),
        ("llmster_generation_tokens_total", box, tokens),
    ]


def test_the_line_says_state_load_and_who_is_busy() -> None:
    line = StatusLine().line(scrape(0, running=1), now_s=5.0)
    assert line == "daemon running · 1 loaded · 1 running · 2 waiting · 0 predictions · busy: qwen"


def test_tokens_that_came_with_a_prediction_show_for_ten_seconds_and_then_no_more() -> None:
    status = StatusLine()
    shown = [status.line(scrape(0 if second < 3 else 100), now_s=float(second)) for second in range(15)]
    rates = [int(line.rpartition(" tokens/s")[0].rpartition(" ")[2]) for line in shown[1:]]
    assert rates == [0, 0, 33, 25, 20, 17, 14, 12, 11, 10, 10, 10, 0, 0]


def test_counters_that_begin_anew_are_no_negative_rate() -> None:
    status = StatusLine()
    status.line(scrape(1000), now_s=0.0)
    assert " 0 tokens/s" in status.line(scrape(10), now_s=1.0)


def test_a_scrape_without_a_state_is_unknown() -> None:
    assert StatusLine().line([], now_s=0.0).startswith("daemon unknown · 0 loaded")
