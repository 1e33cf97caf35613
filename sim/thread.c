/* thread.c -- os/thread.h: threads are tasks; mutexes and condition variables keep their state in
 * `sim`. */
#include "os/thread.h"
#include "base/mem.h"
#include "sim/sim_int.h"

void *os_tls_get(enum os_tls_slot slot)
{
    return os_tls[slot];
}

void os_tls_set(enum os_tls_slot slot, void *value)
{
    os_tls[slot] = value;
}

struct os_thread *os_thread_start(const char *name, os_thread_fn *fn, void *opaque)
{
    uintptr_t task = sim_task_spawn(name, fn, opaque);

    sim_step("thread-start");
    return (struct os_thread *)(task + 1);
}

void os_signals_block(struct os_signal_mask *ret_before)
{
}

void os_signals_restore(const struct os_signal_mask *before)
{
}

static bool has_ended(void *opaque)
{
    return sim_task_is_done((unsigned)((uintptr_t)opaque - 1));
}

void os_thread_join(struct os_thread *thread)
{
    sim_wait(has_ended, thread, UINT64_MAX, "thread-join");
}

long os_thread_id(void)
{
    return 1000 + (long)sim_task_self();
}

int os_cpu_count(void)
{
    return 2;
}

/* ---- mutex: `sim` is its holder's task + 1 ---- */

static void *holder_mark(void)
{
    return (void *)(uintptr_t)(sim_task_self() + 1);
}

static bool is_free(void *opaque)
{
    return ((struct os_mutex *)opaque)->sim == NULL;
}

void os_mutex_lock(struct os_mutex *mutex)
{
    sim_step("mutex-lock");
    if (!is_free(mutex)) {
        if (mutex->sim == holder_mark()) {
            panic("sim: a thread locks a mutex that it holds");
        }
        sim_wait(is_free, mutex, UINT64_MAX, "mutex-lock");
    }
    mutex->sim = holder_mark();
}

void os_mutex_unlock(struct os_mutex *mutex)
{
    if (mutex->sim != holder_mark()) {
        panic("sim: a thread unlocks a mutex that it does not hold");
    }
    mutex->sim = NULL;
    sim_step("mutex-unlock");
}

/* ---- condition variable: `sim` is the list of waiters ---- */

struct waiter {
    struct waiter *next;
    bool signalled;
};

static bool is_signalled(void *opaque)
{
    return ((struct waiter *)opaque)->signalled;
}

static void remove_waiter(struct os_cond *cond, const struct waiter *waiter)
{
    struct waiter **link = (struct waiter **)&cond->sim;

    while (*link != NULL && *link != waiter) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = waiter->next;
    }
}

bool os_cond_wait_for(struct os_cond *cond, struct os_mutex *mutex, uint64_t timeout_ns)
{
    struct waiter waiter = {.next = cond->sim};

    cond->sim = &waiter;
    os_mutex_unlock(mutex);
    sim_wait(is_signalled, &waiter, timeout_ns, "cond-wait");
    remove_waiter(cond, &waiter);
    os_mutex_lock(mutex);
    return waiter.signalled;
}

void os_cond_wait(struct os_cond *cond, struct os_mutex *mutex)
{
    os_cond_wait_for(cond, mutex, UINT64_MAX);
}

/* Whom it wakes is a matter of chance. */
void os_cond_signal(struct os_cond *cond)
{
    struct waiter *waiter;
    uint64_t count = 0, pick;

    for (waiter = cond->sim; waiter != NULL; waiter = waiter->next) {
        count++;
    }
    if (count > 0) {
        pick = sim_below(count);
        for (waiter = cond->sim; pick > 0; pick--) {
            waiter = waiter->next;
        }
        waiter->signalled = true;
        remove_waiter(cond, waiter);
    }
    sim_step("cond-signal");
}

void os_cond_broadcast(struct os_cond *cond)
{
    for (struct waiter *waiter = cond->sim; waiter != NULL; waiter = waiter->next) {
        waiter->signalled = true;
    }
    cond->sim = NULL;
    sim_step("cond-broadcast");
}

int os_membarrier_register(void)
{
    return 0;
}

void os_membarrier(void)
{
    sim_step("membarrier");
}
