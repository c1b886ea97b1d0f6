# SPDX-License-Identifier: Apache-2.0
"""Scene: every job's webhook has arrived, and somebody else's code finds it genuine."""

import json

from .check import expect, wait_for
from .sink import BUSY_ONCE, ENDPOINT

TITLE = "Webhooks, verified by somebody else's code"
DEADLINE_S = 30


def text(stage):
    return ("A tenant's endpoint hears of every job; a job may name a URL of its own, too.  They were "
            "delivered to a small server inside this demo while it ran, and are verified now by the "
            "package `standardwebhooks` from PyPI.  The first job's own URL answered 503 to its first "
            "try.")


def run(stage):
    screen = stage.screen
    webhook_class, error_class = stage.verifier.load()
    wait_for(lambda: heard(stage) >= set(stage.jobs), DEADLINE_S,
             f"a webhook for each of {len(stage.jobs)} jobs", lambda: f"{len(heard(stage))} jobs'",
             "worker-1")
    wait_for(lambda: len(stage.sink.all(BUSY_ONCE)) >= 2, DEADLINE_S,
             "a second try of the webhook whose first was answered 503",
             lambda: f"{len(stage.sink.all(BUSY_ONCE))} tries", "scheduler-1")
    endpoint = webhook_class(stage.endpoint_secret)
    own = webhook_class(stage.env["NIGHTSHIFT_WEBHOOK_SECRET"])
    deliveries = stage.sink.all()
    for delivery in deliveries:
        verify(own if delivery.path == BUSY_ONCE else endpoint, error_class, delivery)
    show(screen, stage.sink.all(ENDPOINT)[0])
    screen.good(f"{len(deliveries)} deliveries for {len(stage.jobs)} jobs, every signature verified")
    check_retry(stage)
    check_forgery(screen, endpoint, error_class, stage.sink.all(ENDPOINT)[0])


def heard(stage):
    """The jobs that the endpoint has heard of."""
    return {json.loads(d.body)["data"]["id"] for d in stage.sink.all(ENDPOINT)}


def verify(webhook, error_class, delivery):
    try:
        payload = webhook.verify(delivery.body, delivery.headers)
    except error_class as error:
        expect(False, f"a signature that verifies on {delivery.headers.get('webhook-id')}",
               f"{error}; headers {delivery.headers}", "worker-1")
    expect(payload["type"] == f"job.{payload['data']['state']}", "a type that tells the state",
           payload, "worker-1")


def show(screen, delivery):
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        screen.line("    " + screen.paint(f"{name}: {delivery.headers[name]}", "dim"))
    body = delivery.body.decode()
    width = screen.width() - 6
    screen.line("    " + screen.paint(body if len(body) <= width else body[:width - 1] + "…", "dim"))


def check_retry(stage):
    first, second = stage.sink.all(BUSY_ONCE)[:2]
    same = first.headers["webhook-id"] == second.headers["webhook-id"]
    fresh = first.headers["webhook-signature"] != second.headers["webhook-signature"]
    expect(same and fresh and first.status == 503 and second.status == 204,
           "the same webhook-id, signed afresh", f"{first.headers} and {second.headers}", "worker-1")
    stage.screen.good(f"the refused one came again {second.at - first.at:.1f} s later: the same "
                      "webhook-id, signed afresh")


def check_forgery(screen, webhook, error_class, delivery):
    forged = delivery.body.replace(b'"succeeded"', b'"failed"', 1)
    expect(forged != delivery.body, "a body to forge", delivery.body)
    try:
        webhook.verify(forged, delivery.headers)
    except error_class:
        screen.good("the same headers on a changed body are refused")
        return
    expect(False, "a changed body to be refused", "it was accepted")
