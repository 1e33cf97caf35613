/*
 * lock.h -- locks between coroutines, possibly on different loops. All are fair: first come, first
 * served; a hand-over is direct, so a newcomer never overtakes. None may be held by a thread.
 */
#pragma once
#include "co/co.h"
#include "base/list.h"

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
CO_FN
void co_queue_wait(struct co_queue *queue, struct co_mutex *mutex); /* unlocks, waits, locks again */
ANY_THREAD
bool co_queue_wake_one(struct co_queue *queue); /* false: nobody waited */
ANY_THREAD
void co_queue_wake_all(struct co_queue *queue);
ANY_THREAD
bool co_queue_is_empty(const struct co_queue *queue);
