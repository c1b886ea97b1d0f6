# SPDX-License-Identifier: Apache-2.0
"""/metrics of each program: the names that dashboards rely on, and nothing private in labels."""

import re
import shutil
import subprocess

import httpx
import pytest

from testenv.api import chat
from testenv.stack import Stack

NAMES = {
    "nightshift_jobs_submitted_total": {"priority"}, "nightshift_jobs_ended_total": {"priority", "state"},
    "nightshift_queue_wait_seconds": {"priority"}, "nightshift_queue_depth": {"priority"},
    "nightshift_oldest_waiting_seconds": {"priority"},
    "nightshift_calls_total": {"provider", "model", "outcome"},
    "nightshift_call_seconds": {"provider", "model"}, "nightshift_first_token_seconds": {"provider", "model"},
    "nightshift_tokens_total": {"provider", "model", "direction"},
    "nightshift_cost_nano_usd_total": {"provider", "model"}, "nightshift_retries_total": {"reason"},
    "nightshift_fallbacks_total": {"route"}, "nightshift_stale_writes_total": set(),
    "nightshift_rescued_total": {"detector"}, "nightshift_webhook_deliveries_total": {"outcome"},
    "nightshift_slots": {"priority", "kind"}, "nightshift_http_requests_total": {"method", "path", "status"},
    "nightshift_http_request_seconds": {"path"}, "nightshift_loop_lag_seconds": set(),
}


@pytest.fixture(scope="module")
def pages(stack):
    """What every daemon says after some traffic."""
    api = stack.api()
    api.run(chat(tokens=3, at={"main": {"status": 500}}),
            webhook={"url": stack.simulator.hook_url("metrics")}, workflow="secret-workflow")
    api.run(chat(tokens=3))
    return {url: httpx.get(url, trust_env=False, timeout=10).text
            for url in stack.environment["METRICS_URLS"].split(",")}


def test_every_name_of_the_contract_is_there_with_its_labels(pages):
    text = "\n".join(pages.values())
    for name, labels in NAMES.items():
        assert re.search(rf"^# TYPE {name} (counter|gauge|histogram)$", text, re.M), f"{name} is missing"
        for found in re.findall(rf"^{name}(?:_bucket|_sum|_count)?{{(.*)}} ", text, re.M):
            got = set(re.findall(r'(\w+)="', found)) - {"le"}
            assert got == labels, (name, got)


def test_one_plain_job_shows_every_name():
    """What did not happen yet is a zero, not a hole: alerts and dashboards cannot tell a hole from a mistake."""
    with Stack(broker="embedded") as stack:
        assert stack.api().run(chat(tokens=3))["state"] == "succeeded"
        text = "\n".join(httpx.get(url, trust_env=False, timeout=10).text
                         for url in stack.environment["METRICS_URLS"].split(","))
    assert not [name for name in NAMES if not re.search(rf"^# TYPE {name} ", text, re.M)]
    assert re.search(r'^nightshift_fallbacks_total{route="fast"} 0$', text, re.M)


def test_no_tenant_job_or_text_is_a_label(pages):
    for text in pages.values():
        for word in ("default", "job_[0-9a-f]{32}", "secret-workflow", "prompt "):
            assert not re.search(word, re.sub(r"^#.*$", "", text, flags=re.M)), word


def test_paths_are_patterns(pages):
    text = "\n".join(pages.values())
    paths = set(re.findall(r'path="([^"]*)"', text))
    assert "/v1/jobs/:id" in paths, paths  # braces in a label confuse simple readers
    assert not [path for path in paths if re.search(r"job_[0-9a-f]", path)]


def test_counters_of_what_was_done_add_up(stack):
    def total(name, **labels):
        text = "\n".join(httpx.get(url, trust_env=False, timeout=10).text
                         for url in stack.environment["METRICS_URLS"].split(","))
        wanted = "".join(f'(?=.*{key}="{value}")' for key, value in labels.items())
        return sum(float(value) for value in re.findall(rf"^{name}{{{wanted}.*}} (\S+)$", text, re.M))

    before = total("nightshift_jobs_submitted_total", priority="high")
    ended = total("nightshift_jobs_ended_total", priority="high", state="succeeded")
    tokens = total("nightshift_tokens_total", direction="output")
    for _ in range(5):
        stack.api().run(chat(tokens=7), priority="high")
    assert total("nightshift_jobs_submitted_total", priority="high") == before + 5
    assert total("nightshift_jobs_ended_total", priority="high", state="succeeded") == ended + 5
    assert total("nightshift_tokens_total", direction="output") >= tokens + 35


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian package prometheus) is not there")
def test_promtool_finds_no_fault(pages):
    for url, text in pages.items():
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{url}: {done.stderr or done.stdout}"


def test_health_is_told_by_every_daemon(stack):
    for url in stack.environment["METRICS_URLS"].split(","):
        for path in ("/healthz", "/readyz"):
            assert httpx.get(url.replace("/metrics", path), trust_env=False, timeout=10).status_code == 200
    for url in stack.urls:
        for path in ("/healthz", "/readyz"):
            assert httpx.get(url + path, trust_env=False, timeout=10).status_code == 200
