/* SPDX-License-Identifier: Apache-2.0 */
/* The admin calls' stores against a real Postgres: what they change, refuse and write to the audit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/delivery_admin_store.h"
#include "common/model/endpoint_store.h"
#include "common/model/key_admin_store.h"
#include "common/model/pause_store.h"
#include "common/model/system_store.h"
#include "common/model/tenant_store.h"
#include "tests/unit/store_fixture.h"

#define ACTOR "key:admin"
#define EP "ep_00000000000000000000000000000001"

static const struct sealed_secret secret = {(const uint8_t *)"sealed", 6};

/* What a call was told; the first row is read inside the callback by `read`. */
struct told {
    bool is_told;
    enum admin_outcome outcome;
    int count;
    char first[64], second[256], third[256];
};

static void copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text ? text : "(null)");
}

static void on_told(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;

    told->is_told = true;
    told->outcome = reply->outcome;
    told->count = reply->count;
}

static void on_tenants(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;
    struct tenant tenant;

    on_told(reply, arg);
    if (reply->count == 0)
        return;
    tenant_read(reply, 0, &tenant);
    copy(told->first, sizeof(told->first), tenant.id);
    snprintf(told->second, sizeof(told->second), "%s %d %d", tenant.name, tenant.weight,
             tenant.is_disabled);
    assert_true(tenant.created_at_us > 0);
}

static void on_keys(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;
    struct key_info key;

    on_told(reply, arg);
    if (reply->count == 0)
        return;
    key_info_read(reply, 0, &key);
    copy(told->first, sizeof(told->first), key.id);
    copy(told->second, sizeof(told->second), key.name);
    copy(told->third, sizeof(told->third), key.scopes);
}

static void on_endpoints(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;
    struct endpoint endpoint;

    on_told(reply, arg);
    if (reply->count == 0)
        return;
    endpoint_read(reply, 0, &endpoint);
    copy(told->first, sizeof(told->first), endpoint.id);
    copy(told->second, sizeof(told->second), endpoint.url);
    copy(told->third, sizeof(told->third), endpoint.events);
}

static void on_deliveries(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;
    struct delivery_info delivery;

    on_told(reply, arg);
    if (reply->count == 0)
        return;
    delivery_info_read(reply, 0, &delivery);
    copy(told->first, sizeof(told->first), delivery.state);
    copy(told->second, sizeof(told->second), delivery.type);
    copy(told->third, sizeof(told->third), id_is_zero(delivery.id) ? NULL : hex(delivery.id));
}

/* Makes a call with `told` as its argument and waits for the answer. */
#define call(answer, ...)                     \
    do {                                      \
        memset(&(answer), 0, sizeof(answer)); \
        assert_true(__VA_ARGS__);             \
        await_flag(&(answer).is_told);        \
    } while (0)

static struct pg *pg(void)
{
    return fixture_pg[0];
}

static void make_endpoint(const char *id, struct told *told)
{
    static const char *const events[] = {"job.failed"};
    struct endpoint_new endpoint = {id, "acme", "https://a.example/h", events, 1, secret};

    call(*told, endpoint_create(pg(), &endpoint, ACTOR, on_endpoints, told));
}

static int reset(void **state)
{
    sql_run("TRUNCATE audit, api_keys CASCADE");
    sql_run("UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')");
    return fixture_reset(state);
}

/* --- tenants ---------------------------------------------------------------------------------- */

static void test_tenant_is_made_once(void **state)
{
    struct tenant tenant = {.id = "new", .name = "New \"one\"", .weight = 3};
    struct told told;

    (void)state;
    call(told, tenant_create(pg(), &tenant, secret, ACTOR, on_tenants, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_string_equal(told.first, "new");
    assert_string_equal(told.second, "New \"one\" 3 0");
    call(told, tenant_create(pg(), &tenant, secret, ACTOR, on_tenants, &told));
    assert_int_equal(told.outcome, ADMIN_CONFLICT);
    call(told, tenant_get(pg(), "new", on_tenants, &told));
    assert_string_equal(told.second, "New \"one\" 3 0");
    call(told, tenant_get(pg(), "nobody", on_tenants, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    assert_int_equal(sql_number("SELECT count(*) FROM audit"), 1);
}

static void test_tenants_are_listed_in_order_and_pages(void **state)
{
    struct told told;

    (void)state;
    sql_run("INSERT INTO tenants (id, name, webhook_secret) VALUES ('b', 'B', ''), ('a', 'A', '')");
    call(told, tenant_list(pg(), NULL, 2, on_tenants, &told));
    assert_int_equal(told.count, 2);
    assert_string_equal(told.first, "a");
    call(told, tenant_list(pg(), "acme", 2, on_tenants, &told));
    assert_int_equal(told.count, 1);
    assert_string_equal(told.first, "b");
    call(told, tenant_list(pg(), "z", 2, on_tenants, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_int_equal(told.count, 0);
}

static void test_tenant_changes_only_what_is_named(void **state)
{
    bool is_disabled = true;
    int64_t weight = 7;
    struct told told;

    (void)state;
    call(told, tenant_change(pg(), "acme", &(struct tenant_change){.is_disabled = &is_disabled},
                             ACTOR, on_tenants, &told));
    assert_string_equal(told.second, "Acme 1 1");
    call(told, tenant_change(pg(), "acme", &(struct tenant_change){.weight = &weight, .name = "X"},
                             ACTOR, on_tenants, &told));
    assert_string_equal(told.second, "X 7 1");
    call(told, tenant_change(pg(), "nobody", &(struct tenant_change){.weight = &weight}, ACTOR,
                             on_tenants, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    assert_int_equal(sql_number("SELECT count(*) FROM audit WHERE action = 'tenant.change'"), 2);
    sql_assert_text("X", "SELECT after::json->>'name' FROM audit WHERE seq = 2");
    sql_assert_text("Acme", "SELECT before::json->>'name' FROM audit WHERE seq = 2");
}

static void test_rotated_tenant_secret_signs_along_for_a_day(void **state)
{
    struct told told;

    (void)state;
    sql_run("UPDATE tenants SET webhook_secret = 'first'");
    call(told, tenant_rotate_secret(pg(), "acme", secret, ACTOR, on_tenants, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_int_equal(sql_number("SELECT count(*) FROM tenants WHERE webhook_secret = 'sealed'"
                                " AND old_webhook_secret = 'first'"
                                " AND old_webhook_secret_until - now() BETWEEN '23 h' AND '24 h'"),
                     1);
}

static void test_tenant_ids_have_a_rule(void **state)
{
    char longest[TENANT_ID_MAX + 2];

    (void)state;
    memset(longest, 'a', sizeof(longest));
    longest[TENANT_ID_MAX + 1] = '\0';
    assert_false(tenant_id_is_valid(longest));
    longest[TENANT_ID_MAX] = '\0';
    assert_true(tenant_id_is_valid(longest));
    assert_true(tenant_id_is_valid("Az09._-"));
    assert_false(tenant_id_is_valid(""));
    assert_false(tenant_id_is_valid("a/b"));
    assert_false(tenant_id_is_valid("."));
    assert_false(tenant_id_is_valid(".."));
    assert_true(tenant_id_is_valid("..."));
    assert_false(tenant_id_is_valid("a b"));
    assert_false(tenant_id_is_valid("\xc3\xa4"));
}

/* --- keys ------------------------------------------------------------------------------------- */

static void test_key_is_listed_until_revoked(void **state)
{
    static const char *const scopes[] = {"jobs:write", "jobs:read"};
    static const uint8_t hash[API_KEY_HASH_SIZE] = {1};
    struct key_new key = {"k1", "acme", "ci", scopes, 2, hash, 0};
    struct told told;

    (void)state;
    call(told, key_list(pg(), "acme", on_keys, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_string_equal(told.first, "(null)");
    call(told, key_create(pg(), &key, ACTOR, on_keys, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    call(told, key_list(pg(), "acme", on_keys, &told));
    assert_string_equal(told.first, "k1");
    assert_string_equal(told.second, "ci");
    assert_string_equal(told.third, "[\"jobs:write\",\"jobs:read\"]");
    call(told, key_revoke(pg(), "k1", ACTOR, on_told, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    call(told, key_revoke(pg(), "k1", ACTOR, on_told, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, key_list(pg(), "acme", on_keys, &told));
    assert_string_equal(told.first, "(null)");
    key.tenant = "nobody";
    key.id = "k2";
    call(told, key_create(pg(), &key, ACTOR, on_keys, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, key_list(pg(), "nobody", on_keys, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    assert_int_equal(sql_number("SELECT count(*) FROM audit"), 2);
}

static void test_tenant_cannot_have_keys_without_end(void **state)
{
    static const char *const scopes[] = {"jobs:read"};
    static const uint8_t hash[API_KEY_HASH_SIZE] = {1};
    struct key_new key = {"k1", "acme", "ci", scopes, 1, hash, 0};
    struct told told;

    (void)state;
    sql_run("INSERT INTO api_keys (id, tenant, name, scopes, hash)"
            " SELECT 'x' || n, 'acme', '', '{}', '' FROM generate_series(1, %d) n",
            TENANT_KEYS_MAX);
    call(told, key_create(pg(), &key, ACTOR, on_keys, &told));
    assert_int_equal(told.outcome, ADMIN_CONFLICT);
    sql_run("UPDATE api_keys SET revoked_at = now() WHERE id = 'x1'");
    call(told, key_create(pg(), &key, ACTOR, on_keys, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
}

/* --- endpoints and deliveries ----------------------------------------------------------------- */

static void test_endpoint_belongs_to_its_tenant(void **state)
{
    struct told told;

    (void)state;
    make_endpoint(EP, &told);
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_string_equal(told.third, "[\"job.failed\"]");
    call(told, endpoint_get(pg(), "acme", EP, on_endpoints, &told));
    assert_string_equal(told.second, "https://a.example/h");
    call(told, endpoint_get(pg(), "other", EP, on_endpoints, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, endpoint_delete(pg(), "other", EP, ACTOR, on_told, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, endpoint_rotate(pg(), "other", EP, secret, ACTOR, on_endpoints, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, endpoint_rotate(pg(), "acme", EP, secret, ACTOR, on_endpoints, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_int_equal(sql_number("SELECT count(*) FROM endpoints WHERE old_secret = 'sealed'"), 1);
    call(told, endpoint_delete(pg(), "acme", EP, ACTOR, on_told, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    call(told, endpoint_delete(pg(), "acme", EP, ACTOR, on_told, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, endpoint_list(pg(), "acme", on_endpoints, &told));
    assert_string_equal(told.first, "(null)");
}

static void test_endpoint_without_events_hears_all(void **state)
{
    struct endpoint_new endpoint = {EP, "acme", "https://a.example/h", NULL, 0, secret};
    struct told told;

    (void)state;
    call(told, endpoint_create(pg(), &endpoint, ACTOR, on_endpoints, &told));
    assert_string_equal(told.third, "(null)");
    assert_int_equal(sql_number("SELECT count(*) FROM endpoints WHERE events IS NULL"), 1);
}

static void test_endpoint_test_makes_a_delivery_unless_disabled(void **state)
{
    struct told told;

    (void)state;
    make_endpoint(EP, &told);
    call(told, endpoint_test(pg(), "acme", EP, ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_string_equal(told.first, "waiting");
    assert_string_equal(told.second, "endpoint.test");
    sql_assert_text("endpoint.test " EP, "SELECT (body::json->>'type') || ' ' ||"
                                         " (body::json->'data'->>'id') FROM deliveries");
    sql_run("UPDATE endpoints SET disabled_at = now()");
    call(told, endpoint_test(pg(), "acme", EP, ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_CONFLICT);
    call(told, endpoint_test(pg(), "other", EP, ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries"), 1);
}

static struct id insert_delivery(const char *state, const char *endpoint)
{
    struct id id = id_make(0);

    sql_run("INSERT INTO deliveries (id, tenant, endpoint, url, type, job, state, attempts)"
            " VALUES ('%s', 'acme', %s, 'https://a.example', 'job.failed', '%s', '%s', 4)",
            hex(id), endpoint, hex(id), state);
    return id;
}

static void test_deliveries_are_filtered_and_paged(void **state)
{
    struct id first = insert_delivery("failed", "NULL");
    struct id second = insert_delivery("delivered", "'" EP "'");
    struct told told;

    (void)state;
    call(told, delivery_list(pg(), &(struct delivery_filter){.limit = 10}, on_deliveries, &told));
    assert_int_equal(told.count, 2);
    assert_string_equal(told.third, hex(second));
    call(told, delivery_list(pg(), &(struct delivery_filter){.limit = 10, .after = second},
                             on_deliveries, &told));
    assert_int_equal(told.count, 1);
    assert_string_equal(told.third, hex(first));
    call(told, delivery_list(
                   pg(), &(struct delivery_filter){.limit = 1, .tenant = "acme", .state = "failed"},
                   on_deliveries, &told));
    assert_string_equal(told.third, hex(first));
    call(told, delivery_list(pg(), &(struct delivery_filter){.limit = 9, .endpoint = EP},
                             on_deliveries, &told));
    assert_string_equal(told.third, hex(second));
    call(told, delivery_list(pg(), &(struct delivery_filter){.limit = 9, .job = first},
                             on_deliveries, &told));
    assert_string_equal(told.third, hex(first));
    call(told, delivery_list(pg(), &(struct delivery_filter){.limit = 9, .after = id_make(9)},
                             on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_CONFLICT);
    call(told, delivery_list(pg(), &(struct delivery_filter){.limit = 9, .tenant = "other"},
                             on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_string_equal(told.third, "(null)");
}

static void test_redelivery_starts_the_schedule_anew(void **state)
{
    struct id failed = insert_delivery("failed", "NULL");
    struct id leased = insert_delivery("waiting", "NULL");
    struct told told;

    (void)state;
    sql_run("UPDATE deliveries SET next_at = now() + interval '50 s' WHERE state = 'waiting'");
    call(told, delivery_redeliver(pg(), failed, ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_string_equal(told.first, "waiting");
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries WHERE id = '%s' AND attempts = 0"
                                " AND next_at <= clock_timestamp() AND state = 'waiting'",
                                hex(failed)),
                     1);
    call(told, delivery_redeliver(pg(), leased, ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_DONE);
    assert_int_equal(sql_number("SELECT attempts FROM deliveries WHERE id = '%s'", hex(leased)), 4);
    call(told, delivery_redeliver(pg(), id_make(1), ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    assert_int_equal(sql_number("SELECT count(*) FROM audit"), 1);
}

static void test_redelivery_to_a_deleted_endpoint_is_refused(void **state)
{
    struct id id = insert_delivery("failed", "'" EP "'");
    struct told told;

    (void)state;
    call(told, delivery_redeliver(pg(), id, ACTOR, on_deliveries, &told));
    assert_int_equal(told.outcome, ADMIN_CONFLICT);
    sql_assert_text("failed", "SELECT state FROM deliveries");
}

/* --- pauses, queues, workers ------------------------------------------------------------------ */

static void on_pause(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;
    struct pause pause;

    on_told(reply, arg);
    if (reply->count == 0)
        return;
    pause_read(reply, 0, &pause);
    snprintf(told->first, sizeof(told->first), "%s:%s %d", pause.kind, pause.name,
             pause.created_at_us > 0);
}

static void test_pause_stands_until_lifted(void **state)
{
    struct told told;

    (void)state;
    for (int i = 0; i < 2; i++) {
        call(told, pause_set(pg(), "priority", "low", ACTOR, on_pause, &told));
        assert_string_equal(told.first, "priority:low 1");
    }
    call(told, pause_set(pg(), "tenant", "nobody", ACTOR, on_pause, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, pause_list(pg(), NULL, on_pause, &told));
    assert_int_equal(told.count, 1);
    call(told, pause_list(pg(), "provider", on_pause, &told));
    assert_int_equal(told.count, 0);
    for (int i = 0; i < 2; i++) {
        call(told, pause_lift(pg(), "priority", "low", true, ACTOR, on_pause, &told));
        assert_string_equal(told.first, "priority:low 0");
    }
    assert_int_equal(sql_number("SELECT count(*) FROM pauses"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM audit"), 2);
}

static void test_what_is_gone_can_be_resumed_as_long_as_it_is_paused(void **state)
{
    struct told told;

    (void)state;
    call(told, pause_set(pg(), "provider", "gone", ACTOR, on_pause, &told));
    call(told, pause_lift(pg(), "provider", "gone", false, ACTOR, on_pause, &told));
    assert_string_equal(told.first, "provider:gone 0");
    call(told, pause_lift(pg(), "provider", "gone", false, ACTOR, on_pause, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    call(told, pause_lift(pg(), "tenant", "nobody", true, ACTOR, on_pause, &told));
    assert_int_equal(told.outcome, ADMIN_MISSING);
    assert_int_equal(sql_number("SELECT count(*) FROM pauses"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM audit"), 2);
}

static void on_queue(const struct admin_reply *reply, void *arg)
{
    struct told *told = arg;
    struct queue_info queue;

    on_told(reply, arg);
    assert_int_equal(reply->count, PRIORITY_COUNT);
    queue_info_read(reply, PRIORITY_LOW, &queue);
    assert_int_equal(queue.priority, PRIORITY_LOW);
    assert_true(queue.oldest_waiting_us >= 4000000 && queue.oldest_waiting_us < 60000000);
    assert_true(queue.is_paused);
    snprintf(told->first, sizeof(told->first), "%d %d", (int)queue.queued, (int)queue.running);
    queue_info_read(reply, PRIORITY_HIGH, &queue);
    assert_int_equal(queue.oldest_waiting_us, 0);
    assert_false(queue.is_paused);
}

static void test_queues_tell_depth_age_and_pause(void **state)
{
    struct told told;

    (void)state;
    fixture_queue_job(PRIORITY_LOW);
    fixture_queue_job(PRIORITY_LOW);
    sql_run("INSERT INTO pauses VALUES ('priority', 'low')");
    call(told, queue_list(pg(), on_queue, &told));
    assert_string_equal(told.first, "2 0");
}

static void on_worker(const struct admin_reply *reply, void *arg)
{
    struct worker_info worker;
    struct told *told = arg;

    on_told(reply, arg);
    worker_info_read(reply, 0, &worker);
    snprintf(told->first, sizeof(told->first), "%s %d %d/%d/%d %d %d", worker.name, worker.slots,
             worker.used[0], worker.used[1], worker.used[2], worker.is_draining, worker.is_alive);
}

static void test_workers_tell_slots_and_life(void **state)
{
    struct told told;

    (void)state;
    sql_run("UPDATE workers SET used = '{1,2,3}'");
    call(told, worker_list(pg(), on_worker, &told));
    assert_string_equal(told.first, "w1 10 1/2/3 0 1");
    sql_run("UPDATE workers SET beat_at = now() - interval '7 s', is_draining = true");
    call(told, worker_list(pg(), on_worker, &told));
    assert_string_equal(told.first, "w1 10 1/2/3 1 0");
}

/* --- the chain -------------------------------------------------------------------------------- */

static void test_two_changes_at_once_make_one_chain(void **state)
{
    struct told first = {0}, second = {0};

    (void)state;
    for (int i = 0; i < 20; i++) {
        first.is_told = second.is_told = false;
        assert_true(pause_set(fixture_pg[0], "provider", "a", ACTOR, on_told, &first));
        assert_true(pause_set(fixture_pg[1], "provider", "b", ACTOR, on_told, &second));
        await_flag(&first.is_told);
        await_flag(&second.is_told);
        sql_run("DELETE FROM pauses");
    }
    assert_int_equal(sql_number("SELECT count(*) FROM audit"), 40);
    assert_int_equal(sql_number("SELECT count(*) FROM audit a JOIN audit b"
                                " ON b.seq = a.seq + 1 AND b.prev_hash = a.hash"),
                     39);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_tenant_is_made_once, reset),
        cmocka_unit_test_setup(test_tenants_are_listed_in_order_and_pages, reset),
        cmocka_unit_test_setup(test_tenant_changes_only_what_is_named, reset),
        cmocka_unit_test_setup(test_rotated_tenant_secret_signs_along_for_a_day, reset),
        cmocka_unit_test(test_tenant_ids_have_a_rule),
        cmocka_unit_test_setup(test_key_is_listed_until_revoked, reset),
        cmocka_unit_test_setup(test_tenant_cannot_have_keys_without_end, reset),
        cmocka_unit_test_setup(test_endpoint_belongs_to_its_tenant, reset),
        cmocka_unit_test_setup(test_endpoint_without_events_hears_all, reset),
        cmocka_unit_test_setup(test_endpoint_test_makes_a_delivery_unless_disabled, reset),
        cmocka_unit_test_setup(test_deliveries_are_filtered_and_paged, reset),
        cmocka_unit_test_setup(test_redelivery_starts_the_schedule_anew, reset),
        cmocka_unit_test_setup(test_redelivery_to_a_deleted_endpoint_is_refused, reset),
        cmocka_unit_test_setup(test_pause_stands_until_lifted, reset),
        cmocka_unit_test_setup(test_what_is_gone_can_be_resumed_as_long_as_it_is_paused, reset),
        cmocka_unit_test_setup(test_queues_tell_depth_age_and_pause, reset),
        cmocka_unit_test_setup(test_workers_tell_slots_and_life, reset),
        cmocka_unit_test_setup(test_two_changes_at_once_make_one_chain, reset),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
