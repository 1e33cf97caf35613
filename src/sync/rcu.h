/*
 * rcu.h -- read-copy-update: readers never wait, a writer frees only after every reader of the old
 * version has left. liburcu (memb) behind it; twins for simulation and exploration.
 *
 * Loops and the main thread are registered; worker threads and threads of libraries are not and may
 * not read (asserted). A read section does not yield and does not block. A callback frees memory or
 * schedules a BH, nothing else: it runs on RCU's own thread, and one that blocks stops every
 * unplug.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include "sync/atomic.h"

struct rcu_node { /* embedded in what is to be freed */
    void *reserved[2];
    ANY_SLOT void (*fn)(struct rcu_node *node);
};

ANY_THREAD
void rcu_thread_register(void);
ANY_THREAD
void rcu_thread_unregister(void);
ANY_THREAD
bool rcu_thread_is_registered(void);
ANY_THREAD
void rcu_read_enter(void);
ANY_THREAD
void rcu_read_leave(void);
ANY_THREAD
bool rcu_is_reading(void);
/* A registered thread that sleeps tells RCU not to wait for it. No read section may be open. */
ANY_THREAD
void rcu_thread_offline(void);
ANY_THREAD
void rcu_thread_online(void);

/* Call @fn after a grace period. From registered threads, in a read section or not. */
ANY_THREAD
void rcu_call(struct rcu_node *node, void (*fn)(struct rcu_node *node));

/* Wait for a grace period, or for all callbacks queued so far. Start-up, exit, pool threads. */
BLOCKING
void rcu_synchronize(void);
BLOCKING
void rcu_barrier_wait(void);

/* Publish a pointer; look at one inside a read section. */
#define rcu_publish(p, v) at_store_release(p, v) /* pairs with rcu_get() */
#define rcu_get(p) at_load_acquire(p)            /* consume would do; pairs with rcu_publish() */

#define RCU_READ_SCOPE()                                                                           \
    __attribute__((cleanup(rcu_scope_leave_), unused)) int rcu_scope_ = (rcu_read_enter(), 0)
ANY_THREAD
static inline void rcu_scope_leave_(int *unused)
{
    (void)unused;
    rcu_read_leave();
}
