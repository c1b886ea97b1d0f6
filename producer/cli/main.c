/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift: finds the command among the words and runs it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/dump.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "producer/cli/api.h"
#include "producer/cli/cli.h"
#include "producer/cli/describe.h"

/* What went to standard output is there, or the command has failed.  A reader that has gone (head)
 * has seen enough. */
static int finish(int code)
{
    int error;

    if (output_flush())
        return code;
    error = output_error();
    if (error != EPIPE)
        fprintf(stderr, "nightshift: standard output: %s\n",
                error ? strerror(error) : "not everything could be written");
    return code == CLI_DONE ? CLI_FAILED : code;
}

static int unknown_command(const char *word)
{
    const char *names[128], *nearest;
    size_t count = 0;

    for (const struct cli_command *c = cli_commands; c->name && count < 128; c++)
        names[count++] = c->name;
    nearest = str_nearest(word, names, count);
    fprintf(stderr, "nightshift: there is no command \"%.64s\"%s%s%s\nTry 'nightshift --help'.\n",
            word, nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "");
    return CLI_USAGE;
}

static int no_command(int count, char **words)
{
    if (count == 0) {
        describe_program(stderr);
        return CLI_USAGE;
    }
    if (strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0) {
        describe_program(stdout);
        return CLI_DONE;
    }
    if (strcmp(words[0], "--version") == 0) {
        puts("nightshift " NIGHTSHIFT_VERSION);
        return CLI_DONE;
    }
    if (count > 1 && strcmp(words[1], "--help") == 0 && describe_group(words[0], stdout))
        return CLI_DONE;
    if (describe_group(words[0], stderr))
        return CLI_USAGE;
    return unknown_command(words[0]);
}

static int run(struct cli *cli)
{
    struct err err = {0};
    int code;

    cli->out.is_json = cli_flag(cli, "json");
    cli->out.is_csv = cli_flag(cli, "csv");
    if (!profile_load(&cli->profile, cli_option(cli, "profile"), cli_option(cli, "url"), &err))
        return cli_fail(cli, CLI_USAGE, "%s", err.message);
    code = cli->command->run(cli);
    api_free(cli->api);
    profile_release(&cli->profile);
    return code;
}

int main(int argc, char **argv)
{
    static struct cli cli;
    struct err err = {0};
    int used;

    output_guard();
    dump_forbid();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    log_setup("nightshift", LOG_ERROR);
    output_init(&cli.out);
    cli.command = cli_find(argc - 1, argv + 1, &used);
    if (!cli.command)
        return finish(no_command(argc - 1, argv + 1));
    if (!cli_parse(&cli, argc - 1 - used, argv + 1 + used, &err))
        return cli_usage(&cli, "%s", err.message);
    if (cli_flag(&cli, "help")) {
        describe_command(cli.command, stdout);
        return finish(CLI_DONE);
    }
    return finish(run(&cli));
}
