/* test_wait.c -- waits with one claim, co_mutex and co_queue among coroutines of one home. */
#include "home.h"
#include "co/lock.h"

static struct home home;
static char trace[256];

static int setup(void **state)
{
    home_init(&home);
    trace[0] = '\0';
    return 0;
}

static void say(const char *text)
{
    snprintf(trace + strlen(trace), sizeof(trace) - strlen(trace), "%s", text);
}

/* ---- co_wait ---- */

static struct co_wait *shared_wait;
static int64_t got;

CO_FN
static void waits(void *opaque)
{
    struct co_wait wait;

    co_wait_init(&wait);
    shared_wait = &wait;
    got = co_wait_block(&wait);
    say("woken");
}

static void one_claim_wins(void **state)
{
    home_start(&home, waits, NULL, "waiter");
    assert_true(co_wait_claim(shared_wait));
    assert_false(co_wait_claim(shared_wait));
    assert_false(co_wait_complete(shared_wait, 7));
    assert_string_equal(trace, "");
    co_wait_finish(shared_wait, 42);
    home_run(&home);
    assert_string_equal(trace, "woken");
    assert_int_equal(got, 42);
}

CO_FN
static void blocks_on_a_finished_one(void *opaque)
{
    struct co_wait wait;

    co_wait_init(&wait);
    assert_true(co_wait_complete(&wait, 5));
    assert_int_equal(co_wait_block(&wait), 5);
    say("at once");
}

static void a_finished_wait_does_not_yield(void **state)
{
    home_start(&home, blocks_on_a_finished_one, NULL, "waiter");
    assert_string_equal(trace, "at once");
}

static void stray_waker(void)
{
    home_start(&home, waits, NULL, "waiter");
    co_wake(shared_wait->co); /* not through the wait */
    home_run(&home);
}

static void finisher_without_claim(void)
{
    home_start(&home, waits, NULL, "waiter");
    co_wait_finish(shared_wait, 0);
}

static void misuse_aborts(void **state)
{
    DIES_SAYING(stray_waker, "stray_waker", "'waiter'", "not finished");
    DIES_SAYING(finisher_without_claim, "'waiter'", "without a claim");
}

/* ---- co_mutex ---- */

static struct co_mutex mutex;

CO_FN
static void locks(void *opaque)
{
    co_mutex_lock(&mutex);
    say(opaque);
    co_yield_turn();
    say(opaque);
    co_mutex_unlock(&mutex);
}

CO_FN
static void locks_often(void *opaque)
{
    for (int i = 0; i < 2; i++) {
        locks(opaque);
    }
}

static void first_come_first_served(void **state)
{
    memset(&mutex, 0, sizeof(mutex)); /* as good as co_mutex_init() */
    home_start(&home, locks_often, "a", "a");
    home_start(&home, locks_often, "b", "b");
    home_start(&home, locks_often, "c", "c");
    home_run(&home);
    assert_string_equal(trace, "aabbccaabbcc");
}

CO_FN
static void locks_twice(void *opaque)
{
    co_mutex_lock(&mutex);
    co_mutex_lock(&mutex);
}

static void double_lock(void)
{
    co_mutex_init(&mutex);
    home_start(&home, locks_twice, NULL, "greedy");
}

CO_FN
static void unlocks(void *opaque)
{
    co_mutex_unlock(&mutex);
}

static void foreign_unlock(void)
{
    co_mutex_init(&mutex);
    home_start(&home, locks, "a", "owner");
    home_start(&home, unlocks, NULL, "thief");
}

static void mutex_misuse_aborts(void **state)
{
    DIES_SAYING(double_lock, "'greedy'", "holds");
    DIES_SAYING(foreign_unlock, "co_mutex_is_mine");
}

/* ---- co_queue ---- */

static struct co_queue queue;

CO_FN
static void queues(void *opaque)
{
    co_mutex_lock(&mutex);
    co_queue_wait(&queue, &mutex);
    assert_true(co_mutex_is_mine(&mutex));
    say(opaque);
    co_mutex_unlock(&mutex);
}

CO_FN
static void queues_alone(void *opaque)
{
    co_queue_wait(&queue, NULL);
    say(opaque);
}

static void waiters_leave_in_order(void **state)
{
    co_mutex_init(&mutex);
    co_queue_init(&queue);
    assert_true(co_queue_is_empty(&queue));
    assert_false(co_queue_wake_one(&queue));
    home_start(&home, queues, "a", "a");
    home_start(&home, queues, "b", "b");
    home_start(&home, queues_alone, "c", "c");
    assert_false(co_queue_is_empty(&queue));
    assert_true(co_queue_wake_one(&queue));
    home_run(&home);
    assert_string_equal(trace, "a");
    co_queue_wake_all(&queue);
    home_run(&home);
    assert_string_equal(trace, "abc");
    assert_true(co_queue_is_empty(&queue));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_claim_wins, setup),
        cmocka_unit_test_setup(a_finished_wait_does_not_yield, setup),
        cmocka_unit_test_setup(misuse_aborts, setup),
        cmocka_unit_test_setup(first_come_first_served, setup),
        cmocka_unit_test_setup(mutex_misuse_aborts, setup),
        cmocka_unit_test_setup(waiters_leave_in_order, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
