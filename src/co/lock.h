/*
 * lock.h -- locks between coroutines, possibly on different loops. All are fair: first come, first
 * served; a hand-over is direct, so a newcomer never overtakes. None may be held by a thread.
 */
#pragma once
#include "co/co.h"
#include "base/list.h"

struct co_waiter; /* on the stack of a coroutine that waits */

/* Zero-initialise, or co_mutex_init(). Not recursive: locking twice aborts. */
struct co_mutex {
    uint32_t guard;       /* short spin over the fields below; never held over a yield */
    struct co *holder;
    struct list waiters;  /* struct co_waiter */
};
ANY_THREAD
void co_mutex_init(struct co_mutex *mutex);
CO_FN
void co_mutex_lock(struct co_mutex *mutex);
CO_FN
void co_mutex_unlock(struct co_mutex *mutex);
ANY_THREAD
bool co_mutex_is_mine(const struct co_mutex *mutex);

/* Waiters in order. Used under a co_mutex, or by coroutines of one loop alone (mutex NULL). */
struct co_queue {
    struct list waiters;
};
ANY_THREAD
void co_queue_init(struct co_queue *queue);
/* Unlocks, waits, locks again. */
CO_FN
void co_queue_wait(struct co_queue *queue, struct co_mutex *mutex);
ANY_THREAD
bool co_queue_wake_one(struct co_queue *queue); /* false: nobody waited */
ANY_THREAD
void co_queue_wake_all(struct co_queue *queue);
ANY_THREAD
bool co_queue_is_empty(const struct co_queue *queue);

/*
 * Many readers or one writer. Zero-initialise, or co_rwlock_init(). First come, first served: a
 * reader that arrives after a writer waits behind it, so a reader must not lock again what it
 * holds. Any coroutine may unlock what another one locked for reading.
 */
struct co_rwlock {
    uint32_t guard;
    unsigned readers;           /* that hold it */
    struct co *writer;          /* that holds it */
    struct co_waiter *upgrader; /* one of the readers, first in line to write */
    struct list waiters;        /* struct co_waiter */
};
ANY_THREAD
void co_rwlock_init(struct co_rwlock *lock);
CO_FN
void co_rwlock_rdlock(struct co_rwlock *lock);
CO_FN
void co_rwlock_wrlock(struct co_rwlock *lock);
CO_FN
void co_rwlock_unlock(struct co_rwlock *lock); /* whichever of the two I hold */

/* From reader to writer, ahead of those that wait. True: nobody wrote in between. False: another
 * reader was upgrading already, so it wrote, and whoever waited then: look again at everything. */
CO_FN
must_check bool co_rwlock_upgrade(struct co_rwlock *lock);
/* From writer to reader; nobody writes in between. Readers that are next come in too. */
CO_FN
void co_rwlock_downgrade(struct co_rwlock *lock);

/* A number of permits. A permit given goes to the first who waits; nobody overtakes. */
struct co_semaphore {
    uint32_t guard;
    unsigned permits;
    struct list waiters; /* struct co_waiter; empty while permits > 0 */
};
ANY_THREAD
void co_semaphore_init(struct co_semaphore *semaphore, unsigned permits);
CO_FN
void co_semaphore_take(struct co_semaphore *semaphore);
ANY_THREAD
must_check bool co_semaphore_try_take(struct co_semaphore *semaphore); /* false: none is free */
ANY_THREAD
void co_semaphore_give(struct co_semaphore *semaphore);
