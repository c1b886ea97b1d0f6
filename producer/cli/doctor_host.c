/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor on this machine: the configuration, the clock, the disks. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/doctor_store.h"
#include "common/model/settings.h"
#include "producer/cli/doctor.h"

enum {
    SKEW_WARN_MS = 500,
    SKEW_BAD_MS = 5000,
    FREE_BAD_PERCENT = 2,
    FREE_WARN_PERCENT = 10,
    FREE_BAD_MB = 200,
    PLENTY_MB = 20 * 1024, /* of so much free nobody need hear */
};

/* --- the configuration ------------------------------------------------------------------------ */

static void check_secret(const struct doctor *doctor, struct check *check, const char *name)
{
    const char *text;
    struct err err = {0};
    char path[64], *secret;

    snprintf(path, sizeof(path), "secrets.%s", name);
    text = json_string_value(config_get(doctor->config, path));
    if (!text) {
        check_warn(check,
                   "%s is not set\nthe daemons need it: file:PATH of 32 random bytes in base64 "
                   "(openssl rand -base64 32)",
                   path);
        return;
    }
    secret = config_secret(text, config_folder(doctor->config, path), &err);
    if (!secret) {
        check_bad(check, "%s: %s\nmake the file, or let this user read it", path, err.message);
        return;
    }
    crypto_wipe(secret, strlen(secret));
    free(secret);
}

void doctor_check_config(const struct doctor *doctor, struct check *check)
{
    const struct provider *providers;
    const struct route *routes;

    if (*doctor->config_err.message) {
        check_bad(check,
                  "%s\ncorrect it there; `nightshift-worker --check-config FILE` says what was "
                  "understood",
                  doctor->config_err.message);
        return;
    }
    if (!doctor->config) {
        if (doctor->database_url || doctor->redis_url || doctor->kafka_brokers)
            check_skip(check, "none given; addresses are taken from the environment");
        else
            check_warn(check, "none given\ngive the daemons' own: --config FILE");
        return;
    }
    check_secret(doctor, check, "pepper");
    check_secret(doctor, check, "data_key");
    if (check->count == 0)
        check_ok(check, "%s%s: %zu providers, %zu routes", doctor->config_paths[0],
                 doctor->config_count > 1 ? " and more" : "",
                 settings_providers(doctor->settings, &providers),
                 settings_routes(doctor->settings, &routes));
}

/* --- the clock -------------------------------------------------------------------------------- */

void doctor_check_clock(const struct doctor *doctor, struct check *check)
{
    struct doctor_server server;
    struct err err = {0};
    int64_t skew_ms;

    if (!doctor->database_url || !doctor_look_server(doctor->database_url, &server, &err)) {
        check_skip(check, "Postgres cannot be asked for the time");
        return;
    }
    skew_ms = (server.clock_us - (server.asked_us + server.answered_us) / 2) / US_PER_MS;
    if (llabs(skew_ms) > SKEW_BAD_MS)
        check_bad(check,
                  "this machine's clock and the database's are %" PRId64
                  " ms apart\nlet both follow the same NTP servers (timedatectl, chronyc tracking)",
                  skew_ms);
    else if (llabs(skew_ms) > SKEW_WARN_MS)
        check_warn(check,
                   "this machine's clock and the database's are %" PRId64
                   " ms apart\nlook at NTP (timedatectl, chronyc tracking)",
                   skew_ms);
    else
        check_ok(check, "%" PRId64 " ms from the database's", skew_ms);
}

/* --- the disks -------------------------------------------------------------------------------- */

bool doctor_judge_space(struct check *check, const char *what, const char *path,
                        const struct statvfs *disk)
{
    int64_t free_mb = (int64_t)(disk->f_bavail * disk->f_frsize / (1024 * 1024));
    int64_t percent = disk->f_blocks ? (int64_t)(disk->f_bavail * 100 / disk->f_blocks) : 100;
    int64_t nodes = disk->f_files ? (int64_t)(disk->f_favail * 100 / disk->f_files) : 100;

    if (free_mb < FREE_BAD_MB || (percent < FREE_BAD_PERCENT && free_mb < PLENTY_MB) || nodes < 1)
        check_bad(check,
                  "%s (%s) is full: %" PRId64 " MB and %" PRId64
                  " %% of its files are left\nmake room there, or move it to a larger disk",
                  what, path, free_mb, nodes);
    else if ((percent < FREE_WARN_PERCENT && free_mb < PLENTY_MB) || nodes < FREE_WARN_PERCENT)
        check_warn(check,
                   "%s (%s) is filling up: %" PRId64 " MB are left\nmake room before it is full",
                   what, path, free_mb);
    else
        return false;
    return true;
}

static bool judge_disk(struct check *check, const char *what, const char *path)
{
    struct statvfs disk;

    if (statvfs(path, &disk) != 0) {
        check_bad(check, "%s: %s: %s\nmake the folder, or name another", what, path,
                  strerror(errno));
        return true;
    }
    return doctor_judge_space(check, what, path, &disk);
}

/* Bulk answers and results of batches wait there. */
static bool judge_temporary(struct check *check)
{
    const char *folder = getenv("TMPDIR");

    if (!folder || !*folder)
        folder = "/tmp";
    if (access(folder, W_OK | X_OK) != 0) {
        check_bad(check, "temporary files: %s: %s\nmake the folder writable, or set TMPDIR", folder,
                  strerror(errno));
        return true;
    }
    return judge_disk(check, "temporary files", folder);
}

static bool judge_database(const struct doctor *doctor, struct check *check)
{
    struct doctor_server server;
    struct stat status;
    struct err err;

    if (!doctor->database_url || !doctor_look_server(doctor->database_url, &server, &err) ||
        !*server.data_directory || stat(server.data_directory, &status) != 0)
        return false;
    return judge_disk(check, "Postgres's data", server.data_directory);
}

void doctor_check_disk(const struct doctor *doctor, struct check *check)
{
    bool is_told = judge_temporary(check);

    is_told |= judge_disk(check, "root", "/");
    is_told |= judge_database(doctor, check);
    if (!is_told)
        check_ok(check, "there is room");
}
