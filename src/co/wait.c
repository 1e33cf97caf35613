/*
 * wait.c -- a wait that several parties may end; exactly one does.
 *
 * `state` is a set of three bits. CLAIMED: one party has won and owns the result. FINISHED: the
 * result is there. BLOCKED: the waiter has announced that it leaves its stack.
 *
 * (W1) FINISHED and BLOCKED are each set by one atomic or. Of the finisher and the waiter, whoever
 *      comes second sees the other's bit and does what is to do: a second waiter goes on without
 *      yielding, a second finisher wakes. Never both, never neither.
 * (W2) The waiter is WAITING (co_yield_announce) before it sets BLOCKED, so a finisher that sees
 *      BLOCKED may wake at once, though the waiter has not left its stack yet (C5).
 * (W3) After its or, the finisher that comes first must not touch the wait: the waiter may be gone.
 *      The one that comes second still may, until its wake; it needs only `co`, read before.
 * (W4) A wait that lasts is written anew only while it is FINISHED, when every claim fails; who
 *      claims it next has seen the renewal.
 */
#include "co/wait_int.h"
#include "sync/atomic.h"

enum { WAIT_CLAIMED = 1, WAIT_FINISHED = 2, WAIT_BLOCKED = 4 };

void co_wait_init(struct co_wait *wait)
{
    wait->co = co_self();
    assert(wait->co != NULL);
    wait->result = 0;
    at_store_relaxed(&wait->state, 0); /* nobody else knows @wait yet */
}

void co_wait_init_closed(struct co_wait *wait)
{
    wait->co = NULL;
    wait->result = 0;
    at_store_relaxed(&wait->state, WAIT_CLAIMED | WAIT_FINISHED); /* nobody else knows @wait yet */
}

void co_wait_renew(struct co_wait *wait)
{
    assert(at_load(&wait->state) & WAIT_FINISHED);
    wait->co = co_self();
    wait->result = 0;
    at_store(&wait->state, 0); /* (W4) */
}

bool co_wait_claim(struct co_wait *wait)
{
    return (at_or(&wait->state, WAIT_CLAIMED) & WAIT_CLAIMED) == 0;
}

void co_wait_finish(struct co_wait *wait, int64_t result)
{
    struct co *co = wait->co;
    uint32_t before;

    wait->result = result;
    before = at_or(&wait->state, WAIT_FINISHED); /* (W1) */
    if ((before & WAIT_CLAIMED) == 0 || (before & WAIT_FINISHED) != 0) {
        panic("wait of coroutine '%s' finished %s", co_name(co),
              before & WAIT_FINISHED ? "twice" : "without a claim");
    }
    if (before & WAIT_BLOCKED) {
        co_wake(co);
    }
}

int64_t co_wait_block(struct co_wait *wait)
{
    struct co *co = wait->co;

    assert(co == co_self());
    co_yield_announce(co); /* (W2) */
    if (at_or(&wait->state, WAIT_BLOCKED) & WAIT_FINISHED) {
        co_yield_revoke(co);
        return wait->result;
    }
    co_yield_leave(co);
    if ((at_load(&wait->state) & WAIT_FINISHED) == 0) {
        panic("%s woke coroutine '%s' out of a wait that is not finished", co_last_waker(co),
              co_name(co));
    }
    return wait->result;
}

bool co_wait_complete(struct co_wait *wait, int64_t result)
{
    if (!co_wait_claim(wait)) {
        return false;
    }
    co_wait_finish(wait, result);
    return true;
}
