/*
 * rcu.c -- the facade over liburcu's "memb" flavour.
 *
 * A thread's state is in its OS_TLS_RCU slot: 0 unregistered, else 1 + depth of its read sections.
 * liburcu is not compiled with the thread sanitizer, so the two orders it provides are told to it:
 * all read sections that have left -> a grace period's end; rcu_call() -> its callback.
 */
#include "sync/rcu.h"
#include "os/thread.h"
#include <string.h>
#include <urcu/urcu-memb.h>

static_assert(sizeof(struct rcu_head) <= sizeof(((struct rcu_node *)0)->reserved), "same place");

#ifdef CAISSON_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
static char grace_period;
#define TOLD_RELEASE(address) __tsan_release(address)
#define TOLD_ACQUIRE(address) __tsan_acquire(address)
#else
#define TOLD_RELEASE(address) ((void)0)
#define TOLD_ACQUIRE(address) ((void)0)
#endif

static bool is_used; /* rcu_call() was called */

static uintptr_t state(void)
{
    return (uintptr_t)os_tls[OS_TLS_RCU]; /* without a call: asked at each yield */
}

static void set_state(uintptr_t value)
{
    os_tls_set(OS_TLS_RCU, (void *)value);
}

void rcu_thread_register(void)
{
    assert(state() == 0);
    urcu_memb_register_thread();
    set_state(1);
}

void rcu_thread_unregister(void)
{
    assert(state() == 1);
    urcu_memb_unregister_thread();
    set_state(0);
}

bool rcu_thread_is_registered(void)
{
    return state() != 0;
}

void rcu_read_enter(void)
{
    uintptr_t now = state();

    assert(now != 0);
    set_state(now + 1);
    urcu_memb_read_lock();
}

void rcu_read_leave(void)
{
    uintptr_t now = state();

    assert(now > 1);
    TOLD_RELEASE(&grace_period);
    urcu_memb_read_unlock();
    set_state(now - 1);
}

bool rcu_is_reading(void)
{
    return state() > 1;
}

/* In this flavour only an open read section delays a grace period, so sleeping needs no word. */
void rcu_thread_offline(void)
{
    assert(state() == 1);
}

void rcu_thread_online(void)
{
    assert(state() == 1);
}

ANY_THREAD
static void run_callback(struct rcu_head *head)
{
    struct rcu_node *node = (struct rcu_node *)head;

    TOLD_ACQUIRE(&grace_period);
    TOLD_ACQUIRE(node);
    node->fn(node);
}

/* liburcu starts its thread at the first call, with the signals of whoever that was: none shall
 * reach it. */
static void start_callback_thread(void)
{
    struct os_signal_mask before;

    os_signals_block(&before);
    urcu_memb_get_default_call_rcu_data();
    os_signals_restore(&before);
}

void rcu_call(struct rcu_node *node, void (*fn)(struct rcu_node *node))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, start_callback_thread);
    at_store(&is_used, true);
    node->fn = fn;
    TOLD_RELEASE(node);
    /* liburcu enqueues inside a read section of its own, which needs a registered thread. */
    assert(state() != 0);
    urcu_memb_call_rcu((struct rcu_head *)node->reserved, run_callback);
}

void rcu_synchronize(void)
{
    assert(state() <= 1);
    urcu_memb_synchronize_rcu();
    TOLD_ACQUIRE(&grace_period);
}

/* One thread runs all callbacks, in the order they were queued: one more is a barrier. */
struct barrier {
    struct rcu_node node;
    struct os_mutex lock;
    struct os_cond passed;
    bool is_passed;
};

ANY_THREAD
static void barrier_pass(struct rcu_node *node)
{
    struct barrier *barrier = container_of(node, struct barrier, node);

    os_mutex_lock(&barrier->lock);
    barrier->is_passed = true;
    os_cond_signal(&barrier->passed);
    os_mutex_unlock(&barrier->lock);
}

void rcu_barrier_wait(void)
{
    struct barrier barrier = {.lock = OS_MUTEX_INIT, .passed = OS_COND_INIT};
    bool is_registered = rcu_thread_is_registered();

    assert(state() <= 1);
    if (!at_load(&is_used)) {
        return; /* and start no thread for it */
    }
    if (!is_registered) {
        rcu_thread_register(); /* rcu_call() wants it */
    }
    rcu_call(&barrier.node, barrier_pass);
    if (!is_registered) {
        rcu_thread_unregister();
    }
    os_mutex_lock(&barrier.lock);
    while (!barrier.is_passed) {
        os_cond_wait(&barrier.passed, &barrier.lock);
    }
    os_mutex_unlock(&barrier.lock);
}
