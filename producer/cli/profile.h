/* SPDX-License-Identifier: Apache-2.0 */
/* Which server to talk to, and with which keys: environment, or a profile of the user's file. */
#ifndef PRODUCER_CLI_PROFILE_H
#define PRODUCER_CLI_PROFILE_H

#include "common/base/err.h"

/* ~/.config/nightshift/config.yaml ($XDG_CONFIG_HOME is honoured):
 *
 *   profile: local                 # the one in use when --profile does not say
 *   profiles:
 *     local: {url: "http://127.0.0.1:8080", api_key: file:key, admin_key: ns_...}
 *
 * A file with keys written into it must be readable by its owner alone.  URL and keys come from one
 * place, so that no key of one server is ever sent to another: --profile means that profile and
 * nothing else; a URL from --url or NIGHTSHIFT_URL goes with the keys of the environment; else the
 * file's profile (whose keys the environment's replace). */
struct profile {
    char *name; /* NULL: none is in use */
    char *url;  /* without trailing slash */
    char *api_key;
    char *admin_key; /* NULL: none */
};

#define PROFILE_DEFAULT_URL "http://127.0.0.1:8080"

/* name, url: what the command line said, or NULL. */
bool profile_load(struct profile *profile, const char *name, const char *url,
                  struct err *err) MUST_CHECK;
void profile_release(struct profile *profile); /* wipes the keys */

/* The path of the user's file; the caller frees. */
char *profile_path(void);

#endif
