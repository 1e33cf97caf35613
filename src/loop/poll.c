/*
 * poll.c -- adaptive busy polling before sleep.
 *
 * A wake-up through the kernel costs both sides some microseconds. When events come in quick
 * succession it is cheaper to look at memory for a while: at sources that have a poll(), at the
 * completion ring, at the ready lists. How long adapts to how long the loop really waited: waits
 * that a spin of at most max_ns would have covered let it grow, longer ones shrink it to where it
 * costs nothing.
 */
#include "loop/engine_int.h"
#include "os/time.h"

enum { POLL_START_NS = 4000, GROW_DEFAULT = 2 };

void loop_set_polling(struct loop *loop, uint64_t max_ns, uint64_t grow, uint64_t shrink)
{
    /* Three independent numbers; the home reads them anew each time. Pairs with poll_spin(). */
    at_store_relaxed(&loop->polling.max_ns, max_ns);
    at_store_relaxed(&loop->polling.grow, grow);
    at_store_relaxed(&loop->polling.shrink, shrink);
}

void loop_get_polling(const struct loop *loop, uint64_t *ret_max_ns, uint64_t *ret_grow,
                      uint64_t *ret_shrink)
{
    *ret_max_ns = at_load_relaxed(&loop->polling.max_ns); /* pairs with loop_set_polling() */
    *ret_grow = at_load_relaxed(&loop->polling.grow);
    *ret_shrink = at_load_relaxed(&loop->polling.shrink);
}

HOME_LOOP
static bool look(struct loop *loop)
{
    return watch_look(loop) || loop_has_work(loop) || loop->engine->has_events(loop);
}

bool poll_spin(struct loop *loop)
{
    uint64_t max_ns = at_load_relaxed(&loop->polling.max_ns); /* pairs with loop_set_polling() */
    uint64_t spin_ns = min_of(loop->polling.now_ns, max_ns);
    uint64_t now_ns, end_ns;

    if (spin_ns == 0) {
        return false;
    }
    if (loop->engine->submit != NULL) {
        loop->engine->submit(loop); /* the spin waits for what it completes */
    }
    watch_after_sleep(loop);
    now_ns = os_now_monotonic_ns();
    spin_ns = min_of(spin_ns, timer_timeout_ns(loop, now_ns));
    end_ns = now_ns + spin_ns;
    do {
        if (look(loop)) {
            STAT_ADD(loop, polls_hit, 1);
            return true;
        }
        at_relax();
    } while (os_now_monotonic_ns() < end_ns);
    STAT_ADD(loop, polls_missed, 1);
    return false;
}

void poll_adapt(struct loop *loop, uint64_t waited_ns)
{
    uint64_t max_ns, grow, shrink, now_ns = loop->polling.now_ns;

    loop_get_polling(loop, &max_ns, &grow, &shrink);
    if (waited_ns <= now_ns) {
        return; /* just right */
    }
    if (waited_ns > max_ns) {
        loop->polling.now_ns = shrink ? now_ns / shrink : 0;
    } else if (now_ns < max_ns) {
        now_ns = now_ns ? now_ns * (grow ? grow : (uint64_t)GROW_DEFAULT) : (uint64_t)POLL_START_NS;
        loop->polling.now_ns = min_of(now_ns, max_ns);
    }
}
