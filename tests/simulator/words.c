/* SPDX-License-Identifier: Apache-2.0 */
/* The answer's text: words that depend on a seed and a position only. */
#include "tests/simulator/words.h"

#include <string.h>

#include "common/base/buf.h"

static const char *const plain[] = {
    "night",  "river",  "lantern", "quiet",  "harbor", "signal", "copper", "meadow",
    "orbit",  "ledger", "amber",   "window", "thread", "gather", "winter", "carbon",
    "silver", "north",  "garden",  "engine", "paper",  "marble", "hollow", "cedar",
    "bridge", "candle", "pocket",  "summit", "velvet", "anchor", "timber", "echo",
};

static const char *const wide[] = {
    "\xc3\xbc"
    "ber", /* two-byte letters */
    "na\xc3\xaf"
    "ve",
    "\xd0\xbd\xd0\xbe\xd1\x87\xd1\x8c",
    "\xce\xbd\xcf\x8d\xce\xba\xcf\x84\xce\xb1",
    "\xe5\xa4\x9c\xe5\x8b\xa4", /* three bytes */
    "\xe2\x82\xac"
    "42",
    "\xf0\x9f\x8c\x99",                             /* four bytes */
    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80", /* joined */
    "\xd7\x9c\xd7\x99\xd7\x9c\xd7\x94",             /* right to left */
    "e\xcc\x81t\xc3\xa9",                           /* combining mark */
    "\"quoted\"",
    "back\\slash",
    "tab\tnew\nline",
    "\xe2\x80\xa8"
    "sep", /* U+2028 */
};

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t words_seed(const void *digest, uint64_t salt)
{
    uint64_t seed;

    memcpy(&seed, digest, sizeof(seed));
    return mix(seed ^ mix(salt));
}

bool words_put(struct buf *out, uint64_t seed, int64_t index, bool is_unicode)
{
    uint64_t dice = mix(seed + (uint64_t)index);
    const char *word = plain[(dice >> 8) % (sizeof(plain) / sizeof(plain[0]))];

    if (is_unicode && (dice & 1))
        word = wide[(dice >> 8) % (sizeof(wide) / sizeof(wide[0]))];
    return (index == 0 || buf_putc(out, ' ')) && buf_puts(out, word);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t words_piece(const char *text, size_t len)
{
    size_t end = 0;

    while (end < len && is_blank(text[end]))
        end++;
    while (end < len && !is_blank(text[end]))
        end++;
    return end;
}
