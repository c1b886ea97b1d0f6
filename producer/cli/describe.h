/* SPDX-License-Identifier: Apache-2.0 */
/* Help, the man page and shell completion, all written from the table of commands. */
#ifndef PRODUCER_CLI_DESCRIBE_H
#define PRODUCER_CLI_DESCRIBE_H

#include <stdio.h>

#include "producer/cli/cli.h"

void describe_program(FILE *out);
void describe_command(const struct cli_command *command, FILE *out);
/* All commands whose name starts with the word ("limits"); false: there is none. */
bool describe_group(const char *word, FILE *out);
void describe_man(FILE *out);
void describe_bash(FILE *out);
void describe_zsh(FILE *out);

/* Whatever its options say, main() answers these itself. */
int help_run(struct cli *cli);
int completion_run(struct cli *cli);
int man_run(struct cli *cli);

#endif
