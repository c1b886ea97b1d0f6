/* SPDX-License-Identifier: Apache-2.0 */
/* Time in microseconds since the epoch, its RFC 3339 and HTTP forms, and a monotonic clock. */
#ifndef COMMON_BASE_CLOCK_H
#define COMMON_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)
#define US_PER_DAY (INT64_C(86400) * US_PER_S)

enum { CLOCK_RFC3339_SIZE = 32 };

int64_t clock_now_us(void);       /* wall clock of this machine */
int64_t clock_monotonic_us(void); /* never goes back; for durations and timeouts */

/* The database's clock as seen from here: what it said when it was last asked, gone on since by a
 * clock that nobody sets, so that a jump of this machine's wall clock moves nothing; until then the
 * wall clock.  Everything that is compared with times in the database uses this one. */
int64_t clock_db_us(void);
void clock_set_db_us(int64_t now_us); /* it is now_us there; 0: not known */

/* "2026-11-21T03:04:05.678Z": UTC, milliseconds, rounded down. */
void clock_format_rfc3339(int64_t us, char out[CLOCK_RFC3339_SIZE]);

/* RFC 3339 with any offset and any fraction; years 1970 to 9999. */
bool clock_parse_rfc3339(const char *text, size_t len, int64_t *us) MUST_CHECK;

/* IMF-fixdate, RFC 850 and asctime forms of HTTP. */
bool clock_parse_http_date(const char *text, size_t len, int64_t *us) MUST_CHECK;

#endif
