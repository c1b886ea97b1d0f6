/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-migrate: brings the database to this version's schema, and makes the first admin key.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"
#include "common/base/crypto.h"
#include "common/base/dump.h"
#include "common/base/str.h"
#include "common/io/pg.h"
#include "migrations/admin_key_store.h"
#include "migrations/migrate.h"

static const char program[] = "nightshift-migrate";

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_PENDING = 3, KEY_NAME_MAX = 128 };

static const char usage[] =
    "Usage: nightshift-migrate [OPTION]...\n"
    "Brings the database to this version's schema.  May be run at any time, also twice at once.\n"
    "\n"
    "  --database-url URL       default: database_url of the configuration, or $DATABASE_URL\n"
    "  --config FILE            configuration file (repeatable)\n"
    "  --app-role NAME          then give this role what the daemons need, and no more\n"
    "  --create-admin-key NAME  then make an admin key and print it, once, on standard output\n"
    "  --pepper-file FILE       the pepper (32 bytes in base64) when no configuration says it\n"
    "  --status                 only show what is applied and what is pending\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 done (or up to date), 1 failed, 2 wrong usage, 3 --status: some are pending.\n";

struct arguments {
    const char *database_url;
    const char *configs[CONFIG_FILES_MAX];
    size_t config_count;
    const char *app_role;
    const char *admin_key_name;
    const char *pepper_file;
    bool wants_status;
};

enum {
    OPT_URL = 256,
    OPT_CONFIG,
    OPT_ROLE,
    OPT_KEY,
    OPT_PEPPER,
    OPT_STATUS,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {.name = "database-url", .has_arg = required_argument, .val = OPT_URL},
    {.name = "config", .has_arg = required_argument, .val = OPT_CONFIG},
    {.name = "app-role", .has_arg = required_argument, .val = OPT_ROLE},
    {.name = "create-admin-key", .has_arg = required_argument, .val = OPT_KEY},
    {.name = "pepper-file", .has_arg = required_argument, .val = OPT_PEPPER},
    {.name = "status", .val = OPT_STATUS},
    {.name = "help", .val = OPT_HELP},
    {.name = "version", .val = OPT_VERSION},
    {.name = NULL},
};

static int fail(const struct err *err)
{
    fprintf(stderr, "%s: %s\n", program, err->message);
    return EXIT_FAILED;
}

static bool wrong_usage(const char *why)
{
    fprintf(stderr, "%s: %s\nTry '%s --help'.\n", program, why, program);
    return false;
}

/* False: the program ends with *status. */
static bool argument_take(struct arguments *arguments, int option, int *status)
{
    switch (option) {
    case OPT_URL:
        arguments->database_url = optarg;
        return true;
    case OPT_CONFIG:
        if (arguments->config_count == CONFIG_FILES_MAX)
            return wrong_usage("too many configuration files");
        arguments->configs[arguments->config_count++] = optarg;
        return true;
    case OPT_ROLE:
        arguments->app_role = optarg;
        return true;
    case OPT_KEY:
        arguments->admin_key_name = optarg;
        return true;
    case OPT_PEPPER:
        arguments->pepper_file = optarg;
        return true;
    case OPT_STATUS:
        arguments->wants_status = true;
        return true;
    case OPT_HELP:
        fputs(usage, stdout);
        *status = EXIT_DONE;
        return false;
    case OPT_VERSION:
        printf("%s %s\n", program, NIGHTSHIFT_VERSION);
        *status = EXIT_DONE;
        return false;
    default:
        fprintf(stderr, "Try '%s --help'.\n", program);
        return false;
    }
}

static bool arguments_read(struct arguments *arguments, int argc, char **argv, int *status)
{
    const char *name;
    int option;

    *status = EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!argument_take(arguments, option, status))
            return false;
    }
    name = arguments->admin_key_name;
    if (optind < argc)
        return wrong_usage("takes no arguments beside options");
    if (arguments->wants_status && (name || arguments->app_role))
        return wrong_usage("--status changes nothing: it goes without --app-role and "
                           "--create-admin-key");
    if (name && (!name[0] || strlen(name) > KEY_NAME_MAX || !str_utf8_valid(name, strlen(name))))
        return wrong_usage("--create-admin-key: expected a name of 1 to 128 bytes of UTF-8");
    if (name && !arguments->pepper_file && arguments->config_count == 0)
        return wrong_usage("--create-admin-key needs the pepper: --config or --pepper-file");
    return true;
}

/* What closest describes the database: the option, the file, the environment. */
static const char *find_url(const struct arguments *arguments, const struct config *config,
                            struct err *err)
{
    const char *url = arguments->database_url;

    if (!url)
        url = json_string_value(config_get(config, "database_url"));
    if (!url)
        url = getenv("DATABASE_URL");
    if (!url || !url[0]) {
        err_set(err, "which database? give --database-url, database_url in the configuration, or "
                     "DATABASE_URL in the environment");
        return NULL;
    }
    return url;
}

static char *pepper_text(const struct arguments *arguments, const struct config *config,
                         struct err *err)
{
    const char *text = json_string_value(config_get(config, "secrets.pepper"));
    char path[4096];

    if (arguments->pepper_file) {
        snprintf(path, sizeof(path), "file:%s", arguments->pepper_file);
        return config_secret(path, ".", err);
    }
    if (text)
        return config_secret(text, config_folder(config, "secrets.pepper"), err);
    err_set(err, "secrets.pepper: missing in the configuration");
    return NULL;
}

static bool find_pepper(const struct arguments *arguments, const struct config *config,
                        uint8_t pepper[API_KEY_PEPPER_SIZE], struct err *err)
{
    char *text = pepper_text(arguments, config, err);
    bool ok;

    if (!text)
        return false;
    ok = api_key_pepper_parse(text, pepper, err);
    crypto_wipe(text, strlen(text));
    free(text);
    return ok;
}

static bool create_admin_key(struct pg_session *session, const char *name,
                             const uint8_t pepper[API_KEY_PEPPER_SIZE], struct err *err)
{
    char text[API_KEY_SIZE];

    if (!admin_key_insert(session, name, pepper, text, err))
        return false;
    printf("%s\n", text);
    crypto_wipe(text, sizeof(text));
    if (fflush(stdout) != 0)
        return err_set(err, "admin key %s is stored, but could not be printed: revoke it", name);
    return true;
}

static int show_status(struct pg_session *session, struct err *err)
{
    bool is_current;

    if (!migrate_status(session, migrations_table, stdout, &is_current, err))
        return fail(err);
    return is_current ? EXIT_DONE : EXIT_PENDING;
}

/* The pepper is read first: a key that cannot be made should not cost a migration. */
static int work(const struct arguments *arguments, const struct config *config, const char *url)
{
    uint8_t pepper[API_KEY_PEPPER_SIZE];
    struct pg_session *session;
    struct err err;
    int status = EXIT_FAILED;

    if (arguments->admin_key_name && !find_pepper(arguments, config, pepper, &err))
        return fail(&err);
    session = pg_session_open(url, program, &err);
    if (!session)
        return fail(&err);
    if (arguments->wants_status)
        status = show_status(session, &err);
    else if (!migrate_apply(session, migrations_table, stderr, &err) ||
             (arguments->app_role && !migrate_grant(session, arguments->app_role, &err)) ||
             (arguments->admin_key_name &&
              !create_admin_key(session, arguments->admin_key_name, pepper, &err)))
        status = fail(&err);
    else
        status = EXIT_DONE;
    crypto_wipe(pepper, sizeof(pepper));
    pg_session_close(session);
    return status;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.config_count = 0};
    struct config *config;
    const char *url;
    struct err err;
    int status;

    dump_forbid();
    if (!arguments_read(&arguments, argc, argv, &status))
        return status;
    config = arguments.config_count > 0
                 ? config_load(arguments.configs, arguments.config_count, &err)
                 : config_empty();
    if (!config)
        return fail(&err);
    url = find_url(&arguments, config, &err);
    status = url ? work(&arguments, config, url) : fail(&err);
    config_free(config);
    return status;
}
