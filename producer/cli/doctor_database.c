/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor on Postgres, and on what it says of schema, workers and scheduler. */
#include <inttypes.h>
#include <string.h>

#include "common/model/doctor_store.h"
#include "common/model/schema_store.h"
#include "producer/cli/doctor.h"

enum { VERSION_MIN = 150000, CROWDED_PERCENT = 90, LEADER_SILENT_MS = 10000 };

static bool knows_database(const struct doctor *doctor, struct check *check)
{
    if (doctor->database_url)
        return true;
    check_skip(check, "no address: give --config FILE or DATABASE_URL");
    return false;
}

/* What libpq says, and what it means. */
static const char *postgres_remedy(const char *message)
{
    static const struct {
        const char *part, *remedy;
    } causes[] = {
        {"Connection refused",
         "start Postgres (systemctl start postgresql), or correct host and port in database_url"},
        {"could not translate host name",
         "correct the host's name in database_url, or the resolver"},
        {"timeout expired", "the host does not answer: is it up, and is port 5432 open to here?"},
        {"password authentication failed", "correct user and password in database_url"},
        {"no pg_hba.conf entry", "let this host in: add a line to pg_hba.conf and reload Postgres"},
        {"does not exist", "create the role or database, then run nightshift-migrate"},
        {"too many clients", "raise max_connections, or run fewer processes"},
        {"remaining connection slots", "raise max_connections, or run fewer processes"},
        {"starting up", "wait until it has recovered"},
        {"shutting down", "start Postgres again"},
        {"permission denied", "grant the role what it needs: nightshift-migrate --app-role ROLE"},
    };

    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        if (strstr(message, causes[i].part))
            return causes[i].remedy;
    return "look at Postgres's log";
}

void doctor_check_postgres(const struct doctor *doctor, struct check *check)
{
    struct doctor_server server;
    struct err err = {0};

    if (!knows_database(doctor, check))
        return;
    if (!doctor_look_server(doctor->database_url, &server, &err)) {
        check_bad(check, "%s\n%s", err.message, postgres_remedy(err.message));
        return;
    }
    if (server.version < VERSION_MIN)
        check_bad(check, "version %d.%d is too old\nupgrade to Postgres 15 or newer",
                  server.version / 10000, server.version % 10000);
    if (server.is_read_only)
        check_bad(check,
                  "the server is read-only\ndatabase_url must name the primary, not a standby");
    if (server.connections * 100 > server.connections_max * CROWDED_PERCENT)
        check_warn(check,
                   "%" PRId64 " of %" PRId64
                   " connections are in use\nraise max_connections, or run fewer processes",
                   server.connections, server.connections_max);
    if (check->count == 0)
        check_ok(check, "Postgres %d.%d, %" PRId64 " of %" PRId64 " connections",
                 server.version / 10000, server.version % 10000, server.connections,
                 server.connections_max);
}

void doctor_check_schema(const struct doctor *doctor, struct check *check)
{
    struct err err = {0};

    if (!knows_database(doctor, check))
        return;
    switch (schema_check(doctor->database_url, &err)) {
    case SCHEMA_FITS:
        check_ok(check, "version %d or newer", SCHEMA_VERSION);
        break;
    case SCHEMA_OLD:
        check_bad(check, "%s\nrun nightshift-migrate with the owner's DATABASE_URL", err.message);
        break;
    case SCHEMA_AWAY:
        check_skip(check, "Postgres cannot be asked");
        break;
    }
}

/* False: told already, or there is nothing to ask. */
static bool look_fleet(const struct doctor *doctor, struct check *check, struct doctor_fleet *fleet)
{
    struct err err = {0};

    if (!knows_database(doctor, check))
        return false;
    if (schema_check(doctor->database_url, &err) != SCHEMA_FITS) {
        check_skip(check, "Postgres cannot be asked, or its schema does not fit");
        return false;
    }
    if (doctor_look_fleet(doctor->database_url, fleet, &err))
        return true;
    check_bad(check, "%s\n%s", err.message, postgres_remedy(err.message));
    return false;
}

void doctor_check_workers(const struct doctor *doctor, struct check *check)
{
    struct doctor_fleet fleet;

    if (!look_fleet(doctor, check, &fleet))
        return;
    if (fleet.workers_alive == 0 && fleet.newest_beat_ms >= 0)
        check_bad(check,
                  "no worker is alive: the last beat was %" PRId64
                  " s ago\nlook at the worker's log, start nightshift-worker again (kill -CONT if "
                  "it is stopped)",
                  fleet.newest_beat_ms / 1000);
    else if (fleet.workers_alive == 0)
        check_bad(check,
                  "no worker is alive: jobs are taken in, none runs\nstart nightshift-worker; "
                  "if it runs, its log says why it does not reach Postgres");
    else if (fleet.workers_silent > 0)
        check_warn(check,
                   "%" PRId64 " alive, %" PRId64
                   " silent for over 6 s\nlook at the silent one's log; its jobs are taken from it",
                   fleet.workers_alive, fleet.workers_silent);
    else
        check_ok(check, "%" PRId64 " alive, %" PRId64 "%s jobs ready to run", fleet.workers_alive,
                 fleet.waiting, fleet.waiting >= 1000 ? " or more" : "");
}

void doctor_check_scheduler(const struct doctor *doctor, struct check *check)
{
    struct doctor_fleet fleet;

    if (!look_fleet(doctor, check, &fleet))
        return;
    if (fleet.leader_beat_ms < 0)
        check_bad(check,
                  "no scheduler leads: waiting jobs are not dealt, deadlines and rescue rest\n"
                  "start nightshift-scheduler; if it runs, its log says why it cannot lead");
    else if (fleet.leader_beat_ms > LEADER_SILENT_MS)
        check_bad(check,
                  "no scheduler leads: %s was last heard of %" PRId64
                  " s ago\nstart nightshift-scheduler (kill -CONT if it is stopped), best two of "
                  "them on different machines",
                  fleet.leader, fleet.leader_beat_ms / 1000);
    else
        check_ok(check, "%s leads", fleet.leader);
}
