/*
 * rwlock.c -- co_rwlock.
 *
 * (R1) `guard` protects the other fields; it is held for a few instructions and never over a yield.
 * (R2) Never a writer and a reader at once, never two writers.
 * (R3) Locks are granted from the head of the queue only, by whoever makes room, under the guard,
 *      before the waiter is woken: nobody overtakes, and a waiter that wakes up holds the lock. A
 *      newcomer is granted one at once only when nobody waits.
 * (R4) The upgrader keeps its place among the readers until it is the only one: those in the queue
 *      could not have gone first in any case. A second upgrader would wait for the first and the
 *      first for it; so it lets go, and queues up as a writer.
 * (R5) A waiter is unlinked under the guard; after the guard it is only completed, once.
 */
#include "co/lock.h"
#include "co/guard_int.h"

enum wants { WANTS_READ, WANTS_WRITE };

void co_rwlock_init(struct co_rwlock *lock)
{
    *lock = (struct co_rwlock){.guard = 0};
    list_init(&lock->waiters);
}

static void guard_lock(struct co_rwlock *lock)
{
    co_guard_lock(&lock->guard, &lock->waiters);
}

/* Could @wants be granted to the first in line? (R2) */
static bool is_free_for(const struct co_rwlock *lock, enum wants wants)
{
    if (lock->writer != NULL || lock->upgrader != NULL) {
        return false;
    }
    return wants == WANTS_READ || lock->readers == 0;
}

static void give(struct co_rwlock *lock, enum wants wants, struct co *to)
{
    if (wants == WANTS_READ) {
        lock->readers++;
    } else {
        lock->writer = to;
    }
}

/* Under the guard: give the lock to all who can have it now, and put them on @woken. (R3) */
static void grant(struct co_rwlock *lock, struct list *woken)
{
    if (lock->upgrader != NULL && lock->readers == 1 && lock->writer == NULL) { /* (R4) */
        struct co_waiter *upgrader = take(&lock->upgrader);

        lock->readers = 0;
        give(lock, WANTS_WRITE, upgrader->wait.co);
        list_add_tail(woken, &upgrader->link);
    }
    while (!list_is_empty(&lock->waiters)) {
        struct co_waiter *first = list_entry(lock->waiters.next, struct co_waiter, link);

        if (!is_free_for(lock, (enum wants)first->wants)) {
            break;
        }
        list_remove(&first->link);
        give(lock, (enum wants)first->wants, first->wait.co);
        list_add_tail(woken, &first->link);
    }
}

/* Grant, leave the guard, wake. (R5) */
static void unlock_and_wake(struct co_rwlock *lock)
{
    struct list woken = LIST_INIT(woken), *item;

    grant(lock, &woken);
    co_guard_unlock(&lock->guard);
    while ((item = list_pop_head(&woken)) != NULL) {
        co_wait_complete(&list_entry(item, struct co_waiter, link)->wait, 0);
    }
}

CO_FN
static void lock_for(struct co_rwlock *lock, enum wants wants)
{
    struct co_waiter waiter = {.wants = wants};
    struct co *self = co_self();

    assert(self != NULL);
    guard_lock(lock);
    if (lock->writer == self) {
        panic("coroutine '%s' locks an rwlock that it holds", co_name(self));
    }
    if (list_is_empty(&lock->waiters) && is_free_for(lock, wants)) {
        give(lock, wants, self);
        co_guard_unlock(&lock->guard);
        return;
    }
    co_wait_init(&waiter.wait);
    list_add_tail(&lock->waiters, &waiter.link);
    co_guard_unlock(&lock->guard);
    co_wait_block(&waiter.wait);
}

void co_rwlock_rdlock(struct co_rwlock *lock)
{
    lock_for(lock, WANTS_READ);
}

void co_rwlock_wrlock(struct co_rwlock *lock)
{
    lock_for(lock, WANTS_WRITE);
}

void co_rwlock_unlock(struct co_rwlock *lock)
{
    guard_lock(lock);
    if (lock->writer != NULL) {
        assert(lock->writer == co_self());
        lock->writer = NULL;
    } else {
        assert(lock->readers > 0);
        lock->readers--;
    }
    unlock_and_wake(lock);
}

/* (R4), the second of two. Under the guard, which is left. */
CO_FN
static void queue_as_writer(struct co_rwlock *lock)
{
    struct co_waiter waiter = {.wants = WANTS_WRITE};

    co_wait_init(&waiter.wait);
    list_add_tail(&lock->waiters, &waiter.link);
    lock->readers--;
    unlock_and_wake(lock);
    co_wait_block(&waiter.wait);
}

bool co_rwlock_upgrade(struct co_rwlock *lock)
{
    struct co_waiter waiter = {.wants = WANTS_WRITE};

    co_assert_inside();
    guard_lock(lock);
    assert(lock->readers > 0 && lock->writer == NULL);
    if (lock->upgrader != NULL) {
        queue_as_writer(lock);
        return false;
    }
    if (lock->readers == 1) {
        lock->readers = 0;
        give(lock, WANTS_WRITE, co_self());
        co_guard_unlock(&lock->guard);
        return true;
    }
    co_wait_init(&waiter.wait);
    lock->upgrader = &waiter;
    co_guard_unlock(&lock->guard);
    co_wait_block(&waiter.wait);
    return true;
}

void co_rwlock_downgrade(struct co_rwlock *lock)
{
    guard_lock(lock);
    assert(lock->writer == co_self());
    lock->writer = NULL;
    lock->readers++;
    unlock_and_wake(lock);
}
