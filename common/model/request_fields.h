/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a chat request that are known not to change what its tokens cost.  Pure. */
#ifndef COMMON_MODEL_REQUEST_FIELDS_H
#define COMMON_MODEL_REQUEST_FIELDS_H

#include <stdbool.h>

enum { REQUEST_FIELD_SIZE = 48 }; /* every name in the table is shorter */

/* Is name in the table?  Whatever is not may cost anything: providers invent fields every month,
 * and some of them bill by the search, by the page, or at another model's price. */
bool request_field_is_plain(const char *name);

/* The one that was meant, for error messages, or NULL. */
const char *request_field_nearest(const char *name);

#endif
