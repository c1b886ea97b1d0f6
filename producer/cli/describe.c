/* SPDX-License-Identifier: Apache-2.0 */
/* Help, the man page and shell completion, all written from the table of commands. */
#include "producer/cli/describe.h"

#include <ctype.h>
#include <string.h>

static const struct {
    int code;
    const char *meaning;
} exits[] = {
    {CLI_DONE, "done; the jobs that were waited for succeeded"},
    {CLI_FAILED, "a job failed, lines of a batch were bad, a check found something wrong, or the "
                 "output could not be written"},
    {CLI_USAGE, "wrong usage, or a profile or file that cannot be read"},
    {CLI_UNREACHABLE, "the server does not answer, or says that it cannot just now (5xx)"},
    {CLI_REFUSED, "the server refused (4xx)"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C"},
};

static const struct {
    const char *name, *meaning;
} variables[] = {
    {"NIGHTSHIFT_URL", "the server"},
    {"NIGHTSHIFT_API_KEY", "a tenant's key (or file:PATH), for jobs"},
    {"NIGHTSHIFT_ADMIN_KEY", "an admin key (or file:PATH), for everything else"},
    {"NIGHTSHIFT_CA_FILE", "certificates to trust instead of the system's"},
    {"NO_COLOR", "if set, no colours"},
    {"XDG_CONFIG_HOME", "where nightshift/config.yaml is instead of ~/.config"},
};

static const char profile_help[] =
    "~/.config/nightshift/config.yaml holds profiles:\n"
    "\n"
    "  profile: local\n"
    "  profiles:\n"
    "    local: {url: \"http://127.0.0.1:8080\", api_key: \"file:/home/me/.nightshift-key\"}\n"
    "    prod:  {url: \"https://jobs.example\", api_key: ns_..., admin_key: ns_...}\n"
    "\n"
    "A file with keys in it must be readable by its owner alone (chmod 600).  --profile NAME uses\n"
    "that profile and nothing of the environment; without it NIGHTSHIFT_URL and the keys of the\n"
    "environment come first.  Keys are never taken from the command line, where others could see "
    "them.\n";

enum { COUNT_EXITS = sizeof(exits) / sizeof(exits[0]) };
enum { COUNT_VARIABLES = sizeof(variables) / sizeof(variables[0]) };
enum { SUMMARY_COLUMN = 24 };

/* --- help ------------------------------------------------------------------------------------- */

static void print_options(const struct cli_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        char left[64];

        snprintf(left, sizeof(left), "%s%c%s--%s%s%s", options->letter ? "-" : " ",
                 options->letter ? options->letter : ' ', options->letter ? ", " : "  ",
                 options->name, options->value ? " " : "", options->value ? options->value : "");
        fprintf(out,
                strlen(left) < 28 ? "  %-28s  %s\n" : "  %s\n                                %s\n",
                left, options->help);
    }
}

static void print_summary(const struct cli_command *command, FILE *out)
{
    fprintf(out, "  %-*s  %s\n", SUMMARY_COLUMN, command->name, command->summary);
}

void describe_program(FILE *out)
{
    fputs("Usage: nightshift COMMAND [OPTION]... [ARGUMENT]...\n"
          "The command line of Nightshift, a queue for calls to language models.\n\nCommands:\n",
          out);
    for (const struct cli_command *command = cli_commands; command->name; command++)
        print_summary(command, out);
    fputs("\nOptions of every command:\n", out);
    print_options(cli_global_options, out);
    fputs("\nEnvironment:\n", out);
    for (int i = 0; i < COUNT_VARIABLES; i++)
        fprintf(out, "  %-22s  %s\n", variables[i].name, variables[i].meaning);
    fprintf(out, "\n%s\nExit status:\n", profile_help);
    for (int i = 0; i < COUNT_EXITS; i++)
        fprintf(out, "  %3d  %s\n", exits[i].code, exits[i].meaning);
}

void describe_command(const struct cli_command *command, FILE *out)
{
    fprintf(out, "Usage: nightshift %s [OPTION]...%s%s\n%s.\n", command->name,
            *command->arguments ? " " : "", command->arguments, command->summary);
    if (command->more)
        fprintf(out, "\n%s\n", command->more);
    fputs("\nOptions:\n", out);
    print_options(command->options, out);
    print_options(cli_global_options, out);
}

bool describe_group(const char *word, FILE *out)
{
    size_t len = strlen(word);
    bool is_known = false;

    for (const struct cli_command *command = cli_commands; command->name; command++) {
        if (strncmp(command->name, word, len) != 0 || command->name[len] != ' ')
            continue;
        if (!is_known)
            fprintf(out, "Usage: nightshift %s COMMAND ...\n\nCommands:\n", word);
        print_summary(command, out);
        is_known = true;
    }
    return is_known;
}

int help_run(struct cli *cli)
{
    char *words[2] = {NULL, NULL};
    const struct cli_command *command;
    int used;

    for (int i = 0; i < cli->argument_count && i < 2; i++)
        words[i] = (char *)(uintptr_t)cli->arguments[i];
    command = cli_find(cli->argument_count, words, &used);
    if (cli->argument_count == 0)
        describe_program(stdout);
    else if (command)
        describe_command(command, stdout);
    else if (!describe_group(cli->arguments[0], stdout))
        return cli_usage(cli, "there is no command \"%.64s\"", cli->arguments[0]);
    return CLI_DONE;
}

/* --- the man page ----------------------------------------------------------------------------- */

/* Text for roff: no line starts a request, hyphens and backslashes are themselves. */
static void put_roff(const char *text, FILE *out)
{
    bool is_start = true;

    for (; *text; text++) {
        if (is_start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
        is_start = *text == '\n';
    }
}

static void man_options(const struct cli_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        fputs(".TP\n", out);
        if (options->letter)
            fprintf(out, "\\fB\\-%c\\fR, ", options->letter);
        fputs("\\fB\\-\\-", out);
        put_roff(options->name, out);
        fputs("\\fR", out);
        if (options->value)
            fprintf(out, " \\fI%s\\fR", options->value);
        fputc('\n', out);
        put_roff(options->help, out);
        fputc('\n', out);
    }
}

static void man_command(const struct cli_command *command, FILE *out)
{
    fprintf(out, ".SS nightshift %s [OPTION]...%s", command->name, *command->arguments ? " " : "");
    put_roff(command->arguments, out);
    fputc('\n', out);
    put_roff(command->summary, out);
    fputs(".\n", out);
    if (command->more) {
        fputs(".PP\n", out);
        put_roff(command->more, out);
        fputc('\n', out);
    }
    man_options(command->options, out);
}

static void man_table(FILE *out)
{
    fputs(".SH ENVIRONMENT\n", out);
    for (int i = 0; i < COUNT_VARIABLES; i++) {
        fprintf(out, ".TP\n\\fB%s\\fR\n", variables[i].name);
        put_roff(variables[i].meaning, out);
        fputc('\n', out);
    }
    fputs(".SH FILES\n.nf\n", out);
    put_roff(profile_help, out);
    fputs(".fi\n.SH EXIT STATUS\n", out);
    for (int i = 0; i < COUNT_EXITS; i++) {
        fprintf(out, ".TP\n\\fB%d\\fR\n", exits[i].code);
        put_roff(exits[i].meaning, out);
        fputc('\n', out);
    }
}

void describe_man(FILE *out)
{
    fputs(".TH NIGHTSHIFT 1 \"\" \"Nightshift " NIGHTSHIFT_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nnightshift \\- the command line of Nightshift, a queue for calls to language "
          "models\n"
          ".SH SYNOPSIS\n\\fBnightshift\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... "
          "[\\fIARGUMENT\\fR]...\n"
          ".SH DESCRIPTION\nSubmits jobs, follows them, runs files of them, and administers "
          "tenants, keys, limits and budgets.\nOn a terminal the answers are tables; with "
          "\\fB\\-\\-json\\fR they are the server's JSON.\nTimes are UTC.\n"
          ".SH OPTIONS OF EVERY COMMAND\n",
          out);
    man_options(cli_global_options, out);
    fputs(".SH COMMANDS\n", out);
    for (const struct cli_command *command = cli_commands; command->name; command++)
        man_command(command, out);
    man_table(out);
}

int man_run(struct cli *cli)
{
    (void)cli;
    describe_man(stdout);
    return CLI_DONE;
}

/* --- completion ------------------------------------------------------------------------------- */

/* Every first word once, or every second word of one. */
static void put_words(FILE *out, const char *first)
{
    const char *last = "";
    size_t len = first ? strlen(first) : 0;

    for (const struct cli_command *command = cli_commands; command->name; command++) {
        const char *word = command->name;
        size_t size;

        if (first && (strncmp(word, first, len) != 0 || word[len] != ' '))
            continue;
        word += first ? len + 1 : 0;
        size = strcspn(word, " ");
        if (strncmp(word, last, size) == 0 && (last[size] == ' ' || !last[size]))
            continue;
        fprintf(out, "%s%.*s", *last ? " " : "", (int)size, word);
        last = word;
    }
}

static void put_option_words(FILE *out, const struct cli_option *options)
{
    for (; options && options->name; options++)
        fprintf(out, " --%s", options->name);
}

static void bash_values(FILE *out, const struct cli_command *command)
{
    const struct cli_option *sets[] = {command->options, cli_global_options};

    for (int i = 0; i < 2; i++)
        for (const struct cli_option *o = sets[i]; o && o->name; o++) {
            if (!o->value)
                continue;
            fprintf(out, "            '%s --%s'", command->name, o->name);
            if (o->letter)
                fprintf(out, "|'%s -%c'", command->name, o->letter);
            fputs(") ", out);
            if (o->choices && strcmp(o->choices, "FILE") == 0)
                fputs("COMPREPLY=($(compgen -f -- \"$word\")) ;;\n", out);
            else
                fprintf(out, "COMPREPLY=($(IFS='|'; compgen -W '%s' -- \"$word\")) ;;\n",
                        o->choices ? o->choices : "");
        }
}

static void bash_command(FILE *out, const struct cli_command *command)
{
    fprintf(out, "            '%s') options='", command->name);
    put_option_words(out, command->options);
    put_option_words(out, cli_global_options);
    fputs("'", out);
    if (command->argument_choices)
        fprintf(out, " arguments='%s'", command->argument_choices);
    fputs(" ;;\n", out);
}

void describe_bash(FILE *out)
{
    fputs("# bash completion for nightshift, made by `nightshift completion bash`\n"
          "_nightshift() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local command=${COMP_WORDS[1]} seconds= options= arguments=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '",
          out);
    put_words(out, NULL);
    fputs(" --help --version' -- \"$word\"))\n        return\n    fi\n"
          "    case $command in\n",
          out);
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        size_t len = strcspn(command->name, " ");
        char first[32];

        if (!command->name[len] ||
            (command > cli_commands && strncmp(command[-1].name, command->name, len + 1) == 0))
            continue;
        snprintf(first, sizeof(first), "%.*s", (int)len, command->name);
        fprintf(out, "        %s) seconds='", first);
        put_words(out, first);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n"
          "    case \" $seconds \" in\n"
          "        *\" ${COMP_WORDS[2]} \"*) [ \"$COMP_CWORD\" -gt 2 ] && command=\"$command "
          "${COMP_WORDS[2]}\" ;;\n"
          "    esac\n"
          "    if [[ $before == -* ]]; then\n"
          "        case \"$command $before\" in\n",
          out);
    for (const struct cli_command *command = cli_commands; command->name; command++)
        bash_values(out, command);
    fputs("            *) before= ;;\n"
          "        esac\n"
          "        [ -n \"$before\" ] && return\n"
          "    fi\n"
          "    case $command in\n",
          out);
    for (const struct cli_command *command = cli_commands; command->name; command++)
        bash_command(out, command);
    fputs("    esac\n"
          "    if [[ $word == -* ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
          "    elif [ \"$arguments\" = FILE ]; then\n"
          "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
          "    else\n"
          "        [ \"$COMP_CWORD\" -eq 2 ] || seconds=\n"
          "        COMPREPLY=($(compgen -W \"$seconds ${arguments//|/ }\" -- \"$word\"))\n"
          "    fi\n"
          "}\n"
          "complete -F _nightshift nightshift\n",
          out);
}

/* For zsh, in single quotes and brackets. */
static void put_zsh(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (strchr("[]:\\", *text))
            fprintf(out, "\\%c", *text);
        else if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
}

static void zsh_action(const char *choices, FILE *out)
{
    if (choices && strcmp(choices, "FILE") == 0) {
        fputs("_files", out);
        return;
    }
    fputc('(', out);
    for (; choices && *choices; choices++)
        fputc(*choices == '|' ? ' ' : *choices, out);
    fputc(')', out);
}

/* name with its dashes */
static void zsh_option(const struct cli_option *option, const char *name, FILE *out)
{
    fprintf(out, " \\\n                '*%s[", name);
    put_zsh(option->help, out);
    fputc(']', out);
    if (option->value) {
        fprintf(out, ":%s:", option->value);
        zsh_action(option->choices, out);
    }
    fputc('\'', out);
}

static void zsh_options(const struct cli_option *options, FILE *out)
{
    char name[64];

    for (; options && options->name; options++) {
        snprintf(name, sizeof(name), "--%s", options->name);
        zsh_option(options, name, out);
        snprintf(name, sizeof(name), "-%c", options->letter);
        if (options->letter)
            zsh_option(options, name, out);
    }
}

static void zsh_command(const struct cli_command *command, FILE *out)
{
    fprintf(out, "        '%s')\n            _arguments", command->name);
    zsh_options(command->options, out);
    zsh_options(cli_global_options, out);
    if (command->max_arguments > 0) { /* else no option is completed behind an argument */
        fputs(" \\\n                '*:argument:", out);
        if (command->argument_choices)
            zsh_action(command->argument_choices, out);
        else
            fputc(' ', out);
        fputs("'", out);
    }
    fputs("\n            ;;\n", out);
}

static void zsh_names(FILE *out)
{
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        fprintf(out, "        '%s:", command->name);
        put_zsh(command->summary, out);
        fputs("'\n", out);
    }
}

void describe_zsh(FILE *out)
{
    fputs("#compdef nightshift\n"
          "# made by `nightshift completion zsh`\n"
          "_nightshift() {\n"
          "    local -a commands firsts seconds\n"
          "    local name first\n"
          "    commands=(\n",
          out);
    zsh_names(out);
    fputs("    )\n"
          "    if (( CURRENT == 2 )); then\n"
          "        firsts=(${(u)${commands%%:*}%% *})\n"
          "        _describe command firsts\n"
          "        return\n"
          "    fi\n"
          "    first=${words[2]}\n"
          "    seconds=(${${(M)commands:#$first *}#$first })\n"
          "    if (( CURRENT == 3 && $#seconds )) && [[ ${words[3]} != -* ]]; then\n"
          "        _describe command seconds\n"
          "        [[ -n ${(M)commands:#$first:*} ]] || return\n"
          "    fi\n"
          "    name=$first\n"
          "    if (( $#seconds )) && [[ -n ${(M)seconds:#${words[3]}:*} ]]; then\n"
          "        name=\"$first ${words[3]}\"\n"
          "        words=(\"${words[1]}\" \"${words[@]:3}\")\n"
          "        (( CURRENT -= 2 ))\n"
          "    else\n"
          "        words=(\"${words[1]}\" \"${words[@]:2}\")\n"
          "        (( CURRENT -= 1 ))\n"
          "    fi\n"
          "    case $name in\n",
          out);
    for (const struct cli_command *command = cli_commands; command->name; command++)
        zsh_command(command, out);
    fputs("    esac\n}\n_nightshift \"$@\"\n", out);
}

int completion_run(struct cli *cli)
{
    if (strcmp(cli->arguments[0], "bash") == 0)
        describe_bash(stdout);
    else if (strcmp(cli->arguments[0], "zsh") == 0)
        describe_zsh(stdout);
    else
        return cli_usage(cli, "expected bash or zsh, got \"%.32s\"", cli->arguments[0]);
    return CLI_DONE;
}
