/*
 * guard_int.h -- the short spin under which a lock's own fields change: a few instructions, never
 * over a yield. And who waits, on its coroutine's stack.
 */
#pragma once
#include "base/list.h"
#include "co/co.h"
#include "sync/atomic.h"

CTX_ANY_BEGIN

struct co_waiter {
    struct list link;
    struct co_wait wait;
    unsigned wants; /* of the lock's own meaning */
};

/* Also makes a list of zero bytes an empty one. */
static inline void co_guard_lock(uint32_t *guard, struct list *waiters)
{
    while (at_xchg(guard, 1) != 0) {
        at_relax();
    }
    if (unlikely(waiters->next == NULL)) {
        list_init(waiters);
    }
}

static inline void co_guard_unlock(uint32_t *guard)
{
    at_store_release(guard, 0); /* pairs with the exchange in co_guard_lock() */
}

CTX_ANY_END
