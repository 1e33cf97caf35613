/*
 * semaphore.c -- co_semaphore.
 *
 * (S1) `guard` protects the other fields; it is held for a few instructions and never over a yield.
 * (S2) A semaphore with waiters has no permit: one that is given goes straight to the first waiter,
 *      which is unlinked under the guard before it is woken.
 */
#include "co/lock.h"
#include "co/guard_int.h"

void co_semaphore_init(struct co_semaphore *semaphore, unsigned permits)
{
    semaphore->guard = 0;
    semaphore->permits = permits;
    list_init(&semaphore->waiters);
}

static bool take_locked(struct co_semaphore *semaphore)
{
    if (semaphore->permits == 0) {
        return false;
    }
    semaphore->permits--;
    return true;
}

bool co_semaphore_try_take(struct co_semaphore *semaphore)
{
    bool taken;

    co_guard_lock(&semaphore->guard, &semaphore->waiters);
    taken = take_locked(semaphore);
    co_guard_unlock(&semaphore->guard);
    return taken;
}

void co_semaphore_take(struct co_semaphore *semaphore)
{
    struct co_waiter waiter;

    co_assert_inside();
    co_guard_lock(&semaphore->guard, &semaphore->waiters);
    if (take_locked(semaphore)) {
        co_guard_unlock(&semaphore->guard);
        return;
    }
    co_wait_init(&waiter.wait);
    list_add_tail(&semaphore->waiters, &waiter.link);
    co_guard_unlock(&semaphore->guard);
    co_wait_block(&waiter.wait);
}

void co_semaphore_give(struct co_semaphore *semaphore)
{
    struct list *first;

    co_guard_lock(&semaphore->guard, &semaphore->waiters);
    first = list_pop_head(&semaphore->waiters);
    if (first == NULL) {
        semaphore->permits++;
    }
    co_guard_unlock(&semaphore->guard);
    if (first != NULL) { /* (S2) */
        co_wait_complete(&list_entry(first, struct co_waiter, link)->wait, 0);
    }
}
