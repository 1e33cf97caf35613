/* test_locks.c -- sleeping with an early end, and rwlock, semaphore and RCU barrier across
 * loops. */
#include "harness.h"
#include "co/lock.h"
#include "co/rcu.h"
#include "loop/iothread.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"
#include "sync/rcu.h"

enum { MS = 1000000, ROUNDS = 300, COS = 6 };

/* ---- a bed ----------------------------------------------------------------------------------- */

static struct loop_bed bed;
static unsigned slept; /* atomic */

HOME_LOOP
static void wakes_bed(void *opaque)
{
    loop_bed_wake(&bed);
}

CO_FN
static void sleeps(void *opaque)
{
    uint64_t began_ns = os_now_monotonic_ns();

    loop_bed_init(&bed);
    expect(!loop_co_sleep_in(&bed, 20 * MS));
    expect(os_now_monotonic_ns() - began_ns >= 20 * MS);

    loop_bed_wake(&bed); /* before: kept, once */
    loop_bed_wake(&bed);
    expect(loop_co_sleep_in(&bed, UINT64_MAX));
    expect(!loop_co_sleep_in(&bed, 1 * MS));

    bh_once(loop_self(), wakes_bed, NULL, "waker");
    expect(loop_co_sleep_in(&bed, 3600ULL * 1000 * MS));
    expect(!loop_co_sleep_in(&bed, 0));
}

static void a_sleep_ends_early(void **state)
{
    run_co(sleeps, NULL);
}

BLOCKING
static void foreign_waker(void *opaque)
{
    while (at_load(&slept) < ROUNDS) {
        loop_bed_wake(&bed);
        if (rand() % 2 == 0) {
            usleep((unsigned)(rand() % 50));
        }
    }
}

CO_FN
static void sleeps_often(void *opaque)
{
    struct os_thread *thread;

    loop_bed_init(&bed);
    thread = os_thread_start("waker", foreign_waker, NULL);
    for (unsigned i = 0; i < ROUNDS; i++) {
        /* every other one with a deadline near the wake: either may win */
        bool woken = loop_co_sleep_in(&bed, i % 2 ? 20000 : UINT64_MAX);

        expect(woken || i % 2);
        at_add(&slept, 1);
    }
    *(struct os_thread **)opaque = thread;
}

static void another_thread_ends_a_sleep(void **state)
{
    struct os_thread *thread = NULL;

    run_co(sleeps_often, &thread);
    os_thread_join(thread);
}

CO_FN
static void waits_until(void *opaque)
{
    struct co_wait wait;

    co_wait_init(&wait);
    expect(loop_co_wait_until(&wait, os_now_monotonic_ns() + 2 * MS) == -ETIMEDOUT);
    expect(!co_wait_claim(&wait));
    co_wait_init(&wait);
    expect(co_wait_complete(&wait, 5));
    expect(loop_co_wait_until(&wait, os_now_monotonic_ns()) == 5);
}

static void a_deadline_is_one_more_party(void **state)
{
    run_co(waits_until, NULL);
}

/* ---- across loops ---------------------------------------------------------------------------- */

static struct co_rwlock lock;
static struct co_semaphore semaphore;
static unsigned readers, writers, holders, upgrades_kept, version; /* atomic but the last */
static unsigned living;                                             /* atomic */

CO_FN
static void reads(unsigned *seed)
{
    unsigned seen;

    co_rwlock_rdlock(&lock);
    at_add(&readers, 1);
    expect(at_load(&writers) == 0);
    seen = version;
    if (rand_r(seed) % 2 == 0) {
        co_yield_turn();
    }
    expect(seen == version);
    at_sub(&readers, 1);
    if (rand_r(seed) % 3 != 0) {
        co_rwlock_unlock(&lock);
        return;
    }
    if (co_rwlock_upgrade(&lock)) {
        expect(seen == version);
        at_add(&upgrades_kept, 1);
    }
    expect(at_load(&readers) == 0 && at_add(&writers, 1) == 0);
    version++;
    at_sub(&writers, 1);
    co_rwlock_unlock(&lock);
}

CO_FN
static void writes(unsigned *seed)
{
    unsigned mine;

    co_rwlock_wrlock(&lock);
    expect(at_load(&readers) == 0 && at_add(&writers, 1) == 0);
    mine = ++version;
    if (rand_r(seed) % 2 == 0) {
        co_yield_turn();
    }
    expect(version == mine);
    at_sub(&writers, 1);
    if (rand_r(seed) % 2 == 0) {
        co_rwlock_downgrade(&lock);
        expect(version == mine);
    }
    co_rwlock_unlock(&lock);
}

CO_FN
static void takes(unsigned *seed)
{
    if (rand_r(seed) % 2 == 0 || !co_semaphore_try_take(&semaphore)) {
        co_semaphore_take(&semaphore);
    }
    expect(at_add(&holders, 1) < 2);
    co_yield_turn();
    at_sub(&holders, 1);
    co_semaphore_give(&semaphore);
}

CO_FN
static void busy(void *opaque)
{
    unsigned seed = (unsigned)(uintptr_t)opaque;

    for (unsigned i = 0; i < ROUNDS; i++) {
        switch (rand_r(&seed) % 4) {
        case 0:
            writes(&seed);
            break;
        case 1:
            takes(&seed);
            break;
        default:
            reads(&seed);
            break;
        }
    }
    loop_co_move(loop_main());
    at_sub(&living, 1);
}

MAIN_LOOP CO_FN
static void across(void *opaque)
{
    static const struct iothread_options options = {.poll_max_ns = 0, .thread_pool_max = 64};

    expect(iothread_co_new("other", &options, NULL) == 0);
    co_semaphore_init(&semaphore, 2);
    at_store(&living, 2 * COS);
    for (unsigned i = 0; i < 2 * COS; i++) {
        loop_co_spawn(i % 2 ? loop_self() : iothread_loop(iothread_find("other")), busy,
                      (void *)(uintptr_t)(i + 1), "busy");
    }
    while (at_load(&living) > 0) {
        loop_co_sleep(MS);
    }
    expect(at_load(&upgrades_kept) > 0);
    expect(lock.readers == 0 && lock.writer == NULL && semaphore.permits == 2);
    expect(iothread_co_delete(iothread_find("other"), NULL) == 0);
}

static void locks_hold_across_loops(void **state)
{
    run_co(across, NULL);
}

/* ---- RCU ------------------------------------------------------------------------------------- */

static struct rcu_node nodes[20];
static unsigned called; /* atomic */

ANY_THREAD
static void on_grace(struct rcu_node *node)
{
    usleep(100);
    at_add(&called, 1);
}

CO_FN
static void waits_for_callbacks(void *opaque)
{
    co_rcu_barrier();
    for (unsigned i = 0; i < countof(nodes); i++) {
        rcu_call(&nodes[i], on_grace);
    }
    co_rcu_barrier();
    expect(at_load(&called) == countof(nodes));
}

static void a_barrier_waits_for_callbacks(void **state)
{
    run_co(waits_for_callbacks, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(a_sleep_ends_early),
        loop_test(another_thread_ends_a_sleep),
        loop_test(a_deadline_is_one_more_party),
        loop_test(locks_hold_across_loops),
        loop_test(a_barrier_waits_for_callbacks),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
