/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz: parsing never breaks, and a splice leaves every other member byte for byte as it was. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(fact) \
    do {              \
        if (!(fact))  \
            abort();  \
    } while (0)

static void check_slices(const json_t *root, const char *text, size_t len)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)root, name, value)
    {
        struct json_slice slice;
        json_t *again;

        REQUIRE(json_member_slice(text, len, name, &slice));
        again = json_parse(slice.text, slice.len, JSON_READ_LENIENT, NULL);
        REQUIRE(again && json_equal(again, value));
        json_decref(again);
    }
}

static void check_untouched(const json_t *root, const char *text, size_t len, const struct buf *out)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)root, name, value)
    {
        struct json_slice before, after;

        if (strcmp(name, "model") == 0 || strcmp(name, "a") == 0)
            continue;
        REQUIRE(json_member_slice(text, len, name, &before));
        REQUIRE(json_member_slice(out->data, out->len, name, &after));
        REQUIRE(before.len == after.len && memcmp(before.text, after.text, before.len) == 0);
    }
}

static void check_splice(const json_t *root, const char *text, size_t len, int flags)
{
    static const struct json_edit edits[] = {{"model", "\"m\""}, {"a", NULL}};
    struct buf out;
    json_t *again;

    buf_init(&out, len + 64);
    REQUIRE(json_splice(text, len, edits, 2, &out, NULL));
    again = json_parse(out.data, out.len, flags, NULL);
    REQUIRE(again);
    REQUIRE(strcmp(json_string_or_null(again, "model"), "m") == 0);
    REQUIRE(!json_object_get(again, "a"));
    check_untouched(root, text, len, &out);
    json_decref(again);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct json_slice slice;

    for (int flags = JSON_READ_STRICT; flags <= JSON_READ_LENIENT; flags++) {
        struct err err;
        json_t *root = json_parse(text, size, flags, &err);

        if (json_is_object(root)) {
            check_slices(root, text, size);
            check_splice(root, text, size, flags);
        }
        json_decref(root);
    }
    if (!json_member_slice(text, size, "a", &slice))
        return 0;
    REQUIRE(slice.text >= text && slice.text + slice.len <= text + size);
    return 0;
}
