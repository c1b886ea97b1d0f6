# SPDX-License-Identifier: Apache-2.0
"""What the provider stand-in saw and can be asked to do (tests/simulator/README.md)."""

import hashlib

import httpx


def prompt_sha256(request):
    """As the simulator counts it: the text of all messages, joined by newlines."""
    text = "\n".join(message["content"] for message in request["messages"])
    return hashlib.sha256(text.encode()).hexdigest()


class Simulator:
    def __init__(self, url):
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def get(self, path, **parameters):
        answer = self.client.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def post(self, path, body=None):
        answer = self.client.post(path, json=body if body is not None else {})
        answer.raise_for_status()
        return answer.json()

    def all_calls(self):
        calls = []
        while True:
            page = self.get("/sim/calls", after=calls[-1]["seq"] if calls else 0, limit=10000)
            calls += page["data"]
            if not page["has_more"]:  # last_seq is the newest of all, not of the page
                return calls

    def last_seq(self):
        """Of the calls so far; calls(request, after=...) then sees only later ones."""
        calls = self.all_calls()
        return calls[-1]["seq"] if calls else 0

    def calls(self, request):
        """The calls made for one request, recognised by its prompt, in order of arrival."""
        sha = prompt_sha256(request)
        return [call for call in self.all_calls() if call["prompt_sha256"] == sha]

    def ended_calls(self, request):
        return [call for call in self.calls(request) if call["outcome"]]

    def stats(self):
        return self.get("/sim/stats")

    def holding(self, gate):
        """How many calls wait at a gate."""
        return self.stats()["holding"].get(gate, 0)

    def release(self, gate):
        return self.post(f"/sim/release/{gate}")["released"]

    def close(self, gate):
        """Those who come later wait again."""
        self.client.delete(f"/sim/release/{gate}").raise_for_status()

    def fault(self, provider, **knobs):
        """A standing fault; returns a context that takes it away."""
        self.post("/sim/faults", {"provider": provider, **knobs})
        return _Fault(self, provider)

    def clear_faults(self):
        self.client.delete("/sim/faults").raise_for_status()

    # --- webhook sink -----------------------------------------------------------------------------

    def hook_url(self, name, **query):
        return str(httpx.URL(f"{self.url}/hook/{name}", params=query)) if query else f"{self.url}/hook/{name}"

    def deliveries(self, name):
        entries, after = [], 0
        while True:
            page = self.get(f"/hook/{name}/log", after=after, limit=1000)
            entries += page["data"]
            if not page["data"] or len(page["data"]) < 1000:
                return entries
            after = page["data"][-1]["seq"]


class _Fault:
    def __init__(self, simulator, provider):
        self.simulator = simulator
        self.provider = provider

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.simulator.client.delete(f"/sim/faults/{self.provider}")
