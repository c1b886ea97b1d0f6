/* SPDX-License-Identifier: Apache-2.0 */
/* What every command of `nightshift` is given: its words, the output, the profile, the server. */
#ifndef PRODUCER_CLI_CLI_H
#define PRODUCER_CLI_CLI_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"
#include "producer/cli/output.h"
#include "producer/cli/profile.h"

/* How a command ends; the same table is printed by --help and the man page. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,        /* a job failed, lines were bad, a check found something, no output */
    CLI_USAGE = 2,         /* wrong words on the command line, or a broken profile */
    CLI_UNREACHABLE = 3,   /* no answer, or the server said that it cannot just now (5xx) */
    CLI_REFUSED = 4,       /* the server said no (4xx) */
    CLI_INTERRUPTED = 130, /* Ctrl-C */
};

struct cli;
struct api;

/* An option of a command.  value is what help calls its value; NULL: a flag.  choices: "a|b|c" is
 * checked and completed, "FILE" completes file names; may be NULL. */
struct cli_option {
    const char *name;
    const char *value;
    const char *choices;
    const char *help;
    char letter; /* 0: none */
};

struct cli_command {
    const char *name;      /* "limits set" */
    const char *arguments; /* as help shows them: "TENANT", "[TEXT]"; "" for none */
    int min_arguments, max_arguments;
    const char *argument_choices; /* of the first argument, as of an option; may be NULL */
    const char *summary;
    const char *more;                 /* sentences for --help and the man page; may be NULL */
    const struct cli_option *options; /* ended by one without a name; may be NULL */
    int (*run)(struct cli *cli);      /* enum cli_exit */
};

/* All commands, in the order of help; ended by one without a name. */
extern const struct cli_command cli_commands[];
extern const struct cli_option cli_global_options[];

enum { CLI_WORDS_MAX = 512 };

struct cli {
    const struct cli_command *command;
    struct {
        const struct cli_option *option;
        const char *value; /* "" of a flag */
    } given[CLI_WORDS_MAX];
    int given_count;
    const char *arguments[CLI_WORDS_MAX];
    int argument_count;
    struct output out;
    struct profile profile;
    struct api *api; /* made at the first call */
};

/* Which command do the words (the program's name left out) start with?  *used is how many it took.
 */
const struct cli_command *cli_find(int count, char **words, int *used);
/* Sorts the rest of the words into options and arguments; false: err says what is wrong. */
bool cli_parse(struct cli *cli, int count, char **words, struct err *err) MUST_CHECK;

/* The last value of an option, NULL when it was not given ("" for a flag). */
const char *cli_option(const struct cli *cli, const char *name);
bool cli_flag(const struct cli *cli, const char *name);
/* The n-th value (from 0) of an option that may be given several times. */
const char *cli_option_at(const struct cli *cli, const char *name, int n);
/* A whole number; false with the complaint printed when it is none or out of range. */
bool cli_option_number(const struct cli *cli, const char *name, int64_t min, int64_t max,
                       int64_t *out) MUST_CHECK;

/* "nightshift COMMAND: ..." on standard error; gives the exit code back. */
int cli_fail(const struct cli *cli, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same, with where to look; CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The whole of a file, or of standard input for "-"; the caller frees.  NULL: told already. */
char *cli_read_input(const struct cli *cli, const char *path, size_t max, size_t *len);

#endif
