/*
 * test_host.c -- a loop inside a host program: waited for with poll(2) among the host's own
 * descriptors, and polled nested from its own callbacks (RACES 8 and 9).
 */
#include "harness.h"
#include <poll.h>
#include "os/file.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"

enum { MS = 1000000, EVENTS = 2000 };

/* As a host does it; false: @wait_ms went by and nothing came. */
HOME_LOOP
static bool host_turn(struct loop *loop, int wait_ms)
{
    uint64_t deadline_ns = loop_host_prepare(loop), now_ns = os_now_monotonic_ns();
    struct pollfd fd = {.fd = loop_host_fd(loop), .events = POLLIN};
    int timeout_ms = wait_ms, rc;

    if (deadline_ns <= now_ns) {
        timeout_ms = 0;
    } else if (deadline_ns - now_ns < (uint64_t)wait_ms * MS) {
        timeout_ms = (int)((deadline_ns - now_ns) / MS) + 1;
    }
    rc = poll(&fd, 1, timeout_ms);
    loop_host_run(loop);
    return rc > 0 || timeout_ms < wait_ms;
}

static uint64_t runs; /* atomic */

HOME_LOOP
static void counts(void *opaque)
{
    at_add(&runs, 1);
}

/* Ends when it has been woken for each: a lost wake-up is a hang. */
BLOCKING
static void schedules_one_by_one(void *opaque)
{
    struct bh *bh = opaque;

    for (uint64_t i = 0; i < EVENTS; i++) {
        bh_schedule(bh);
        while (at_load(&runs) <= i) {
            if (i % 64 == 0) {
                usleep(1);
            }
        }
    }
}

static void every_wake_up_reaches_the_host(void **state)
{
    struct loop *loop = *state;
    struct bh *bh = bh_new(loop, counts, NULL, "counts");
    struct os_thread *thread;

    loop_assert_home(loop);
    at_store(&runs, 0);
    thread = os_thread_start("foreign", schedules_one_by_one, bh);
    while (at_load(&runs) < EVENTS) {
        if (!host_turn(loop, 5000)) {
            fail_msg("a wake-up was lost at %lu", (unsigned long)runs);
        }
    }
    os_thread_join(thread);
    bh_delete(bh);
}

static void timers_are_the_deadline(void **state)
{
    struct loop *loop = *state;
    struct loop_timer timer;
    uint64_t began_ns = os_now_monotonic_ns();

    loop_assert_home(loop);
    at_store(&runs, 0);
    assert_int_equal(loop_host_prepare(loop), UINT64_MAX);
    loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, counts, NULL);
    loop_timer_arm(&timer, began_ns + 20 * MS);
    while (runs == 0) {
        assert_true(host_turn(loop, 5000));
    }
    assert_true(os_now_monotonic_ns() - began_ns >= 20 * MS);
    assert_int_equal(loop_host_prepare(loop), UINT64_MAX);
    bh_once(loop, counts, NULL, "now");
    assert_int_equal(loop_host_prepare(loop), 0);
}

CO_FN
static void does_file_io(void *opaque)
{
    char block[512];
    struct iovec iov = {block, sizeof(block)};
    struct io_file file;

    loop_assert_main();
    io_file_init(&file, *(int *)opaque, IO_ENGINE);
    for (unsigned i = 0; i < 50; i++) {
        expect(io_co_pwritev(&file, &iov, 1, 0, 0) == sizeof(block));
        expect(io_co_preadv(&file, &iov, 1, 0) == sizeof(block));
    }
    io_file_fini(&file);
    at_add(&runs, 1);
}

static void transfers_and_pool_calls_reach_the_host(void **state)
{
    struct loop *loop = *state;
    char path[] = "/var/tmp/caisson-host-XXXXXX";
    int fd = os_mkstemp(path);

    os_unlink(path);
    loop_assert_home(loop);
    at_store(&runs, 0);
    loop_co_spawn(loop, does_file_io, &fd, "io");
    while (runs == 0) {
        assert_true(host_turn(loop, 5000));
    }
    os_close(fd);
}

/* ---- nested ---- */

/* What the thread itself schedules between prepare and wait, and what a nested poll leaves. */
static void what_a_nested_poll_leaves_wakes_the_host(void **state)
{
    struct loop *loop = *state;
    struct pollfd fd = {.events = POLLIN};

    loop_assert_home(loop);
    fd.fd = loop_host_fd(loop);
    at_store(&runs, 0);
    assert_int_equal(loop_host_prepare(loop), UINT64_MAX);
    assert_int_equal(poll(&fd, 1, 0), 0);
    bh_once(loop, counts, NULL, "after prepare");
    assert_int_equal(poll(&fd, 1, 1000), 1);

    for (unsigned i = 0; i < 3 * LOOP_BUDGET; i++) {
        bh_once(loop, counts, NULL, "many");
    }
    loop_poll(loop, true); /* the event is consumed here, the budget is not enough */
    assert_true(runs < 3 * LOOP_BUDGET);
    assert_int_equal(poll(&fd, 1, 1000), 1);
    while (runs < 3 * LOOP_BUDGET + 1) {
        assert_true(host_turn(loop, 1000));
    }
}

/* RACES 8: a source's callback polls the loop; it must not be entered again. */
static struct loop *the_loop;
static struct loop_watch watch;
static unsigned depth, depth_max;
static int watched_fd;

HOME_LOOP
static void polls_inside(void *opaque, unsigned events)
{
    depth++;
    depth_max = max_of(depth, depth_max);
    for (unsigned i = 0; i < 5; i++) {
        loop_poll(the_loop, false);
    }
    os_eventfd_clear(watched_fd);
    at_add(&runs, 1);
    depth--;
}

static const struct loop_watch_ops polls_ops = {.ready = polls_inside};

static void a_callback_that_polls_is_not_entered_again(void **state)
{
    the_loop = *state;
    loop_assert_home(the_loop);
    at_store(&runs, 0);
    depth = depth_max = 0;
    watched_fd = os_eventfd();
    assert_int_equal(loop_watch_add(&watch, watched_fd, LOOP_IN, &polls_ops, NULL), 0);
    os_eventfd_signal(watched_fd);
    while (runs == 0) {
        assert_true(host_turn(the_loop, 5000));
    }
    assert_int_equal(depth_max, 1);
    loop_watch_remove(&watch);
    os_close_now(watched_fd);
}

/* RACES 9: calls of the pool complete together; the first one's waiter polls until all are done,
 * which the outer level may have fetched already. */
static unsigned completed;

BLOCKING
static int64_t called(void *opaque)
{
    return 0;
}

CO_FN
static void calls_the_pool(void *opaque)
{
    expect(pool_co_call(NULL, called, NULL) == 0);
    completed++;
    bh_schedule(opaque);
}

HOME_LOOP
static void waits_for_all(void *opaque)
{
    while (completed < 8) {
        loop_poll(the_loop, true);
    }
    at_add(&runs, 1);
}

static void a_nested_poll_finds_what_the_outer_one_has_taken(void **state)
{
    struct bh *bh;

    the_loop = *state;
    loop_assert_home(the_loop);
    for (unsigned round = 0; round < 50; round++) {
        at_store(&runs, 0);
        completed = 0;
        bh = bh_new(the_loop, waits_for_all, NULL, "waits for all");
        for (unsigned i = 0; i < 8; i++) {
            loop_co_spawn(the_loop, calls_the_pool, bh, "calls");
        }
        while (runs == 0) {
            assert_true(host_turn(the_loop, 5000));
        }
        bh_delete(bh);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(every_wake_up_reaches_the_host),
        loop_test(timers_are_the_deadline),
        loop_test(transfers_and_pool_calls_reach_the_host),
        loop_test(what_a_nested_poll_leaves_wakes_the_host),
        loop_test(a_callback_that_polls_is_not_entered_again),
        loop_test(a_nested_poll_finds_what_the_outer_one_has_taken),
    };
    int failures;

    test_begin(argc, argv);
    test_is_hosted = true;
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
