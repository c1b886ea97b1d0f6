/* SPDX-License-Identifier: Apache-2.0 */
/* From the words of the command line to a command, its options and its arguments. */
#include "producer/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/str.h"

const struct cli_option cli_global_options[] = {
    {.name = "json", .help = "print the server's JSON instead of tables"},
    {.name = "profile", .value = "NAME", .help = "use this profile and nothing of the environment"},
    {.name = "url", .value = "URL", .help = "the server; keys are taken from the environment"},
    {.name = "help", .letter = 'h', .help = "say what the command does"},
    {.name = NULL},
};

/* --- finding ---------------------------------------------------------------------------------- */

/* "limits set" against two words; how many words it has, 0: it is another one. */
static int matches(const char *name, int count, char **words)
{
    const char *space = strchr(name, ' ');
    size_t len = space ? (size_t)(space - name) : strlen(name);

    if (count < (space ? 2 : 1) || strlen(words[0]) != len || strncmp(words[0], name, len) != 0)
        return 0;
    if (!space)
        return 1;
    return strcmp(words[1], space + 1) == 0 ? 2 : 0;
}

const struct cli_command *cli_find(int count, char **words, int *used)
{
    const struct cli_command *found = NULL;

    *used = 0;
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        int took = matches(command->name, count, words);

        if (took > *used) {
            found = command;
            *used = took;
        }
    }
    return found;
}

/* --- options ---------------------------------------------------------------------------------- */

static const struct cli_option *find_in(const struct cli_option *options, const char *name,
                                        size_t len, char letter)
{
    for (; options && options->name; options++)
        if (letter ? options->letter == letter
                   : strlen(options->name) == len && strncmp(options->name, name, len) == 0)
            return options;
    return NULL;
}

static const struct cli_option *find_option(const struct cli *cli, const char *name, size_t len,
                                            char letter)
{
    const struct cli_option *own = find_in(cli->command->options, name, len, letter);

    return own ? own : find_in(cli_global_options, name, len, letter);
}

static bool unknown_option(const struct cli *cli, const char *word, struct err *err)
{
    const char *names[64];
    size_t count = 0;
    const char *nearest;
    char name[64];

    for (const struct cli_option *o = cli->command->options; o && o->name && count < 60; o++)
        names[count++] = o->name;
    for (const struct cli_option *o = cli_global_options; o->name && count < 64; o++)
        names[count++] = o->name;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word[1] ? word + 2 : "");
    nearest = strncmp(word, "--", 2) == 0 ? str_nearest(name, names, count) : NULL;
    return err_set(err, "unknown option %.64s%s%s%s", word, nearest ? " (did you mean --" : "",
                   nearest ? nearest : "", nearest ? "?)" : "");
}

/* Is value one of "a|b|c"? */
static bool is_choice(const char *choices, const char *value)
{
    size_t len = strlen(value);

    while (*choices) {
        size_t size = strcspn(choices, "|");

        if (size == len && strncmp(choices, value, len) == 0)
            return true;
        choices += size + (choices[size] == '|');
    }
    return false;
}

static bool add_given(struct cli *cli, const struct cli_option *option, const char *value,
                      struct err *err)
{
    if (cli->given_count == CLI_WORDS_MAX)
        return err_set(err, "too many options");
    if (!(option->choices && strcmp(option->choices, "FILE") == 0) &&
        !str_utf8_valid(value, strlen(value)))
        return err_set(err, "--%s: not UTF-8", option->name);
    if (option->value && option->choices && strcmp(option->choices, "FILE") != 0 &&
        !is_choice(option->choices, value))
        return err_set(err, "--%s: expected one of %s, got \"%.64s\"", option->name,
                       option->choices, value);
    cli->given[cli->given_count].option = option;
    cli->given[cli->given_count++].value = value;
    return true;
}

/* "--name=value", "--name value", "--flag", "-x value", "-xvalue".  *at is the word; it moves on
 * when the next one is the value. */
static bool take_option(struct cli *cli, int count, char **words, int *at, struct err *err)
{
    const char *word = words[*at];
    bool is_long = word[1] == '-';
    size_t len = is_long ? strcspn(word + 2, "=") : 0;
    const struct cli_option *option =
        find_option(cli, is_long ? word + 2 : "", len, is_long ? '\0' : word[1]);
    const char *value = NULL;

    if (!option)
        return unknown_option(cli, word, err);
    if (is_long && word[2 + len] == '=')
        value = word + 3 + len;
    else if (!is_long && word[2])
        value = word + 2;
    if (!option->value && value)
        return err_set(err, "--%s takes no value", option->name);
    if (option->value && !value) {
        if (*at + 1 >= count)
            return err_set(err, "--%s: %s is missing", option->name, option->value);
        value = words[++*at];
    }
    return add_given(cli, option, value ? value : "", err);
}

/* Names of files are whatever bytes they are; all else goes into JSON, which would drop it. */
static bool check_argument(const struct cli *cli, const char *word, struct err *err)
{
    const char *choices = cli->command->argument_choices;

    return (choices && strcmp(choices, "FILE") == 0) || str_utf8_valid(word, strlen(word)) ||
           err_set(err, "\"%.64s\" is not UTF-8", word);
}

static bool check_count(const struct cli *cli, struct err *err)
{
    const struct cli_command *command = cli->command;

    if (cli_flag(cli, "help"))
        return true;
    if (cli->argument_count < command->min_arguments)
        return err_set(err, "expected %s", command->arguments);
    if (cli->argument_count > command->max_arguments)
        return err_set(err, "\"%.64s\" is one word too many%s",
                       cli->arguments[command->max_arguments],
                       command->max_arguments == 1 ? " (put the text in quotes)" : "");
    return true;
}

bool cli_parse(struct cli *cli, int count, char **words, struct err *err)
{
    bool only_arguments = false;

    for (int i = 0; i < count; i++) {
        const char *word = words[i];

        if (!only_arguments && strcmp(word, "--") == 0) {
            only_arguments = true;
        } else if (!only_arguments && word[0] == '-' && word[1]) {
            if (!take_option(cli, count, words, &i, err))
                return false;
        } else if (cli->argument_count == CLI_WORDS_MAX) {
            return err_set(err, "too many arguments");
        } else if (!check_argument(cli, word, err)) {
            return false;
        } else {
            cli->arguments[cli->argument_count++] = word;
        }
    }
    return check_count(cli, err);
}

/* --- asking ----------------------------------------------------------------------------------- */

const char *cli_option(const struct cli *cli, const char *name)
{
    for (int i = cli->given_count; i-- > 0;)
        if (strcmp(cli->given[i].option->name, name) == 0)
            return cli->given[i].value;
    return NULL;
}

bool cli_flag(const struct cli *cli, const char *name)
{
    return cli_option(cli, name) != NULL;
}

const char *cli_option_at(const struct cli *cli, const char *name, int n)
{
    for (int i = 0; i < cli->given_count; i++)
        if (strcmp(cli->given[i].option->name, name) == 0 && n-- == 0)
            return cli->given[i].value;
    return NULL;
}

bool cli_option_number(const struct cli *cli, const char *name, int64_t min, int64_t max,
                       int64_t *out)
{
    const char *text = cli_option(cli, name);

    if (!text || (str_to_i64(text, strlen(text), out) && *out >= min && *out <= max))
        return true;
    cli_usage(cli, "--%s: expected a whole number from %" PRId64 " to %" PRId64 ", got \"%.64s\"",
              name, min, max, text);
    return false;
}

/* --- complaining ------------------------------------------------------------------------------ */

static void complain(const struct cli *cli, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

/* What is printed may hold words of the server's. */
static void complain(const struct cli *cli, const char *fmt, va_list args)
{
    struct buf text, safe;
    const char *name = cli->command ? cli->command->name : "";

    buf_init(&text, 64 * 1024);
    buf_init(&safe, 512 * 1024);
    if (buf_vprintf(&text, fmt, args) && output_escape(&safe, text.data, text.len, false))
        fprintf(stderr, "nightshift%s%s: %s\n", *name ? " " : "", name, safe.data);
    buf_release(&safe);
    buf_release(&text);
}

int cli_fail(const struct cli *cli, int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    complain(cli, fmt, args);
    va_end(args);
    return code;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    complain(cli, fmt, args);
    va_end(args);
    fprintf(stderr, "Try 'nightshift%s%s --help'.\n", cli->command ? " " : "",
            cli->command ? cli->command->name : "");
    return CLI_USAGE;
}

/* --- files ------------------------------------------------------------------------------------ */

char *cli_read_input(const struct cli *cli, const char *path, size_t max, size_t *len)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "r");
    char piece[16 * 1024], *text = NULL;
    struct buf content;
    size_t got;

    if (!file) {
        cli_fail(cli, CLI_USAGE, "%s: %s", path, strerror(errno));
        return NULL;
    }
    buf_init(&content, max + 1);
    buf_puts(&content, "");
    while ((got = fread(piece, 1, sizeof(piece), file)) > 0 && buf_append(&content, piece, got))
        ;
    if (ferror(file))
        cli_fail(cli, CLI_USAGE, "%s: %s", path, strerror(errno));
    else if (content.is_broken || content.len > max)
        cli_fail(cli, CLI_USAGE, "%s: more than %zu bytes", path, max);
    else
        text = buf_detach(&content, len);
    buf_release(&content);
    if (!is_stdin)
        fclose(file);
    return text;
}
