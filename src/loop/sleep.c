/*
 * sleep.c -- waits that end at a deadline or earlier.
 *
 * (Z1) The time-out is one more party that may end the wait: of it and the others one claims. Its
 *      timer is on the waiter's loop and stack, and is disarmed there before the waiter goes on.
 * (Z2) A bed. Waker: set is_woken, then try to complete the wait. Sleeper: renew the wait, then
 *      take is_woken. So a wake either completes this sleep or is seen before it (store buffering;
 *      each side's second step is a read-modify-write).
 * (Z3) A sleeper takes is_woken once more when it goes on: the wake that ended its sleep, and any
 *      until then, are used up; what they announced is visible by this exchange.
 * (Z4) The second step of a wake that a former sleep has seen already may come this late: it is no
 *      news.
 */
#include "loop/loop.h"
#include "sync/atomic.h"
#include <errno.h>

struct time_out {
    struct co_wait *wait;
    struct loop_timer timer;
};

HOME_LOOP
static void on_time_out(void *opaque)
{
    struct time_out *time_out = opaque;

    co_wait_complete(time_out->wait, -ETIMEDOUT); /* (Z1) */
}

int64_t loop_co_wait_until(struct co_wait *wait, uint64_t deadline_ns)
{
    struct time_out time_out = {.wait = wait};
    int64_t result;

    loop_assert_home(loop_self());
    loop_timer_init(&time_out.timer, LOOP_CLOCK_MONOTONIC, on_time_out, &time_out);
    loop_timer_arm(&time_out.timer, deadline_ns);
    result = co_wait_block(wait);
    loop_timer_cancel(&time_out.timer);
    return result;
}

void loop_bed_init(struct loop_bed *bed)
{
    co_wait_init_closed(&bed->wait);
    at_store_relaxed(&bed->is_woken, 0); /* nobody else knows @bed yet */
}

void loop_bed_wake(struct loop_bed *bed)
{
    at_xchg(&bed->is_woken, 1); /* (Z2) */
    co_wait_complete(&bed->wait, 0);
}

/* -ETIMEDOUT, or 0: somebody completed the wait. */
CO_FN
static int64_t lie_down(struct loop_bed *bed, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        return co_wait_block(&bed->wait);
    }
    return loop_co_wait_until(&bed->wait, deadline_ns);
}

bool loop_co_sleep_in(struct loop_bed *bed, uint64_t ns)
{
    uint64_t now_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC);
    uint64_t deadline_ns = ns < UINT64_MAX - now_ns ? now_ns + ns : UINT64_MAX;
    int64_t rc;

    do {
        co_wait_renew(&bed->wait);
        if (at_xchg(&bed->is_woken, 0) != 0) { /* (Z2) */
            co_wait_complete(&bed->wait, 0);   /* unless its waker has, or is about to */
            co_wait_block(&bed->wait);
            at_xchg(&bed->is_woken, 0);
            return true;
        }
        rc = lie_down(bed, deadline_ns);
        if (at_xchg(&bed->is_woken, 0) != 0) { /* (Z3) */
            return true;
        }
    } while (rc != -ETIMEDOUT); /* (Z4) */
    return false;
}
