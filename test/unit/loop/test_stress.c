/*
 * test_stress.c -- everything at once: loops, foreign threads, BHs, coroutines, timers, watches,
 * file I/O, pool calls, moves, at random. STRESS_SECONDS says for how long (default 5).
 * Each kind of work must get somewhere, and all of it must end when told to.
 */
#include "harness.h"
#include <sched.h>
#include "base/mem.h"
#include "co/lock.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"

enum { LOOPS = 3, FOREIGN = 3, COS_PER_LOOP = 8, SHARED_BHS = 4 };

enum kind { BH_RUNS, CO_TURNS, TIMER_FIRES, FD_EVENTS, TRANSFERS, CALLS, MOVES, WAITS, KINDS };
static uint64_t done[KINDS]; /* atomic */
static const char *const kind_names[KINDS] = {"bh", "co", "timer", "fd", "io", "pool", "move",
                                              "wait"};
static struct loop *loops[LOOPS];
static uint32_t stopping, living; /* atomic */
static struct co_mutex mutex;
static unsigned guarded;
static struct io_file file;
static int file_fd;
static struct bh *shared_bhs[SHARED_BHS];

static bool is_over(void)
{
    return at_load(&stopping) != 0;
}

HOME_LOOP
static void bh_runs(void *opaque)
{
    at_add(&done[BH_RUNS], 1);
}

/* ---- waits that foreign threads finish ---- */

static struct co_wait *offers[FOREIGN]; /* atomic */

BLOCKING
static void foreign_main(void *opaque)
{
    unsigned seed = (unsigned)(uintptr_t)opaque + 1, self = seed - 1;

    while (at_load(&living) > 0) {
        struct co_wait *wait = at_xchg(&offers[self], NULL);

        if (wait != NULL) {
            co_wait_complete(wait, 7);
        }
        if (is_over()) {
            sched_yield();
            continue;
        }
        switch (rand_r(&seed) % 4) {
        case 0:
            bh_once(loops[rand_r(&seed) % LOOPS], bh_runs, NULL, "once");
            break;
        case 1:
            bh_schedule(shared_bhs[rand_r(&seed) % SHARED_BHS]);
            break;
        case 2:
            bh_cancel(shared_bhs[rand_r(&seed) % SHARED_BHS]);
            break;
        default:
            bh_schedule_idle(shared_bhs[rand_r(&seed) % SHARED_BHS]);
            break;
        }
        if (rand_r(&seed) % 8 == 0) {
            usleep((unsigned)rand_r(&seed) % 200);
        }
    }
}

CO_FN
static void waits_for_a_foreigner(unsigned number)
{
    struct co_wait wait, *expected = NULL;

    co_wait_init(&wait);
    if (at_cas(&offers[number % FOREIGN], &expected, &wait)) {
        expect(co_wait_block(&wait) == 7);
        at_add(&done[WAITS], 1);
    }
}

/* ---- what coroutines do ---- */

CO_FN
static void transfers(unsigned *seed)
{
    uint8_t block[1024];
    struct iovec iov = {block, sizeof(block)};
    uint64_t offset = (uint64_t)(rand_r(seed) % 64) * sizeof(block);

    expect(io_co_preadv(&file, &iov, 1, offset) == sizeof(block));
    expect(io_co_pwritev(&file, &iov, 1, offset, 0) == sizeof(block));
    at_add(&done[TRANSFERS], 1);
}

BLOCKING
static int64_t called(void *opaque)
{
    return 3;
}

CO_FN
static void watches_an_fd(void)
{
    int fd = os_eventfd(), rc;

    rc = loop_co_wait_fd(fd, LOOP_IN, os_now_monotonic_ns() + 100000);
    expect(rc == -ETIMEDOUT);
    os_eventfd_signal(fd);
    expect(loop_co_wait_fd(fd, LOOP_IN, 0) == LOOP_IN);
    os_close_now(fd);
    at_add(&done[FD_EVENTS], 1);
}

CO_FN
static void locks(unsigned *seed)
{
    co_mutex_lock(&mutex);
    expect(guarded++ == 0);
    if (rand_r(seed) % 4 == 0) {
        co_yield_turn();
    }
    expect(--guarded == 0);
    co_mutex_unlock(&mutex);
    at_add(&done[CO_TURNS], 1);
}

CO_FN
static void acts(unsigned number, unsigned *seed)
{
    switch (rand_r(seed) % 7) {
    case 0:
        loop_co_move(loops[rand_r(seed) % LOOPS]);
        at_add(&done[MOVES], 1);
        break;
    case 1:
        transfers(seed);
        break;
    case 2:
        expect(pool_co_call(&file.share, called, NULL) == 3);
        at_add(&done[CALLS], 1);
        break;
    case 3:
        watches_an_fd();
        break;
    case 4:
        loop_co_sleep((uint64_t)rand_r(seed) % 100000);
        at_add(&done[TIMER_FIRES], 1);
        break;
    case 5:
        waits_for_a_foreigner(number);
        break;
    default:
        locks(seed);
        break;
    }
}

CO_FN
static void busy(void *opaque)
{
    unsigned number = (unsigned)(uintptr_t)opaque, seed = number + 100;

    while (!is_over()) {
        acts(number, &seed);
    }
    loop_co_move(loop_main());
    at_sub(&living, 1);
}

/* ---- the run ---- */

MAIN_LOOP
static void make_work(void)
{
    for (unsigned i = 0; i < SHARED_BHS; i++) {
        shared_bhs[i] = bh_new(loops[i % LOOPS], bh_runs, NULL, "shared");
    }
    at_store(&living, LOOPS * COS_PER_LOOP);
    for (unsigned i = 0; i < LOOPS * COS_PER_LOOP; i++) {
        loop_co_spawn(loops[i % LOOPS], busy, (void *)(uintptr_t)i, "busy");
    }
}

BLOCKING
static int64_t joins(void *opaque)
{
    os_thread_join(opaque);
    return 0;
}

MAIN_LOOP CO_FN
static void stress(void *opaque)
{
    static const struct iothread_options options = {.poll_max_ns = 20000, .thread_pool_max = 64};
    static const char *const ids[] = {"stress1", "stress2"};
    struct os_thread *threads[FOREIGN];

    io_file_init(&file, file_fd, IO_ENGINE);
    loops[0] = loop_self();
    for (unsigned i = 1; i < LOOPS; i++) {
        expect(iothread_co_new(ids[i - 1], &options, NULL) == 0);
        loops[i] = iothread_loop(iothread_find(ids[i - 1]));
    }
    make_work();
    for (unsigned i = 0; i < FOREIGN; i++) {
        threads[i] = os_thread_start("foreign", foreign_main, (void *)(uintptr_t)i);
    }
    loop_co_sleep(*(uint64_t *)opaque * 1000000000);
    at_store(&stopping, 1);
    while (at_load(&living) > 0) {
        loop_co_sleep(1000000);
    }
    for (unsigned i = 0; i < FOREIGN; i++) {
        pool_co_call(NULL, joins, threads[i]);
    }
    for (unsigned i = 0; i < SHARED_BHS; i++) {
        bh_delete(shared_bhs[i]);
    }
    for (unsigned i = 1; i < LOOPS; i++) {
        expect(iothread_co_delete(iothread_find(ids[i - 1]), NULL) == 0);
    }
    io_file_fini(&file);
}

static void everything_at_once(void **state)
{
    const char *seconds_text = getenv("STRESS_SECONDS");
    char path[] = "/var/tmp/caisson-stress-XXXXXX";
    uint64_t seconds = seconds_text ? strtoull(seconds_text, NULL, 10) : 5;

    file_fd = os_mkstemp(path);
    assert_true(file_fd >= 0);
    os_unlink(path);
    assert_int_equal(os_ftruncate(file_fd, 1 << 20), 0);
    alarm((unsigned)seconds + HANG_SECONDS);
    run_co(stress, &seconds);
    os_close(file_fd);
    for (unsigned i = 0; i < KINDS; i++) {
        print_message("%s %lu ", kind_names[i], (unsigned long)done[i]);
        assert_true(done[i] > 0);
    }
    print_message("\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(everything_at_once),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
