# SPDX-License-Identifier: Apache-2.0
"""What is known when all is quiet: the clients' log, the simulator's, the sink's, and the database."""


class Evidence:
    """Plain data; the checks are functions of it."""

    def __init__(self, log=None):
        self.submits = log.submits if log else []
        self.repeats = log.repeats if log else []
        self.refusals = log.refusals if log else []
        self.reads = log.reads if log else []
        self.cancels = log.cancels if log else []
        self.streams = log.streams if log else []
        self.jobs = {}
        self.queue = []
        self.runs = []
        self.calls = []
        self.events = {}
        self.deliveries = []
        self.idempotency = []
        self.counts = []
        self.endpoints = []
        self.secrets = {}    # endpoint id, or ("tenant", id): whsec_...
        self.sim_calls = []
        self.hooks = []
        self.starts = []
        self.is_quiet = True
        self.quiet_s = 0.0
        self.afterwards = {}


def job_id(uuid):
    return "job_" + uuid.replace("-", "")


def gather(evidence, stack, hook_names):
    """Fills in the database, the simulator's log and the sink's."""
    sql = stack.sql
    for job in sql.rows("SELECT id::text, tenant, priority, request, state, result, encode(result_sha256, 'hex') "
                        "AS sha256, error_type, webhook_url, attempts, runs, crashes, cancel_requested, "
                        "started_at, ended_at FROM jobs"):
        evidence.jobs[job_id(job["id"])] = job
    evidence.queue = sql.rows("SELECT job::text FROM queue")
    evidence.runs = sql.rows("SELECT job::text FROM runs")
    evidence.calls = sql.rows("SELECT c.*, c.job::text AS job FROM calls c ORDER BY c.job, c.call")
    for event in sql.rows("SELECT job::text, run, seq, kind, attempt, byte_offset, text, data "
                          "FROM events e ORDER BY e.job, e.run, e.seq"):
        evidence.events.setdefault(job_id(event["job"]), []).append(event)
    evidence.deliveries = sql.rows("SELECT id::text, tenant, endpoint, url, type, job::text, state, attempts, "
                                   "tries FROM deliveries")
    evidence.idempotency = sql.rows("SELECT tenant, key, job::text FROM idempotency")
    evidence.counts = sql.rows("SELECT tenant, priority, state, sum(delta)::bigint AS n FROM counts "
                               "GROUP BY 1, 2, 3")
    evidence.endpoints = sql.rows("SELECT id, tenant, url FROM endpoints WHERE disabled_at IS NULL "
                                  "AND deleted_at IS NULL")
    evidence.sim_calls = stack.simulator.all_calls()
    for name in hook_names:
        evidence.hooks += stack.simulator.deliveries(name)
    return evidence
