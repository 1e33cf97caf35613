/* test_thread.c -- threads, their storage, waits, clocks. */
#include "helper.h"
#include "os/thread.h"
#include "os/time.h"
#include <errno.h>

static struct os_mutex lock = OS_MUTEX_INIT;
static struct os_cond changed = OS_COND_INIT;
static int stage;

static void answer(void *opaque)
{
    sigset_t set;

    os_mutex_lock(&lock);
    while (stage != 1) {
        os_cond_wait(&changed, &lock);
    }
    stage = 2;
    os_cond_broadcast(&changed);
    os_mutex_unlock(&lock);
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    assert_true(sigismember(&set, SIGTERM));
    assert_false(sigismember(&set, SIGBUS));
    assert_null(os_tls_get(OS_TLS_CO)); /* its own storage, empty */
    *(long *)opaque = os_thread_id();
}

static void ping_pong(void **state)
{
    long id = 0;
    struct os_thread *thread;
    sigset_t set;

    os_tls_set(OS_TLS_CO, &id);
    thread = os_thread_start("answer", answer, &id);
    os_mutex_lock(&lock);
    stage = 1;
    os_cond_signal(&changed);
    while (stage != 2) {
        os_cond_wait(&changed, &lock);
    }
    os_mutex_unlock(&lock);
    os_thread_join(thread);
    assert_true(id != 0 && id != os_thread_id());
    assert_ptr_equal(os_tls_get(OS_TLS_CO), &id);
    os_tls_set(OS_TLS_CO, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    assert_false(sigismember(&set, SIGTERM)); /* ours are as before */
}

static void timed_wait(void **state)
{
    uint64_t before = os_now_monotonic_ns();

    os_mutex_lock(&lock);
    assert_false(os_cond_wait_for(&changed, &lock, 10000000));
    os_mutex_unlock(&lock);
    assert_true(os_now_monotonic_ns() - before >= 10000000);
}

static void clocks(void **state)
{
    uint64_t cpu = os_thread_cpu_ns();

    assert_true(os_now_realtime_ns() > 1600000000ull * 1000000000);
    while (os_thread_cpu_ns() == cpu) {
    }
    assert_true(os_cpu_count() >= 1);
}

static void membarrier(void **state)
{
    int rc = os_membarrier_register();

    if (rc == 0) {
        os_membarrier();
    } else {
        assert_true(rc == -ENOSYS || rc == -EPERM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ping_pong),
        cmocka_unit_test(timed_wait),
        cmocka_unit_test(clocks),
        cmocka_unit_test(membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
