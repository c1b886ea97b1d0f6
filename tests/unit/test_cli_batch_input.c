/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a batch become submit bodies, each with a key that is the same every time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "producer/cli/batch_input.h"
#include "producer/cli/request.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct batch_defaults defaults = {
    .name = "", .model = "fast", .workflow = "wf", .priority = "low"};

static void test_json_lines_become_bodies(void **state)
{
    static const struct {
        const char *line, *body;
    } cases[] = {
        /* A whole body keeps its bytes; what is missing is put in. */
        {"{\"request\":{\"model\":\"m\",\"messages\":[],\"x\":1.50e0},\"workflow\":\"own\"}",
         "{\"request\":{\"model\":\"m\",\"messages\":[],\"x\":1.50e0},\"workflow\":\"own\","
         "\"priority\":\"low\"}"},
        {"{\"prompt\":\"hi\"}",
         "{\"request\":{\"model\":\"fast\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]},"
         "\"workflow\":\"wf\",\"priority\":\"low\"}"},
        {"{\"prompt\":\"hi\",\"model\":\"smart\",\"system\":\"be brief\",\"max_tokens\":5,"
         "\"priority\":\"high\",\"metadata\":{\"a\":\"b\"}}",
         "{\"request\":{\"model\":\"smart\",\"messages\":[{\"role\":\"system\",\"content\":\"be "
         "brief\"},{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":5},\"workflow\":\"wf\","
         "\"priority\":\"high\",\"metadata\":{\"a\":\"b\"}}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        struct buf out;

        buf_init(&out, 65536);
        assert_true(
            batch_body_of_json(cases[i].line, strlen(cases[i].line), &defaults, &out, &err));
        assert_string_equal(out.data, cases[i].body);
        buf_release(&out);
    }
}

static void test_bad_json_lines_say_why(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"{\"prompt\":", "column"},
        {"[]", "expected a JSON object"},
        {"{}", "expected a submit body"},
        {"{\"prompt\":\"x\",\"max_tokens\":\"many\"}", "max_tokens: expected a whole number"},
        {"{\"prompt\":\"x\",\"priorty\":\"low\"}", "did you mean priority?"},
        {"{\"prompt\":\"x\",\"max_tokens\":1.5}", "max_tokens: expected a whole number"},
        {"{\"prompt\":\"x\",\"user\":"
         "1234567890123456789012345678901234567890123456789012345678901234}",
         "user: the number is over 63 characters"},
        {"{\"prompt\":\"x\",\"user\":[]}", "user: expected a text or a number"},
        {"{\"prompt\":\"\xff\"}", "unable to decode"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        struct buf out;

        buf_init(&out, 65536);
        assert_false(
            batch_body_of_json(cases[i].line, strlen(cases[i].line), &defaults, &out, &err));
        if (!strstr(err.message, cases[i].why))
            fail_msg("%s", err.message);
        buf_release(&out);
    }
}

static void test_numbers_keep_their_digits(void **state)
{
    static const struct {
        const char *members, *part;
    } cases[] = {
        {"\"max_cost_usd\":0.1", "\"max_cost_usd\":\"0.1\""},
        {"\"max_cost_usd\": 0.00001 ", "\"max_cost_usd\":\"0.00001\""},
        {"\"max_cost_usd\":2", "\"max_cost_usd\":\"2\""},
        {"\"max_cost_usd\":2.0", "\"max_cost_usd\":\"2\""},
        {"\"max_tokens\":256.0", "\"max_tokens\":256"},
        {"\"max_tokens\":1e3", "\"max_tokens\":1000"},
        {"\"user\":123456789012345678901234567890", "\"123456789012345678901234567890\""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        struct buf out;
        char line[128];

        buf_init(&out, 65536);
        snprintf(line, sizeof(line), "{\"prompt\":\"x\",%s}", cases[i].members);
        assert_true(batch_body_of_json(line, strlen(line), &defaults, &out, &err));
        if (!strstr(out.data, cases[i].part))
            fail_msg("%s", out.data);
        buf_release(&out);
    }
}

/* With a template, too, a value that names a member must be one: a job without the bound that its
 * line gives would run without any. */
static void test_template_forgives_unknown_members_only(void **state)
{
    static const struct {
        const char *line, *why; /* NULL: it is a body */
    } cases[] = {
        {"{\"who\":\"Ada\",\"max_tokens\":5,\"list\":[],\"n\":1}", NULL},
        {"{\"who\":\"Ada\",\"max_tokens\":null}", NULL},
        {"{\"who\":\"Ada\",\"max_tokens\":\"1k\"}", "max_tokens: expected a whole number"},
        {"{\"who\":\"Ada\",\"max_attempts\":\"many\"}", "max_attempts: expected a whole number"},
        {"{\"who\":\"Ada\",\"timeout_s\":[]}", "timeout_s: expected a text or a number"},
        {"{\"who\":\"Ada\",\"metadata\":5}", "metadata: expected an object"},
    };
    struct batch_defaults filled = defaults;

    (void)state;
    filled.prompt_template = "Hello {who}";
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        struct buf out;
        bool ok;

        buf_init(&out, 65536);
        ok = batch_body_of_json(cases[i].line, strlen(cases[i].line), &filled, &out, &err);
        assert_int_equal(ok, cases[i].why == NULL);
        if (cases[i].why && !strstr(err.message, cases[i].why))
            fail_msg("%s", err.message);
        buf_release(&out);
    }
}

static void key_of(const char *name, int64_t number, const char *text, char out[256])
{
    struct err err = {0};
    struct buf body, line;

    buf_init(&body, 4096);
    buf_init(&line, 4096);
    buf_puts(&body, text);
    assert_true(batch_add_key(name, number, &body, &line, &err));
    snprintf(out, 256, "%s", line.data);
    buf_release(&line);
    buf_release(&body);
}

static void test_keys_are_the_same_for_the_same_line(void **state)
{
    char first[256], again[256], other[256];

    (void)state;
    key_of("", 1, "{\"a\":1}", first);
    key_of("", 1, "{\"a\":1}", again);
    assert_string_equal(first, again);
    assert_non_null(strstr(first, "\"idempotency_key\":\"batch_"));
    key_of("", 2, "{\"a\":1}", other);
    assert_string_not_equal(first, other);
    key_of("monday", 1, "{\"a\":1}", other);
    assert_string_not_equal(first, other);
    key_of("", 1, "{\"a\":2}", other);
    assert_string_not_equal(first + 7, other + 7);
    key_of("", 1, "{\"idempotency_key\":\"mine\"}", other);
    assert_string_equal(other, "{\"idempotency_key\":\"mine\"}");
}

static const char *find_cell(const char *name, void *arg)
{
    (void)arg;
    return strcmp(name, "who") == 0 ? "Ada {x}" : strcmp(name, "empty") == 0 ? "" : NULL;
}

static void test_templates_are_filled(void **state)
{
    static const struct {
        const char *text, *made;
    } cases[] = {
        {"Hello {who}!", "Hello Ada {x}!"},
        {"{{who}} {empty}.", "{who} ."},
        {"{nobody}", NULL},
        {"{who", NULL},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        char *made = request_template(cases[i].text, find_cell, NULL, &err);

        if (cases[i].made)
            assert_string_equal(made, cases[i].made);
        else
            assert_null(made);
        free(made);
    }
}

/* A CSV file of the text, opened as a batch. */
static struct batch_input *open_csv(const char *text, struct batch_defaults csv, struct err *err)
{
    char path[] = "/tmp/nightshift-batch-XXXXXX";
    struct batch_input *input;
    int fd = mkstemp(path);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    csv.is_csv = true;
    input = batch_input_open(path, &csv, err);
    unlink(path);
    return input;
}

/* Lines of a CSV file: "NUMBER ok" or "NUMBER why". */
static void test_csv_files_are_read_to_their_end(void **state)
{
    static const char text[] = "prompt,metadata.n,priority\n"
                               "hello,1,\n"
                               "too,few\n"
                               ",2,high\n"
                               "bad\"quote,3,\n"
                               "\"last, one\",4,high\n";
    static const struct {
        int number;
        const char *part; /* of the body, or of why */
        bool is_bad;
    } expected[] = {
        {2, "\"metadata\":{\"n\":\"1\"}", false}, {3, "expected 3 cells", true},
        {4, "the prompt is empty", true},         {5, "a quote where none may be", true},
        {6, "\"content\":\"last, one\"", false},
    };
    struct batch_input *input;
    struct buf body;
    struct batch_line line = {.body = &body};
    struct err err = {0};

    (void)state;
    buf_init(&body, BATCH_LINE_MAX);
    input = open_csv(text, defaults, &err);
    assert_non_null(input);
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_true(batch_input_next(input, &line, &err));
        assert_int_equal(line.number, expected[i].number);
        assert_int_equal(line.is_bad, expected[i].is_bad);
        assert_non_null(strstr(line.is_bad ? line.err.message : body.data, expected[i].part));
    }
    assert_false(batch_input_next(input, &line, &err));
    assert_string_equal(err.message, "");
    batch_input_free(input);
    buf_release(&body);
}

static void test_csv_with_a_template_forgives_unknown_columns_only(void **state)
{
    static const char text[] = "who,max_tokens\n"
                               "Ada,5\n"
                               "Bob,1k\n";
    struct batch_defaults csv = defaults;
    struct batch_input *input;
    struct buf body;
    struct batch_line line = {.body = &body};
    struct err err = {0};

    (void)state;
    csv.prompt_template = "Hello {who}";
    buf_init(&body, BATCH_LINE_MAX);
    input = open_csv(text, csv, &err);
    assert_non_null(input);
    assert_true(batch_input_next(input, &line, &err));
    assert_false(line.is_bad);
    assert_non_null(strstr(body.data, "\"max_tokens\":5"));
    assert_true(batch_input_next(input, &line, &err));
    assert_true(line.is_bad);
    assert_non_null(strstr(line.err.message, "max_tokens: expected a whole number"));
    batch_input_free(input);
    buf_release(&body);
}

static void test_headers_are_judged_before_anything_is_sent(void **state)
{
    static const struct {
        const char *header, *why;
    } cases[] = {
        {"text\n", "unknown column \"text\""},
        {"model\n", "no column `prompt`"},
        {"prompt,prompt\n", "two columns are called"},
        {"prompt,priorty\n", "did you mean priority?"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};

        assert_null(open_csv(cases[i].header, defaults, &err));
        assert_non_null(strstr(err.message, cases[i].why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_lines_become_bodies),
        cmocka_unit_test(test_bad_json_lines_say_why),
        cmocka_unit_test(test_numbers_keep_their_digits),
        cmocka_unit_test(test_template_forgives_unknown_members_only),
        cmocka_unit_test(test_keys_are_the_same_for_the_same_line),
        cmocka_unit_test(test_templates_are_filled),
        cmocka_unit_test(test_csv_files_are_read_to_their_end),
        cmocka_unit_test(test_csv_with_a_template_forgives_unknown_columns_only),
        cmocka_unit_test(test_headers_are_judged_before_anything_is_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
