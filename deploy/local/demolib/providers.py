# SPDX-License-Identifier: Apache-2.0
"""The demo's configuration file: the simulator's providers, and the real service if a key is given."""

import collections
import json
import os
import urllib.error
import urllib.request

Real = collections.namedtuple("Real", "base_url model is_priced")

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"


def real_service():
    """What OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL ask for, or None."""
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        return None
    base_url = (os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
    model = os.environ.get("OPENAI_MODEL") or choose_model(base_url, key)
    return Real(base_url, model, base_url == DEFAULT_URL and model == DEFAULT_MODEL)


def choose_model(base_url, key):
    """The usual one, unless another service says that it has only others."""
    if base_url == DEFAULT_URL:
        return DEFAULT_MODEL
    request = urllib.request.Request(base_url + "/models", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            names = [model["id"] for model in json.load(answer)["data"]]
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_MODEL
    return DEFAULT_MODEL if DEFAULT_MODEL in names or not names else names[0]


def demo_configuration(root, slots, real):
    """YAML for `stack up --config`.  Keys stay in the environment; the file only names them."""
    with open(os.path.join(root, "deploy/local/simulator.yaml"), encoding="utf-8") as file:
        text = file.read()
    text = text.replace("SIMULATOR_URL", "${SIMULATOR_URL}")
    text = text.replace("PRICES", json.dumps(os.path.join(root, "deploy/local/prices.json")))
    if real:
        price = "    prices: openai\n" if real.is_priced else "    free: true\n"
        text = text.replace("providers:\n", f"""\
providers:
  real:
    format: openai
    base_url: {json.dumps(real.base_url)}
    api_key: ${{OPENAI_API_KEY}}
{price}""", 1)
        text = text.replace("routes:\n", f"""\
routes:
  real:
    strategy: fallback
    targets:
      - {{provider: real, model: {json.dumps(real.model)}}}
""", 1)
    return text + f"worker: {{slots: {slots}}}\n"
