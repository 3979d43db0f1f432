/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "worker/supervise.h"

static void restarts_come_at_once_and_then_later_and_later(void **state)
{
    static const uint64_t waits_ms[] = {0, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000};
    ap_watch w;
    uint64_t now = 123456;
    ap_watch_init(&w, 60000, now);
    assert_int_equal(ap_watch_due(&w, now), AP_WATCH_START);
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        ap_watch_started(&w, now);
        assert_int_equal(w.state, AP_SUPERVISOR_STARTING);
        now += 10;
        ap_watch_ready(&w, now);
        assert_int_equal(ap_watch_timeout_ms(&w, now), -1);
        assert_int_equal(ap_watch_due(&w, now + 1000000), AP_WATCH_NOTHING);
        now += 59000;
        ap_watch_died(&w, now);
        assert_int_equal(ap_watch_timeout_ms(&w, now), waits_ms[i]);
        if (waits_ms[i])
            assert_int_equal(ap_watch_due(&w, now + waits_ms[i] - 1), AP_WATCH_NOTHING);
        now += waits_ms[i];
        assert_int_equal(ap_watch_due(&w, now), AP_WATCH_START);
        assert_int_equal(ap_watch_timeout_ms(&w, now + 5), 0);
    }
}

static void a_worker_that_lasted_starts_the_count_anew(void **state)
{
    ap_watch w;
    ap_watch_init(&w, 60000, 0);
    for (int i = 0; i < 5; i++) {
        ap_watch_started(&w, 0);
        ap_watch_died(&w, 0);
    }
    assert_int_equal(ap_watch_timeout_ms(&w, 0), 8000);
    ap_watch_started(&w, 8000);
    ap_watch_ready(&w, 9000);
    ap_watch_died(&w, 9000 + AP_WATCH_PROVED_MS);
    assert_int_equal(ap_watch_timeout_ms(&w, 9000 + AP_WATCH_PROVED_MS), 0);
}

static void a_worker_that_is_never_ready_is_killed_in_time(void **state)
{
    ap_watch w;
    ap_watch_init(&w, 700, 50);
    ap_watch_started(&w, 50);
    assert_int_equal(ap_watch_timeout_ms(&w, 50), 700);
    assert_int_equal(ap_watch_due(&w, 749), AP_WATCH_NOTHING);
    assert_int_equal(ap_watch_due(&w, 750), AP_WATCH_KILL);
    ap_watch_died(&w, 750);
    assert_int_equal(w.state, AP_SUPERVISOR_WAITING);
}

/* Any order of events: a wait never passes its bound, and a supervisor never stands still. */
static void a_long_random_life_keeps_its_rules(void **state)
{
    ap_watch w;
    uint64_t now = 0, random = 42, starts = 0;
    ap_watch_init(&w, 60000, now);
    for (int i = 0; i < 200000; i++) {
        int timeout = ap_watch_timeout_ms(&w, now);
        assert_true(w.state == AP_SUPERVISOR_READY ? timeout == -1 : timeout >= 0 && timeout <= 60000);
        if (w.state == AP_SUPERVISOR_WAITING)
            assert_true(timeout <= AP_WATCH_WAIT_MS_MAX);
        switch (ap_watch_due(&w, now)) {
        case AP_WATCH_START:
            assert_int_equal(w.state, AP_SUPERVISOR_WAITING);
            ap_watch_started(&w, now);
            starts++;
            break;
        case AP_WATCH_KILL:
            assert_int_equal(w.state, AP_SUPERVISOR_STARTING);
            ap_watch_died(&w, now);
            break;
        case AP_WATCH_NOTHING:
            assert_true(timeout != 0);
            if (w.state == AP_SUPERVISOR_STARTING && ap_test_random(&random) % 2)
                ap_watch_ready(&w, now);
            else if (w.state != AP_SUPERVISOR_WAITING && ap_test_random(&random) % 4 == 0)
                ap_watch_died(&w, now);
            break;
        }
        now += ap_test_random(&random) % 3000;
    }
    assert_true(w.starts == starts && starts > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restarts_come_at_once_and_then_later_and_later),
        cmocka_unit_test(a_worker_that_lasted_starts_the_count_anew),
        cmocka_unit_test(a_worker_that_is_never_ready_is_killed_in_time),
        cmocka_unit_test(a_long_random_life_keeps_its_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
