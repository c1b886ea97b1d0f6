# SPDX-License-Identifier: Apache-2.0
"""--check-config: what was understood, or file, line and what was expected."""

import os
import re
import subprocess

import pytest

from testenv.stack import CONFIG, program

DAEMONS = ("producer", "worker", "scheduler")
ENVIRONMENT = {"SIMULATOR_URL": "http://127.0.0.1:1", "PATH": os.environ["PATH"]}

GOOD = """\
providers:
  main:
    format: openai
    base_url: https://api.example.com/v1
    api_key: secret-key-1
routes:
  fast:
    strategy: fallback
    targets:
      - {provider: main, model: m}
prices:
  main:
    m: {input_per_mtok: 0.15, output_per_mtok: 0.6, context_tokens: 128000, max_output_tokens: 16384}
"""


def check(daemon, path, **environment):
    return subprocess.run([program(f"nightshift-{daemon}"), "--check-config", str(path)], capture_output=True,
                          text=True, env={**ENVIRONMENT, **environment}, timeout=30, check=False)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_good_files_are_shown_as_understood(daemon, tmp_path):
    assert check(daemon, CONFIG).returncode == 0
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    done = check(daemon, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "secret-key-1" not in done.stdout + done.stderr


def test_the_worker_shows_routes_and_providers(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    text = check("worker", path).stdout
    assert "main" in text and "fast" in text and "api.example.com" in text


BAD = [
    # what, edit (old, new), line, words of the message
    ("unknown provider option", ("    format: openai", "    formt: openai"), 3, "formt"),
    ("unknown format", ("format: openai", "format: nonsense"), 3, "openai"),
    ("no base_url", ("    base_url: https://api.example.com/v1\n", ""), None, "base_url"),
    ("base_url is no url", ("https://api.example.com/v1", "nope"), 4, "base_url"),
    ("unset variable", ("secret-key-1", "${NO_SUCH_NAME}"), 5, "NO_SUCH_NAME"),
    ("unknown strategy", ("strategy: fallback", "strategy: fastest"), 8, "fallback"),
    ("target of no provider", ("{provider: main, model: m}", "{provider: mian, model: m}"), 10, "mian"),
    ("model without a price", ("model: m}", "model: unpriced}"), 10, "price"),
    ("no targets", ("    targets:\n      - {provider: main, model: m}\n", ""), None, "targets"),
    ("price is text", ("input_per_mtok: 0.15", "input_per_mtok: cheap"), 13, "input_per_mtok"),
    ("negative price", ("input_per_mtok: 0.15", "input_per_mtok: -1"), 13, "input_per_mtok"),
    ("broken yaml", ("providers:", "providers: ["), None, ""),
    ("duplicate name", ("routes:", "providers: {}\nroutes:"), None, "providers"),
    ("unknown section", ("routes:", "rotues: {}\nroutes:"), 6, "rotues"),
]


@pytest.mark.parametrize("what,edit,line,word", BAD, ids=[case[0] for case in BAD])
def test_mistakes_are_named_by_file_and_line(what, edit, line, word, tmp_path):
    path = tmp_path / "bad.yaml"
    text = GOOD.replace(*edit)
    assert text != GOOD, what
    path.write_text(text)
    done = check("worker", path)
    said = done.stderr + done.stdout

    assert done.returncode != 0, said
    assert "bad.yaml" in said and word in said, said
    if line:
        assert re.search(rf"bad\.yaml[:, ]+(line )?{line}\b", said), said


def test_options_of_the_wrong_type_and_out_of_range(tmp_path):
    for daemon, text, word in (("worker", "worker: {slots: many}\n", "slots"), ("worker", "worker: {slots: 0}\n", "slots"),
                               ("worker", "processes: -1\n", "processes"), ("producer", "producer: {listn: x}\n", "listn"),
                               ("producer", "producer: {listen: 8080}\n", "producer.listen: listen on 8080: expected"),
                               ("worker", "metrics_listen: :99999\n", "metrics_listen: listen on :99999: expected"),
                               ("producer", "webhooks: {allow_networks: [127.0.0.0/99]}\n", "127.0.0.0/99"),
                               ("producer", "webhooks: {allow_networks: [127.0.0.0/99]}\n", ": webhooks.allow_networks[0]"),
                               ("worker", "webhooks:\n  schedule_s: []\n", ": webhooks.schedule_s"),
                               ("scheduler", "secrets: {data_key: c2hvcnQ=}\n", ": secrets.data_key"),
                               ("producer", "secrets: {pepper: c2hvcnQ=}\n", ": secrets.pepper"),
                               ("scheduler", "broker_profile: rabbit\n", "broker_profile")):
        path = tmp_path / "bad.yaml"
        path.write_text(GOOD + text)
        done = check(daemon, path)
        said = done.stderr + done.stdout
        assert done.returncode != 0 and word in said, (daemon, text, said)
        assert re.search(r"bad\.yaml:\d+: ", said), (daemon, text, said)


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = check("worker", tmp_path / "nowhere.yaml")
    assert done.returncode != 0 and "nowhere.yaml" in done.stderr + done.stdout


@pytest.mark.parametrize("daemon", (*DAEMONS, "migrate"))
def test_help_and_version(daemon):
    for option in ("--help", "--version"):
        done = subprocess.run([program(f"nightshift-{daemon}"), option], capture_output=True, text=True, timeout=30,
                              env=ENVIRONMENT, check=False)
        assert done.returncode == 0 and done.stdout, (option, done.stderr)
    assert subprocess.run([program(f"nightshift-{daemon}"), "--nonsense"], capture_output=True, timeout=30,
                          env=ENVIRONMENT, check=False).returncode == 2
