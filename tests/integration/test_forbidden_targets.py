# SPDX-License-Identifier: Apache-2.0
"""Webhook targets that are not public, by literal, spelling, name and rebinding: none is ever connected to.

Everything runs in a network namespace where every address leads to a trap (forbidden_inside.py): a guard
that fails reaches the trap, and nothing else."""

import ipaddress
import json
import os
import shutil
import subprocess
import sys

import pytest

from forbidden_targets import PUBLIC, addresses
from testenv import namespace

INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forbidden_inside.py")


def is_never_reached(text):
    """The kernel itself connects nobody to multicast, broadcast, or link-local without a zone."""
    address = ipaddress.ip_address(text)
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_multicast or address.packed.endswith(b"\xff\xff\xff") or \
        (address.version == 6 and address.is_link_local)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    way, why = namespace.command("--net")
    if not way:
        pytest.skip(why)
    if not shutil.which("ip"):
        pytest.skip("there is no ip here (Debian package iproute2)")
    folder = str(tmp_path_factory.mktemp("forbidden"))
    done = subprocess.run([*way, sys.executable, INSIDE, folder], capture_output=True, text=True, timeout=170,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_without_a_guard_the_trap_is_reached_at_most_of_them(report):
    missed = [address for address in addresses() if address not in report["reachable"]]
    assert len(report["reachable"]) >= 60, missed
    assert [address for address in missed if not is_never_reached(address)] == []
    assert set(report["public_reachable"]) == set(PUBLIC)


def test_a_literal_is_refused_when_it_is_given(report):
    said = report["submit"]
    assert len(said) >= 100
    wrong = {url: answer for url, answer in said.items() if answer != [400, "invalid_value", "webhook.url", 400]}
    assert not wrong
    assert report["submit_arrived"] == []


def is_refused(url, state, tries):
    errors = [one["error"] for one in tries]
    # "127.0.0.1." is a name, and nobody knows it.
    is_unknown = url.endswith("./") and set(errors) == {"connect_failed"}
    return state == "failed" and (errors in (["blocked_address"], ["bad_url"]) or is_unknown)


@pytest.mark.parametrize("how", ["names", "unchecked"])
def test_what_turns_out_to_be_forbidden_is_refused_before_the_connection(report, how):
    """By a name that resolves to it, and a literal that got into the database in some way."""
    tried = report[how]
    assert len(tried) >= 100
    wrong = {url: answer for url, answer in tried.items() if not is_refused(url, *answer)}
    assert not wrong
    assert report[f"{how}_arrived"] == []


def test_names_that_change_their_mind_reach_public_addresses_only(report):
    tried = report["rebinding"]
    assert set(report["rebinding_arrived"]) <= {"8.8.8.8", "2003::1"}
    errors = [one["error"] for _, tries in tried.values() for one in tries]
    assert errors.count("blocked_address") >= 8, errors
    for url, (state, tries) in tried.items():
        assert state == ("failed" if url.endswith("/fail") else state), url
        assert all(one["error"] in ("bad_status", "blocked_address", None) for one in tries), (url, tries)


def test_a_redirect_is_not_followed(report):
    (answer,) = report["redirect"].values()
    assert answer[0] == "failed" and {one["error"] for one in answer[1]} == {"redirect"}
    assert set(report["redirect_arrived"]) == {"8.8.8.8"}


def test_public_neighbours_are_delivered(report):
    """Else the guard would be right for the wrong reason."""
    wrong = {url: answer for url, answer in report["public"].items() if answer[0] != "delivered"}
    assert not wrong and len(report["public"]) >= 20
    assert set(report["public_arrived"]) == set(PUBLIC) | {"8.8.8.8"}
