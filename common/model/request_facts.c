/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over a chat request's text that allocates nothing: it is made before every call. */
#include "common/model/request_facts.h"

#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/request_fields.h"

static const char *const field_names[PRICED_FIELD_COUNT] = {
    [PRICED_SERVICE_TIER] = "service_tier",
    [PRICED_TOOLS] = "tools",
    [PRICED_MODALITIES] = "modalities",
    [PRICED_AUDIO] = "audio",
    [PRICED_INPUT_AUDIO] = "input_audio",
    [PRICED_MESSAGES] = "messages",
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

static void use(struct request_facts *out, enum priced_field field)
{
    out->priced |= 1u << field;
}

/* --- messages --------------------------------------------------------------------------------- */

/* Words cost by their bytes, images and files at most the context; sound has a price of its own,
 * and what else there will be nobody knows. */
static void read_part_type(const struct json_slice *type, struct request_facts *out)
{
    if (json_slice_is(type, "text") || json_slice_is(type, "refusal"))
        return;
    out->has_attachment = true;
    if (json_slice_is(type, "input_audio"))
        use(out, PRICED_INPUT_AUDIO);
    else if (!json_slice_is(type, "image_url") && !json_slice_is(type, "file"))
        use(out, PRICED_MESSAGES);
}

static void read_part(const struct json_slice *part, struct request_facts *out)
{
    struct json_slice name, value, type = {.text = "", .len = 0};
    struct json_walk walk;

    if (json_walk_open(&walk, part, '{'))
        while (json_walk_member(&walk, &name, &value)) {
            if (json_slice_is(&name, "type"))
                type = value;
            else if (json_slice_is(&name, "cache_control") && !is_null(&value))
                use(out, PRICED_MESSAGES);
        }
    read_part_type(&type, out);
}

static void read_content(const struct json_slice *content, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice part;

    if (!json_walk_open(&walk, content, '['))
        return;
    while (json_walk_element(&walk, &part))
        read_part(&part, out);
}

static void read_message(const struct json_slice *message, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice name, value;

    if (!json_walk_open(&walk, message, '{')) {
        out->has_attachment = true;
        return;
    }
    while (json_walk_member(&walk, &name, &value)) {
        if (json_slice_is(&name, "content"))
            read_content(&value, out);
        if (is_null(&value))
            continue;
        if (json_slice_is(&name, "cache_control"))
            use(out, PRICED_MESSAGES);
        if (json_slice_is(&name, "audio")) { /* of an earlier answer, named by its id */
            out->has_attachment = true;
            use(out, PRICED_INPUT_AUDIO);
        }
    }
}

static void read_messages(const struct json_slice *messages, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice message;

    if (!json_walk_open(&walk, messages, '['))
        return;
    while (json_walk_element(&walk, &message)) {
        out->messages++;
        read_message(&message, out);
    }
}

/* --- the rest --------------------------------------------------------------------------------- */

static bool is_own_tool(const struct json_slice *tool)
{
    struct json_walk walk;
    struct json_slice name, value;
    bool is_own = false;

    if (!json_walk_open(&walk, tool, '{'))
        return false;
    while (json_walk_member(&walk, &name, &value)) {
        if (json_slice_is(&name, "type"))
            is_own = json_slice_is(&value, "function") || json_slice_is(&value, "custom");
        else if (json_slice_is(&name, "cache_control") && !is_null(&value))
            return false;
    }
    return is_own;
}

static void read_tools(const struct json_slice *tools, struct request_facts *out)
{
    struct json_walk walk;
    struct json_slice tool;

    if (!json_walk_open(&walk, tools, '[')) {
        use(out, PRICED_TOOLS); /* what a lenient provider makes of it nobody knows */
        return;
    }
    while (json_walk_element(&walk, &tool)) {
        out->tools++;
        if (!is_own_tool(&tool))
            use(out, PRICED_TOOLS);
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
    bool is_odd = !is_list;

    while (is_list && json_walk_element(&walk, &name))
        is_odd = is_odd || !json_slice_is(&name, "text");
    if (is_odd)
        use(out, PRICED_MODALITIES);
}

static void read_max(const struct json_slice *value, struct request_facts *out)
{
    int64_t number;

    if (str_to_i64(value->text, value->len, &number) && number > out->max_output)
        out->max_output = number;
}

/* Members whose value says what the call costs.  False: name is none of them. */
static bool read_member(const char *name, const struct json_slice *value, struct request_facts *out)
{
    if (strcmp(name, "messages") == 0)
        read_messages(value, out);
    else if (strcmp(name, "max_tokens") == 0 || strcmp(name, "max_completion_tokens") == 0)
        read_max(value, out);
    else if (strcmp(name, "tools") == 0)
        read_tools(value, out);
    else if (strcmp(name, "functions") == 0)
        count_functions(value, out);
    else if (strcmp(name, "modalities") == 0)
        read_modalities(value, out);
    else if (strcmp(name, "service_tier") == 0)
        out->priced |= json_slice_is(value, "default") ? 0 : 1u << PRICED_SERVICE_TIER;
    else if (strcmp(name, "audio") == 0)
        use(out, PRICED_AUDIO);
    else if (strcmp(name, "web_search_options") == 0)
        use(out, PRICED_WEB_SEARCH_OPTIONS);
    else if (strcmp(name, "prediction") == 0)
        use(out, PRICED_PREDICTION);
    else
        return false;
    return true;
}

/* The next member that is not null: such a one is as good as not there.  name is "" if it is longer
 * than any that is known. */
static bool next_member(struct json_walk *walk, char name[REQUEST_FIELD_SIZE],
                        struct json_slice *value)
{
    struct json_slice slice;

    do {
        if (!json_walk_member(walk, &slice, value))
            return false;
    } while (is_null(value));
    if (!json_slice_copy(&slice, name, REQUEST_FIELD_SIZE))
        *name = '\0';
    return true;
}

void request_facts_read(const char *request, size_t len, struct request_facts *out)
{
    struct json_slice whole = {.text = request, .len = len}, value;
    char name[REQUEST_FIELD_SIZE];
    struct json_walk walk;

    *out = (struct request_facts){.text = request, .bytes = (int64_t)len};
    if (!json_walk_open(&walk, &whole, '{'))
        return;
    while (next_member(&walk, name, &value))
        if (!read_member(name, &value, out) && !request_field_is_plain(name))
            out->has_unknown = true;
}

bool request_facts_unknown(const struct request_facts *facts, request_unknown_fn *visit, void *arg)
{
    struct json_slice whole = {.text = facts->text, .len = (size_t)facts->bytes}, value;
    char name[REQUEST_FIELD_SIZE];
    struct request_facts ignored = {0};
    struct json_walk walk;

    if (!facts->has_unknown || !json_walk_open(&walk, &whole, '{'))
        return true;
    while (next_member(&walk, name, &value))
        if (!read_member(name, &value, &ignored) && !request_field_is_plain(name) &&
            !visit(name, arg))
            return false;
    return true;
}
