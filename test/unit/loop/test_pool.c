/* test_pool.c -- the worker pool: shares, order, bounds, fire and forget, stop. */
#include "harness.h"
#include <sched.h>
#include "base/mem.h"
#include "os/file.h"
#include "sync/atomic.h"

enum { HANGING = 30, QUICK = 100 };

static int hang_fds[2];
static uint32_t hanging, hanging_max, quick_done, hung_done; /* atomic */

/* Hangs until the pipe is closed. */
BLOCKING
static int64_t hangs(void *opaque)
{
    char byte;
    uint32_t now = at_add(&hanging, 1) + 1;

    if (now > at_load(&hanging_max)) {
        at_store(&hanging_max, now);
    }
    expect(read(hang_fds[0], &byte, 1) == 0);
    at_sub(&hanging, 1);
    return 1;
}

BLOCKING
static int64_t is_quick(void *opaque)
{
    return (int64_t)(uintptr_t)opaque;
}

static struct pool_share hung_share, live_share;

CO_FN
static void calls_and_hangs(void *opaque)
{
    expect(pool_co_call(&hung_share, hangs, NULL) == 1);
    at_add(&hung_done, 1);
}

CO_FN
static void calls_quickly(void *opaque)
{
    for (int i = 0; i < QUICK; i++) {
        expect(pool_co_call(&live_share, is_quick, (void *)(uintptr_t)i) == i);
        expect(pool_co_call(NULL, is_quick, (void *)(uintptr_t)i) == i);
    }
    at_add(&quick_done, 1);
}

/* Every call of one share hangs, more of them than any bound; the other shares go on. */
CO_FN
static void one_hangs_the_others_go_on(void *opaque)
{
    struct loop *loop = loop_self();

    for (int i = 0; i < HANGING; i++) {
        loop_co_spawn(loop, calls_and_hangs, NULL, "hangs");
    }
    while (at_load(&hanging) < hung_share.max) {
        loop_co_sleep(1000000);
    }
    for (int i = 0; i < 20; i++) {
        loop_co_spawn(loop, calls_quickly, NULL, "quick");
    }
    while (at_load(&quick_done) < 20) {
        loop_co_sleep(1000000);
    }
    expect(at_load(&hanging) == hung_share.max);
    expect(at_load(&hung_done) == 0);
    os_close_now(hang_fds[1]);
    while (at_load(&hung_done) < HANGING) {
        loop_co_sleep(1000000);
    }
    expect(at_load(&hanging_max) == hung_share.max);
}

static void a_hung_share_takes_no_thread_from_another(void **state)
{
    hanging = hanging_max = quick_done = hung_done = 0;
    assert_int_equal(pipe(hang_fds), 0);
    pool_share_init(&hung_share, 5);
    pool_share_init(&live_share, 2);
    run_co(one_hangs_the_others_go_on, NULL);
    pool_share_fini(&hung_share);
    pool_share_fini(&live_share);
    close(hang_fds[0]);
}

/* ---- order within a share ---- */

static struct pool_share single;
static int order[50], order_count;

BLOCKING
static int64_t takes_a_number(void *opaque)
{
    order[order_count++] = (int)(uintptr_t)opaque; /* one at a time: the share's max is 1 */
    return 0;
}

static int order_left;

CO_FN
static void asks_for_a_number(void *opaque)
{
    pool_co_call(&single, takes_a_number, opaque);
    if (--order_left == 0) {
        loop_stop(loop_self());
    }
}

static void calls_of_a_share_start_in_order(void **state)
{
    order_count = 0;
    order_left = (int)countof(order);
    pool_share_init(&single, 1);
    for (size_t i = 0; i < countof(order); i++) {
        loop_co_spawn(*state, asks_for_a_number, (void *)(uintptr_t)i, "number");
    }
    loop_run(*state);
    for (int i = 0; i < (int)countof(order); i++) {
        assert_int_equal(order[i], i);
    }
    pool_share_fini(&single);
}

/* ---- fire and forget, stop and start again ---- */

static uint32_t forgotten; /* atomic */

BLOCKING
static int64_t is_forgotten(void *opaque)
{
    mem_free(opaque);
    usleep(1000);
    at_add(&forgotten, 1);
    return 0;
}

static void pool_run_runs_and_stop_waits_for_it(void **state)
{
    for (uint32_t round = 1; round <= 3; round++) {
        for (int i = 0; i < 50; i++) {
            pool_run(is_forgotten, mem_alloc(8));
        }
        pool_stop();
        assert_int_equal(at_load(&forgotten), 50 * round);
    }
}

static unsigned threads_now(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    unsigned count = 0;

    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "Threads:", 8) == 0) {
            count = (unsigned)strtoul(line + 8, NULL, 10);
        }
    }
    fclose(file);
    return count;
}

static void a_stopped_pool_has_no_threads(void **state)
{
    unsigned before;

    pool_stop();
    before = threads_now();
    pool_run(is_forgotten, NULL);
    assert_true(threads_now() >= before);
    pool_stop();
    assert_int_equal(threads_now(), before);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(a_hung_share_takes_no_thread_from_another),
        loop_test(calls_of_a_share_start_in_order),
        loop_test(pool_run_runs_and_stop_waits_for_it),
        loop_test(a_stopped_pool_has_no_threads),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
