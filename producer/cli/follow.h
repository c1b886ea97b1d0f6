/* SPDX-License-Identifier: Apache-2.0 */
/* A job until its end: by its events, or by asking again and again. */
#ifndef PRODUCER_CLI_FOLLOW_H
#define PRODUCER_CLI_FOLLOW_H

#include <jansson.h>

#include "producer/cli/cli.h"

/* Prints the text as it is written (with --json every event as a line), and with tells_story also
 * what else happens, on standard error.  after: a cursor, or NULL.  Connections that break are made
 * again where they broke.  CLI_DONE when the job succeeded. */
int follow_events(struct cli *cli, const char *job, const char *after, bool tells_story);

/* Waits for the end and prints the text (with --json the job).  CLI_DONE when it succeeded. */
int follow_wait(struct cli *cli, const char *job);

/* The end of a job as an exit code; why it did not succeed is told on standard error. */
int follow_verdict(const struct cli *cli, const json_t *job);

#endif
