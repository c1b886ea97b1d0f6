# SPDX-License-Identifier: Apache-2.0
"""A look into the stack's database, as its owner."""

import psycopg
from psycopg.rows import dict_row

from .wait import wait_until


class Sql:
    """One connection, opened when needed and again after Postgres was away."""

    def __init__(self, url):
        self.url = url
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def rows(self, sql, *parameters):
        """The rows as dicts."""
        for is_last in (False, True):
            try:
                if not self.connection or self.connection.closed:
                    self.connection = psycopg.connect(self.url, autocommit=True, row_factory=dict_row,
                                                      connect_timeout=5)
                with self.connection.cursor() as cursor:
                    cursor.execute(sql, parameters or None)
                    return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self.close()
                if is_last:
                    raise
        return []

    def one(self, sql, *parameters):
        rows = self.rows(sql, *parameters)
        assert len(rows) == 1, f"{len(rows)} rows of {sql}"
        return rows[0]

    def value(self, sql, *parameters):
        return next(iter(self.one(sql, *parameters).values()))

    # --- what many tests ask --------------------------------------------------------------------

    def await_limits(self, timeout_s=20):
        """Until every worker knows the limits that stand now.  It asks for changes all the time, and again only
        when it was answered: whose second question since is over has taken the first one's answer."""
        began = self.value("SELECT clock_timestamp()")
        asked = {}  # pid of a worker's connection -> when its questions began

        def all_know():
            for row in self.rows("SELECT pid, query_start FROM pg_stat_activity WHERE state = 'idle'"
                                 " AND application_name = 'nightshift-limits' AND query_start > %s", began):
                asked.setdefault(row["pid"], set()).add(row["query_start"])
            return sum(len(times) > 1 for times in asked.values()) >= self.value("SELECT count(*) FROM workers")
        wait_until(all_know, timeout_s, "the limits to be known to all workers", interval_s=0.02)

    def calls(self, job):
        """The ledger of a job, in order."""
        return self.rows("SELECT * FROM calls WHERE job = %s ORDER BY call", job_uuid(job))

    def events(self, job):
        return self.rows("SELECT * FROM events WHERE job = %s ORDER BY run, seq", job_uuid(job))

    def is_live(self, job):
        """Whether the job is in queue or runs."""
        return bool(self.rows("SELECT FROM queue WHERE job = %s UNION ALL SELECT FROM runs WHERE job = %s",
                              job_uuid(job), job_uuid(job)))

    def run(self, job):
        rows = self.rows("SELECT * FROM runs WHERE job = %s", job_uuid(job))
        return rows[0] if rows else None


def job_uuid(job):
    """The uuid in the database of a job id of the API."""
    assert job.startswith("job_") and len(job) == 36, job
    return job[4:]
