/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over a chat request's text that allocates nothing: it is made before every call. */
#include "common/model/request_facts.h"

#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"

static const char *const field_names[PRICED_FIELD_COUNT] = {
    [PRICED_SERVICE_TIER] = "service_tier",
    [PRICED_TOOLS] = "tools",
    [PRICED_MODALITIES] = "modalities",
    [PRICED_AUDIO] = "audio",
    [PRICED_WEB_SEARCH_OPTIONS] = "web_search_options",
    [PRICED_PREDICTION] = "prediction",
};

const char *priced_field_name(enum priced_field field)
{
    return field_names[field];
}

static bool is_null(const struct json_slice *value)
{
    return value->len == 4 && memcmp(value->text, "null", 4) == 0;
}

/* The member of an object; false when it is no object, or has none of that name. */
static bool member(const struct json_slice *object, const char *wanted, struct json_slice *out)
{
    struct json_walk walk;
    struct json_slice name, value;
    bool is_found = false;

    if (!json_walk_open(&walk, object, '{'))
        return false;
    while (json_walk_member(&walk, &name, &value))
        if (json_slice_is(&name, wanted)) {
            *out = value;
            is_found = true;
        }
    return is_found;
}

/* --- messages --------------------------------------------------------------------------------- */

static bool has_odd_part(const struct json_slice *content)
{
    struct json_walk walk;
    struct json_slice part, type;

    if (!json_walk_open(&walk, content, '['))
        return false;
    while (json_walk_element(&walk, &part))
        if (!member(&part, "type", &type) ||
            (!json_slice_is(&type, "text") && !json_slice_is(&type, "refusal")))
            return true;
    return false;
}

static bool has_attachment(const struct json_slice *message)
{
    struct json_walk walk;
    struct json_slice name, value;

    if (!json_walk_open(&walk, message, '{'))
        return true;
    while (json_walk_member(&walk, &name, &value)) {
        if (json_slice_is(&name, "content") && has_odd_part(&value))
            return true;
        /* Sound of an earlier answer, named by its id. */
        if (json_slice_is(&name, "audio") && !is_null(&value))
            return true;
    }
    return false;
}

static void read_messages(const struct json_slice *messages, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice message;

    if (!json_walk_open(&walk, messages, '['))
        return;
    while (json_walk_element(&walk, &message)) {
        out->messages++;
        out->has_attachment = out->has_attachment || has_attachment(&message);
    }
}

/* --- the rest --------------------------------------------------------------------------------- */

static void read_tools(const struct json_slice *tools, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice tool, type;

    if (!json_walk_open(&walk, tools, '[')) {
        if (!is_null(tools)) /* what a lenient provider makes of it nobody knows */
            out->priced |= 1u << PRICED_TOOLS;
        return;
    }
    while (json_walk_element(&walk, &tool)) {
        out->tools++;
        if (!member(&tool, "type", &type) ||
            (!json_slice_is(&type, "function") && !json_slice_is(&type, "custom")))
            out->priced |= 1u << PRICED_TOOLS;
    }
}

/* The older form of tools. */
static void count_functions(const struct json_slice *functions, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice function;

    if (!json_walk_open(&walk, functions, '['))
        return;
    while (json_walk_element(&walk, &function))
        out->tools++;
}

static void read_modalities(const struct json_slice *modalities, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice name;
    bool is_list = json_walk_open(&walk, modalities, '[');
    bool is_odd = !is_list && !is_null(modalities);

    while (is_list && json_walk_element(&walk, &name))
        is_odd = is_odd || !json_slice_is(&name, "text");
    if (is_odd)
        out->priced |= 1u << PRICED_MODALITIES;
}

static void read_max(const struct json_slice *value, struct request_facts *out)
{
    int64_t number;

    if (str_to_i64(value->text, value->len, &number) && number > out->max_output)
        out->max_output = number;
}

static void read_priced(const struct json_slice *value, enum priced_field field,
                        struct request_facts *out)
{
    if (!is_null(value))
        out->priced |= 1u << field;
}

static void read_member(const struct json_slice *name, const struct json_slice *value,
                        struct request_facts *out)
{
    if (json_slice_is(name, "messages"))
        read_messages(value, out);
    else if (json_slice_is(name, "max_tokens") || json_slice_is(name, "max_completion_tokens"))
        read_max(value, out);
    else if (json_slice_is(name, "tools"))
        read_tools(value, out);
    else if (json_slice_is(name, "functions"))
        count_functions(value, out);
    else if (json_slice_is(name, "modalities"))
        read_modalities(value, out);
    else if (json_slice_is(name, "service_tier") && !json_slice_is(value, "default"))
        read_priced(value, PRICED_SERVICE_TIER, out);
    else if (json_slice_is(name, "audio"))
        read_priced(value, PRICED_AUDIO, out);
    else if (json_slice_is(name, "web_search_options"))
        read_priced(value, PRICED_WEB_SEARCH_OPTIONS, out);
    else if (json_slice_is(name, "prediction"))
        read_priced(value, PRICED_PREDICTION, out);
}

void request_facts_read(const char *request, size_t len, struct request_facts *out)
{
    struct json_slice whole = {.text = request, .len = len}, name, value;
    struct json_walk walk;

    *out = (struct request_facts){.bytes = (int64_t)len};
    if (!json_walk_open(&walk, &whole, '{'))
        return;
    while (json_walk_member(&walk, &name, &value))
        read_member(&name, &value, out);
}
