/* SPDX-License-Identifier: Apache-2.0 */
/* A simulator in a process of its own, gone when it is stopped, and a client that sees every byte
 * of what it answers. */
#ifndef TESTS_UNIT_SIMULATOR_FIXTURE_H
#define TESTS_UNIT_SIMULATOR_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "tests/simulator/simulator.h"

/* --- the process ------------------------------------------------------------------------------ */

struct simulator_fixture {
    pid_t pid;
    int port;
};

bool simulator_fixture_start(struct simulator_fixture *fixture,
                             const struct simulator_options *options) MUST_CHECK;
/* False: it did not end well, which a leak found by a sanitizer is.  usage may be NULL. */
bool simulator_fixture_stop(const struct simulator_fixture *fixture,
                            struct rusage *usage) MUST_CHECK;

/* cmocka group set-up and tear-down: the one simulator that the client speaks to. */
int sim_group_start(void **state);
int sim_group_stop(void **state);
/* cmocka set-up of each test: it forgets all. */
int sim_reset(void **state);

extern char sim_log_path[]; /* its log */

/* --- the client ------------------------------------------------------------------------------- */

/* A wait that ends well ends long before SIM_DEADLINE_MS; one for silence is SIM_QUIET_MS. */
enum { SIM_DEADLINE_MS = 20000, SIM_QUIET_MS = 150, SIM_BYTES_MAX = 64 << 20 };

enum ending { ENDED_FIN, ENDED_RESET, STILL_OPEN };

/* What came back.  body is de-chunked; is_whole tells whether the last chunk (or all bytes of the
 * length) came. */
struct sim_answer {
    struct buf raw;
    struct buf body;
    size_t chunks;
    size_t longest_chunk;
    int status;
    bool is_whole;
    enum ending ending;
};

int sim_dial(void);
/* key NULL: no authorization.  extra is more header lines. */
void sim_send(int fd, const char *method, const char *path, const char *key, const char *extra,
              const char *body);
/* Reads until the connection ends, or until nothing came for quiet_ms. */
enum ending sim_read_all(int fd, struct buf *raw, int quiet_ms);
/* The same into an answer; closes fd. */
struct sim_answer sim_read_answer(int fd, int quiet_ms);
void sim_answer_release(struct sim_answer *answer);
/* The caller's to json_decref(). */
json_t *sim_answer_json(const struct sim_answer *answer);

struct sim_answer sim_ask(const char *method, const char *path, const char *body);
void sim_post(const char *path, const char *body, int status);
/* The caller's to json_decref(). */
json_t *sim_get(const char *path);

/* For rest of a chat: streamed, with usage. */
#define STREAM ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"

/* A request body; rest is more members.  The caller's to free(). */
char *sim_chat_body(const char *model, const char *prompt, const char *rest);
struct sim_answer sim_chat_at(const char *path, const char *model, const char *prompt,
                              const char *rest, int quiet_ms);
struct sim_answer sim_chat(const char *prompt, const char *rest);

bool text_contains(const struct buf *buf, const char *text, size_t len);
int text_count(const struct buf *buf, const char *text);

#endif
