/* test_mutex.c -- the order of mutex classes. */
#include "../os/helper.h"
#include "sync/mutex.h"

static struct mutex pool = MUTEX_INIT(MUTEX_POOL);
static struct mutex loops = MUTEX_INIT(MUTEX_LOOPS);
static struct mutex log_mutex = MUTEX_INIT(MUTEX_LOG);

static void in_order(void **state)
{
    assert_false(mutex_any_held());
    mutex_lock(&pool);
    assert_true(mutex_any_held());
    mutex_lock(&loops);
    mutex_lock(&log_mutex);
    mutex_unlock(&loops); /* in any order */
    mutex_unlock(&log_mutex);
    assert_true(mutex_any_held());
    mutex_unlock(&pool);
    assert_false(mutex_any_held());
}

TSA_TRUST
static void backwards(void)
{
    mutex_lock(&loops);
    mutex_lock(&pool);
}

TSA_TRUST
static void same_class(void)
{
    static struct mutex another = MUTEX_INIT(MUTEX_POOL);

    mutex_lock(&pool);
    mutex_lock(&another);
}

TSA_TRUST
static void not_mine(void)
{
    mutex_unlock(&pool);
}

static void wrong_order_aborts(void **state)
{
    assert_true(dies_of(SIGABRT, backwards));
    assert_true(dies_of(SIGABRT, same_class));
    assert_true(dies_of(SIGABRT, not_mine));
}

static unsigned counter;

static void count_up(void *opaque)
{
    for (int i = 0; i < 20000; i++) {
        mutex_lock(&pool);
        counter++;
        mutex_unlock(&pool);
    }
}

static void excludes(void **state)
{
    struct os_thread *threads[2];

    for (int i = 0; i < 2; i++) {
        threads[i] = os_thread_start("count", count_up, NULL);
    }
    for (int i = 0; i < 2; i++) {
        os_thread_join(threads[i]);
    }
    assert_int_equal(counter, 40000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(wrong_order_aborts),
        cmocka_unit_test(excludes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
