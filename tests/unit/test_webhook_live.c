/* SPDX-License-Identifier: Apache-2.0 */
/* The sender of webhooks against a real Postgres and a receiver with every bad habit. */
#include "common/model/webhook_sender.h"

#include "tests/unit/http_fixture.h"

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/io/pg.h"
#include "common/model/webhook_secret.h"
#include "common/model/webhook_sign.h"
#include "migrations/migrate.h"
#include "tests/unit/postgres_fixture.h"

enum { RECEIVED_MAX = 256, HANG_MAX = 64 };

struct received {
    char path[64];
    char id[64];
    char signature[256];
    char body[1024];
    int64_t timestamp_s;
    int64_t at_us;
};

static struct postgres_fixture *postgres;
static struct pg_session *admin;
static struct fixture *receiver;
static struct pg *pg;
static struct webhook_sender *sender;
static struct webhook_policy policy;
static struct webhook_secret tenant_secret;

static struct received received[RECEIVED_MAX];
static int received_count;
static struct http_request *hanging[HANG_MAX];
static int hanging_count;
static size_t flooded_bytes;
static bool frees_sender; /* at the next request: a crash between send and record */

/* --- the receiver ------------------------------------------------------------------------------
 */

static int times_at(const char *path)
{
    int count = 0;

    for (int i = 0; i < received_count; i++)
        count += strcmp(received[i].path, path) == 0;
    return count;
}

static const struct received *nth_at(const char *path, int n)
{
    for (int i = 0; i < received_count; i++) {
        if (strcmp(received[i].path, path) == 0 && n-- == 0)
            return &received[i];
    }
    fail_msg("nothing came to %s", path);
    return NULL;
}

static void keep(char *out, size_t size, const char *text)
{
    assert_non_null(text);
    assert_true(strlen(text) < size);
    memcpy(out, text, strlen(text) + 1);
}

static void flood(struct http_request *request, void *arg)
{
    static const char piece[65536];

    (void)arg;
    while (flooded_bytes < (size_t)1 << 30 && http_write(request, piece, sizeof(piece)))
        flooded_bytes += sizeof(piece);
    if (http_is_closed(request) || flooded_bytes >= (size_t)1 << 30)
        return;
    http_on_drain(request, 65536, flood, NULL);
}

static void on_flood_closed(struct http_request *request, void *arg)
{
    (void)arg;
    http_abort(request, false);
}

static void on_hanging_closed(struct http_request *request, void *arg)
{
    (void)arg;
    for (int i = 0; i < hanging_count; i++) {
        if (hanging[i] == request)
            hanging[i] = hanging[--hanging_count];
    }
    http_abort(request, false);
}

static void answer(struct http_request *request, const char *path, int nth)
{
    if (strncmp(path, "/hang", 5) == 0) {
        assert_true(hanging_count < HANG_MAX);
        hanging[hanging_count++] = request;
        http_on_close(request, on_hanging_closed, NULL);
    } else if (strcmp(path, "/flood") == 0) {
        http_on_close(request, on_flood_closed, NULL);
        http_start(request, 200, "text/plain");
        flood(request, NULL);
    } else if (strcmp(path, "/moved") == 0) {
        http_add_header(request, "location", "/ok");
        http_reply(request, 307, NULL, NULL, 0);
    } else if (strcmp(path, "/later") == 0 && nth == 0) {
        http_add_header(request, "retry-after", "1");
        http_reply(request, 503, NULL, NULL, 0);
    } else if (strcmp(path, "/twice") == 0 && nth < 2) {
        http_reply(request, 500, "text/plain", "no", 2);
    } else if (strcmp(path, "/gone") == 0) {
        http_reply(request, 410, NULL, NULL, 0);
    } else if (strcmp(path, "/never") == 0) {
        http_reply(request, 400, NULL, NULL, 0);
    } else {
        http_reply(request, 204, NULL, NULL, 0);
    }
}

static void on_body(struct http_request *request, const char *data, size_t len, void *arg)
{
    struct received *record = &received[received_count];
    int nth = times_at(http_path(request));

    (void)arg;
    (void)len;
    assert_true(received_count < RECEIVED_MAX);
    keep(record->path, sizeof(record->path), http_path(request));
    keep(record->id, sizeof(record->id), http_header(request, "webhook-id"));
    keep(record->signature, sizeof(record->signature), http_header(request, "webhook-signature"));
    keep(record->body, sizeof(record->body), data);
    record->timestamp_s = atoll(http_header(request, "webhook-timestamp"));
    record->at_us = clock_monotonic_us();
    received_count++;
    assert_string_equal(http_header(request, "content-type"), "application/json");
    assert_string_equal(http_header(request, "user-agent"), "Nightshift/" NIGHTSHIFT_VERSION);
    if (frees_sender) {
        webhook_sender_free(sender);
        sender = NULL;
        frees_sender = false;
    }
    answer(request, record->path, nth);
}

static void handle(struct http_request *request, void *arg)
{
    (void)arg;
    http_read_body(request, sizeof(received[0].body) - 1, on_body, NULL);
}

/* --- the database ------------------------------------------------------------------------------
 */

static void run_values(const char *sql, const struct pg_value *values, size_t count)
{
    struct err err;

    if (!pg_session_run(admin, sql, values, count, NULL, &err))
        fail_msg("%s: %s", sql, err.message);
}

static void run(const char *sql)
{
    run_values(sql, NULL, 0);
}

static int64_t number(const char *sql)
{
    return session_number(admin, sql);
}

static void add_secret(const char *sql, const char *kind, const char *id, const char *tenant,
                       const char *url, const struct webhook_secret *secret)
{
    uint8_t sealed[WEBHOOK_SEALED_MAX];
    size_t len;

    assert_true(webhook_secret_seal(policy.data_key, kind, id, secret, sealed, &len, NULL));
    const struct pg_value values[] = {pg_text(id), pg_bytea(sealed, len), pg_text(tenant),
                                      pg_text(url)};
    run_values(sql, values, url ? 4 : 2);
}

static void add_tenant(const char *id)
{
    add_secret("INSERT INTO tenants (id, name, webhook_secret) VALUES ($1::text, $1::text, "
               "$2::bytea)",
               "tenant", id, NULL, NULL, &tenant_secret);
}

static const char *url_of(const char *path)
{
    static char url[128];

    snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", receiver->port, path);
    return url;
}

static void add_endpoint(const char *id, const char *tenant, const char *path)
{
    add_secret("INSERT INTO endpoints (id, tenant, url, secret) "
               "VALUES ($1::text, $3::text, $4::text, $2::bytea)",
               "endpoint", id, tenant, url_of(path), &tenant_secret);
}

/* A job that succeeded, and a delivery of it. */
static void add_delivery_to(const char *tenant, const char *endpoint, const char *url)
{
    const struct pg_value values[] = {pg_text(tenant), pg_text(endpoint), pg_text(url)};

    run_values("WITH job AS ("
               "    INSERT INTO jobs (id, tenant, key_id, priority, workflow, metadata, model,"
               "        request, deadline, max_attempts, timeout_s, est_tokens, state, ended_at,"
               "        result, result_sha256)"
               "    VALUES (id_make(), $1::text, 'k', 1, 'triage', '{\"customer\": \"42\"}', 'm',"
               "        '{}', now(), 5, 600, 1, 'succeeded', now(), '{}', sha256('{}'))"
               "    RETURNING id), call AS ("
               "    INSERT INTO calls (job, call, run, tenant, key_id, route, provider, model,"
               "        input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"
               "        reserved_nano, state, input_tokens, cached_input_tokens, output_tokens,"
               "        cost_nano)"
               "    SELECT id, 1, 1, $1::text, 'k', 'm', 'p', 'm', 0, 0, 0, 0, 'settled', 12, 2,"
               "        34, 12300 FROM job)"
               "INSERT INTO deliveries (id, tenant, endpoint, url, type, job) "
               "SELECT id_make(), $1::text, $2::text, $3::text, 'job.succeeded', id FROM job",
               values, 3);
}

static void add_delivery(const char *tenant, const char *endpoint, const char *path)
{
    add_delivery_to(tenant, endpoint, url_of(path));
}

/* --- the sender --------------------------------------------------------------------------------
 */

static void open_sender(int64_t lease_ms)
{
    struct webhook_sender_options options = {.policy = &policy, .lease_ms = lease_ms};
    struct err err;

    sender = webhook_sender_new(receiver->base, pg, &options, &err);
    if (!sender)
        fail_msg("%s", err.message);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    if (sender)
        webhook_sender_sweep(sender);
}

/* Turns the loop, sweeping as the scheduler does, until cond. */
#define turn_until(cond)                                                                 \
    do {                                                                                 \
        struct event *ticks = event_new(receiver->base, -1, EV_PERSIST, on_sweep, NULL); \
        const struct timeval period = {.tv_usec = 20000};                                \
        int64_t until_us = clock_monotonic_us() + 15 * US_PER_S;                         \
        event_add(ticks, &period);                                                       \
        on_sweep(-1, 0, NULL);                                                           \
        while (!(cond)) {                                                                \
            if (clock_monotonic_us() > until_us)                                         \
                fail_msg("gave up waiting for: %s", #cond);                              \
            event_base_loop(receiver->base, EVLOOP_ONCE);                                \
        }                                                                                \
        event_free(ticks);                                                               \
    } while (0)

static bool none_waits(void)
{
    return number("SELECT count(*) FROM deliveries WHERE state = 'waiting'") == 0;
}

#define states_are(state) \
    (number("SELECT count(*) FROM deliveries WHERE state <> '" state "'") == 0)

/* The server may still be at a statement of a connection that the test before has closed, and what
 * is emptied then may deadlock with it. */
static void await_no_other_connection(void)
{
    int64_t deadline_us = clock_monotonic_us() + PATIENCE_MS * US_PER_MS;

    while (number("SELECT count(*) FROM pg_stat_activity"
                  " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()") > 0)
        assert_true(clock_monotonic_us() < deadline_us);
}

static int set_up(void **state)
{
    struct pg_options options = {.url = postgres_fixture_url(postgres), .duty = "webhooks"};
    struct err err;

    (void)state;
    await_no_other_connection();
    run("TRUNCATE tenants, endpoints, api_keys, jobs, calls, deliveries CASCADE");
    policy.schedule_count = 4;
    memcpy(policy.schedule_ms, (int64_t[]){0, 100, 100, 100}, 4 * sizeof(int64_t));
    policy.timeout_ms = 2000;
    policy.allow_count = 1;
    assert_true(network_parse("127.0.0.1", &policy.allow[0], &err));
    webhook_secret_make(&tenant_secret);
    received_count = hanging_count = 0;
    flooded_bytes = 0;
    receiver = fixture_new(NULL, handle);
    pg = pg_new(receiver->base, &options, &err);
    assert_non_null(pg);
    open_sender(0);
    add_tenant("acme");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    webhook_sender_free(sender);
    sender = NULL;
    pg_free(pg);
    fixture_free(receiver);
    return 0;
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void assert_signed(const struct received *record)
{
    struct buf expected;

    buf_init(&expected, 256);
    assert_true(webhook_sign(record->id, record->timestamp_s, record->body, strlen(record->body),
                             &tenant_secret, 1, &expected));
    assert_string_equal(record->signature, expected.data);
    buf_release(&expected);
}

static void test_ended_job_is_told_once_signed_and_exact(void **state)
{
    static const char middle[] =
        "\"object\":\"job\",\"state\":\"succeeded\",\"workflow\":\"triage\",\"metadata\":{"
        "\"customer\": \"42\"},\"usage\":{\"input_tokens\":12,\"output_tokens\":34,"
        "\"cached_input_tokens\":2,\"total_tokens\":46},\"cost_usd\":\"0.000012300\","
        "\"result_url\":\"/v1/jobs/job_";
    static const char end[] =
        "\"result_sha256\":\"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310"
        "c060f61caaff8a\",\"sequence\":1}}";
    const struct received *record;

    (void)state;
    add_delivery("acme", NULL, "/ok");
    turn_until(none_waits());
    assert_true(states_are("delivered"));
    assert_int_equal(received_count, 1);
    record = nth_at("/ok", 0);
    assert_signed(record);
    assert_memory_equal(record->id, "msg_", 4);
    assert_int_equal(strlen(record->id), 36);
    assert_non_null(strstr(record->body, "{\"type\":\"job.succeeded\",\"timestamp\":\"20"));
    assert_non_null(strstr(record->body, middle));
    assert_non_null(strstr(record->body, end));
    assert_int_equal(number("SELECT jsonb_array_length(tries) FROM deliveries"), 1);
    assert_int_equal(number("SELECT (tries -> 0 ->> 'status')::int FROM deliveries"), 204);
    assert_int_equal(number("SELECT count(*) FROM deliveries WHERE tries -> 0 ->> 'error' IS NULL "
                            "AND ended_at IS NOT NULL AND body IS NULL"),
                     1);
}

static void test_failed_try_is_repeated_with_the_same_id_and_body_signed_afresh(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/twice");
    turn_until(times_at("/twice") == 1 && webhook_sender_outstanding(sender) == 0);
    /* a late settlement changes the sums, but not what was begun to be told */
    run("UPDATE calls SET cost_nano = 99");
    turn_until(none_waits());
    assert_true(states_are("delivered"));
    assert_int_equal(times_at("/twice"), 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(nth_at("/twice", i)->id, nth_at("/twice", 0)->id);
        assert_string_equal(nth_at("/twice", i)->body, nth_at("/twice", 0)->body);
        assert_signed(nth_at("/twice", i));
    }
    assert_int_equal(number("SELECT jsonb_array_length(tries) FROM deliveries"), 3);
    assert_int_equal(number("SELECT (tries -> 0 ->> 'status')::int FROM deliveries"), 500);
}

static void test_tries_end_with_the_schedule(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/never");
    turn_until(none_waits());
    assert_true(states_are("failed"));
    assert_int_equal(times_at("/never"), 4);
    assert_int_equal(number("SELECT jsonb_array_length(tries) FROM deliveries"), 4);
}

static void test_redirect_is_a_failure_and_not_followed(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/moved");
    turn_until(none_waits());
    assert_true(states_are("failed"));
    assert_int_equal(times_at("/moved"), 4);
    assert_int_equal(times_at("/ok"), 0);
    assert_int_equal(
        number("SELECT count(*) FROM deliveries WHERE tries -> 0 ->> 'error' = 'redirect'"), 1);
}

static void test_410_disables_the_endpoint_and_ends_what_waits_for_it(void **state)
{
    (void)state;
    add_endpoint("ep_1", "acme", "/gone");
    for (int i = 0; i < 10; i++)
        add_delivery("acme", "ep_1", "/gone");
    turn_until(none_waits());
    assert_true(states_are("failed"));
    assert_in_range(times_at("/gone"), 1, 4);
    assert_int_equal(number("SELECT count(*) FROM endpoints WHERE disabled_at IS NOT NULL"), 1);
    assert_in_range(number("SELECT count(*) FROM deliveries WHERE tries -> -1 ->> 'error' = "
                           "'endpoint_disabled'"),
                    6, 9);
}

static void test_410_from_a_job_url_ends_only_that_delivery(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/gone");
    add_delivery("acme", NULL, "/ok");
    turn_until(none_waits());
    assert_int_equal(times_at("/gone"), 1);
    assert_int_equal(number("SELECT count(*) FROM deliveries WHERE state = 'delivered'"), 1);
}

static void test_retry_after_is_honoured(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/later");
    turn_until(none_waits());
    assert_true(states_are("delivered"));
    assert_int_equal(times_at("/later"), 2);
    assert_true(nth_at("/later", 1)->at_us - nth_at("/later", 0)->at_us >= 990 * US_PER_MS);
}

static void test_endpoint_signs_with_its_own_and_its_old_secret(void **state)
{
    struct webhook_secret both[2];
    struct buf expected;

    (void)state;
    both[1] = tenant_secret;
    add_endpoint("ep_1", "acme", "/ok");
    run("UPDATE endpoints SET old_secret = secret, old_secret_until = now() + interval '1 h'");
    webhook_secret_make(&both[0]);
    add_secret("UPDATE endpoints SET secret = $2::bytea WHERE id = $1::text", "endpoint", "ep_1",
               NULL, NULL, &both[0]);
    add_delivery("acme", "ep_1", "/ok");
    turn_until(none_waits());
    buf_init(&expected, 256);
    assert_true(webhook_sign(received[0].id, received[0].timestamp_s, received[0].body,
                             strlen(received[0].body), both, 2, &expected));
    assert_string_equal(received[0].signature, expected.data);
    buf_release(&expected);
}

static void test_hanging_receiver_does_not_delay_another_tenant(void **state)
{
    int64_t began_us;

    (void)state;
    add_tenant("other");
    add_endpoint("ep_1", "acme", "/hang");
    for (int i = 0; i < 50; i++)
        add_delivery("acme", "ep_1", "/hang");
    turn_until(hanging_count == 4);
    began_us = clock_monotonic_us();
    add_delivery("other", NULL, "/ok");
    turn_until(times_at("/ok") == 1);
    assert_true(clock_monotonic_us() - began_us < US_PER_S);
    assert_int_equal(times_at("/hang"), 4); /* never more at a time */
}

static void test_hanging_job_url_does_not_delay_the_tenants_other_urls(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        add_delivery("acme", NULL, "/hang");
    turn_until(hanging_count == 4);
    add_delivery("acme", NULL, "/ok");
    turn_until(times_at("/ok") == 1);
    assert_int_equal(times_at("/hang"), 4);
}

static void test_hang_ends_at_the_timeout(void **state)
{
    (void)state;
    policy.timeout_ms = 300;
    policy.schedule_count = 1;
    webhook_sender_free(sender);
    open_sender(0);
    add_delivery("acme", NULL, "/hang");
    turn_until(none_waits());
    assert_true(states_are("failed"));
    assert_int_equal(
        number("SELECT count(*) FROM deliveries WHERE tries -> 0 ->> 'error' = 'timeout' AND "
               "(tries -> 0 ->> 'duration_ms')::int BETWEEN 290 AND 1500"),
        1);
}

static void test_blocked_address_is_never_connected(void **state)
{
    char url[64];
    int port = 0;
    struct err err;
    int fd = http_listen("127.0.0.2:0", &port, &err);

    (void)state;
    assert_true(fd >= 0);
    snprintf(url, sizeof(url), "http://127.0.0.2:%d/", port);
    add_delivery_to("acme", NULL, url);
    turn_until(none_waits());
    assert_true(states_are("failed"));
    assert_int_equal(number("SELECT count(*) FROM deliveries WHERE jsonb_array_length(tries) = 1 "
                            "AND tries -> 0 ->> 'error' = 'blocked_address'"),
                     1);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    assert_int_equal(accept(fd, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
}

static void test_endless_answer_is_cut_and_counts_as_delivered(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/flood");
    turn_until(none_waits());
    assert_true(states_are("delivered"));
    assert_true(flooded_bytes < (size_t)64 << 20);
}

static void test_crash_between_send_and_record_sends_again_with_the_same_id(void **state)
{
    (void)state;
    webhook_sender_free(sender);
    open_sender(200);
    frees_sender = true;
    add_delivery("acme", NULL, "/ok");
    turn_until(!sender);
    open_sender(200);
    turn_until(none_waits());
    assert_true(states_are("delivered"));
    assert_int_equal(times_at("/ok"), 2);
    assert_string_equal(nth_at("/ok", 1)->id, nth_at("/ok", 0)->id);
    assert_int_equal(number("SELECT attempts FROM deliveries"), 2);
}

static void test_unopened_secret_is_tried_again_later(void **state)
{
    (void)state;
    run("UPDATE tenants SET webhook_secret = '\\x00'");
    add_delivery("acme", NULL, "/ok");
    turn_until(none_waits());
    assert_int_equal(received_count, 0);
    assert_int_equal(number("SELECT count(*) FROM deliveries WHERE jsonb_array_length(tries) = 4 "
                            "AND tries -> 0 ->> 'error' = 'not_signed'"),
                     1);
}

static void test_two_senders_share_the_work(void **state)
{
    struct webhook_sender_options options = {.policy = &policy};
    struct webhook_sender *second;
    struct err err;

    (void)state;
    second = webhook_sender_new(receiver->base, pg, &options, &err);
    assert_non_null(second);
    for (int i = 0; i < 100; i++)
        add_delivery("acme", NULL, "/ok");
    webhook_sender_sweep(second);
    turn_until(none_waits());
    assert_true(states_are("delivered"));
    assert_int_equal(times_at("/ok"), 100);
    webhook_sender_free(second);
}

static void test_drain_takes_nothing_more(void **state)
{
    (void)state;
    add_delivery("acme", NULL, "/hang");
    turn_until(hanging_count == 1);
    webhook_sender_drain(sender);
    turn_until(pg_outstanding(pg) ==
               0); /* a claim that was under way may still take what it finds */
    add_delivery("acme", NULL, "/ok");
    http_reply(hanging[0], 200, NULL, NULL, 0);
    turn_until(webhook_sender_outstanding(sender) == 0);
    assert_int_equal(times_at("/ok"), 0);
    assert_int_equal(number("SELECT count(*) FROM deliveries WHERE state = 'delivered'"), 1);
}

static int start_postgres(void **state)
{
    FILE *notices = fopen("/dev/null", "we");
    struct err err;

    (void)state;
    log_setup("test", LOG_ERROR);
    crypto_random(policy.data_key, sizeof(policy.data_key));
    postgres = postgres_fixture_start(&err);
    if (!postgres)
        fail_msg("%s", err.message);
    admin = pg_session_open(postgres_fixture_url(postgres), "test", &err);
    assert_non_null(admin);
    assert_true(migrate_apply(admin, migrations_table, notices, &err));
    fclose(notices);
    return 0;
}

static int stop_postgres(void **state)
{
    (void)state;
    pg_session_close(admin);
    postgres_fixture_stop(postgres);
    return 0;
}

#define live(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        live(test_ended_job_is_told_once_signed_and_exact),
        live(test_failed_try_is_repeated_with_the_same_id_and_body_signed_afresh),
        live(test_tries_end_with_the_schedule),
        live(test_redirect_is_a_failure_and_not_followed),
        live(test_410_disables_the_endpoint_and_ends_what_waits_for_it),
        live(test_410_from_a_job_url_ends_only_that_delivery),
        live(test_retry_after_is_honoured),
        live(test_endpoint_signs_with_its_own_and_its_old_secret),
        live(test_hanging_receiver_does_not_delay_another_tenant),
        live(test_hanging_job_url_does_not_delay_the_tenants_other_urls),
        live(test_hang_ends_at_the_timeout),
        live(test_blocked_address_is_never_connected),
        live(test_endless_answer_is_cut_and_counts_as_delivered),
        live(test_crash_between_send_and_record_sends_again_with_the_same_id),
        live(test_unopened_secret_is_tried_again_later),
        live(test_two_senders_share_the_work),
        live(test_drain_takes_nothing_more),
    };

    return cmocka_run_group_tests(tests, start_postgres, stop_postgres);
}
