/*
 * rcu.c -- co_rcu_barrier().
 *
 * The facade has one queue of callbacks and calls them in order, so a callback of our own is the
 * barrier. It finishes the wait, whose last step schedules the coroutine: RCU's thread does no
 * more.
 */
#include "co/rcu.h"
#include "co/co.h"
#include "sync/rcu.h"

struct barrier {
    struct rcu_node node;
    struct co_wait wait;
};

ANY_THREAD
static void on_grace(struct rcu_node *node)
{
    co_wait_complete(&container_of(node, struct barrier, node)->wait, 0);
}

void co_rcu_barrier(void)
{
    struct barrier barrier;

    co_wait_init(&barrier.wait);
    rcu_call(&barrier.node, on_grace);
    co_wait_block(&barrier.wait);
}
