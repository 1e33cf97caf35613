/*
 * lock.c -- co_mutex and co_queue.
 *
 * (L1) `guard` protects holder and waiters; it is held for a few instructions and never over a
 *      yield.
 * (L2) A mutex with waiters always has a holder: unlock names the first waiter the holder before it
 *      wakes it, so nobody overtakes, and a waiter that wakes up holds the mutex.
 * (L3) A waiter is on its coroutine's stack and is unlinked under the guard before it is woken.
 */
#include "co/lock.h"
#include "co/guard_int.h"

static void guard_lock(struct co_mutex *mutex)
{
    co_guard_lock(&mutex->guard, &mutex->waiters);
}

static void guard_unlock(struct co_mutex *mutex)
{
    co_guard_unlock(&mutex->guard);
}

void co_mutex_init(struct co_mutex *mutex)
{
    mutex->guard = 0;
    mutex->holder = NULL;
    list_init(&mutex->waiters);
}

void co_mutex_lock(struct co_mutex *mutex)
{
    struct co *self = co_self();
    struct co_waiter waiter;

    assert(self != NULL);
    guard_lock(mutex);
    if (mutex->holder == NULL) {
        mutex->holder = self;
        guard_unlock(mutex);
        return;
    }
    if (mutex->holder == self) {
        panic("coroutine '%s' locks a mutex that it holds", co_name(self));
    }
    co_wait_init(&waiter.wait);
    list_add_tail(&mutex->waiters, &waiter.link);
    guard_unlock(mutex);
    co_wait_block(&waiter.wait);
    assert(co_mutex_is_mine(mutex)); /* (L2) */
}

void co_mutex_unlock(struct co_mutex *mutex)
{
    struct list *first;
    struct co_waiter *waiter;

    assert(co_mutex_is_mine(mutex));
    guard_lock(mutex);
    first = list_pop_head(&mutex->waiters);
    waiter = first ? list_entry(first, struct co_waiter, link) : NULL;
    at_store_relaxed(&mutex->holder, waiter ? waiter->wait.co : NULL); /* under the guard */
    guard_unlock(mutex);
    if (waiter != NULL) {
        co_wait_complete(&waiter->wait, 0);
    }
}

bool co_mutex_is_mine(const struct co_mutex *mutex)
{
    /* Another thread may change it meanwhile, but never to or from me. */
    return at_load_relaxed(&mutex->holder) == co_self() && co_self() != NULL;
}

static void queue_prepare(struct co_queue *queue)
{
    if (unlikely(queue->waiters.next == NULL)) { /* zero-initialised */
        list_init(&queue->waiters);
    }
}

void co_queue_init(struct co_queue *queue)
{
    list_init(&queue->waiters);
}

void co_queue_wait(struct co_queue *queue, struct co_mutex *mutex)
{
    struct co_waiter waiter;

    queue_prepare(queue);
    co_wait_init(&waiter.wait);
    list_add_tail(&queue->waiters, &waiter.link);
    if (mutex != NULL) {
        co_mutex_unlock(mutex);
    }
    co_wait_block(&waiter.wait);
    if (mutex != NULL) {
        co_mutex_lock(mutex);
    }
}

bool co_queue_wake_one(struct co_queue *queue)
{
    struct list *first;

    queue_prepare(queue);
    first = list_pop_head(&queue->waiters);
    if (first == NULL) {
        return false;
    }
    co_wait_complete(&list_entry(first, struct co_waiter, link)->wait, 0);
    return true;
}

void co_queue_wake_all(struct co_queue *queue)
{
    while (co_queue_wake_one(queue)) {
        /* each in its turn; one that waits again comes only after this loop has yielded */
    }
}

bool co_queue_is_empty(const struct co_queue *queue)
{
    return queue->waiters.next == NULL || list_is_empty(&queue->waiters);
}
