/* SPDX-License-Identifier: Apache-2.0 */
/* Core files: none. */
#include "common/base/dump.h"

#include <sys/prctl.h>
#include <sys/resource.h>

void dump_forbid(void)
{
    const struct rlimit none = {0};

    /* The limit is for files; a collector behind a pipe gets them regardless, so the flag, too. */
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
}
