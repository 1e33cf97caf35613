/* track.c -- the theory is in track_int.h. */
#include "block/track_int.h"
#include "base/checked.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "sync/asym.h"

static const uint64_t QUIET_NS = 1000000000U; /* (R5) */

struct blk_tracker {
    struct blk_tokens cells;     /* raised: begun, dropped: ended; its gate is is_tracking */
    struct co_mutex lock;        /* guards the rest */
    struct list writes;          /* struct blk_tracked, in order of arrival */
    bool is_tracking;
    struct co_queue settling;    /* wait until the cells agree (R3) */
    uint64_t last_serialising_ns;
};

/* A counted write ended while tracking is on: the flag the next settler looks at is the cells. */
ANY_THREAD
static void nobody_to_kick(struct blk_tokens *cells)
{
}

struct blk_tracker *blk_tracker_new(void)
{
    struct blk_tracker *tracker =
        mem_try_alloc_aligned(_Alignof(struct blk_tracker), sizeof(*tracker));

    if (tracker == NULL) {
        panic("out of memory (%zu bytes)", sizeof(*tracker));
    }
    tracker->cells.kick = nobody_to_kick;
    co_mutex_init(&tracker->lock);
    list_init(&tracker->writes);
    co_queue_init(&tracker->settling);
    return tracker;
}

void blk_tracker_free(struct blk_tracker *tracker)
{
    assert(tracker == NULL || list_is_empty(&tracker->writes));
    mem_free(tracker);
}

static struct blk_tracked *find_overlap(struct blk_tracker *tracker,
                                        const struct blk_tracked *write)
{
    struct blk_tracked *other;

    list_for_each(other, &tracker->writes, link) {
        if (other == write) {
            break; /* (R4) */
        }
        if ((write->is_serialising || other->is_serialising) &&
            ranges_overlap(other->offset, other->bytes, write->offset, write->bytes)) {
            return other;
        }
    }
    return NULL;
}

/* Into the list, then until nobody before me overlaps. The lock is held. */
CO_FN
static void enter_listed(struct blk_tracker *tracker, struct blk_tracked *write)
{
    struct blk_tracked *other;

    write->is_listed = true;
    co_queue_init(&write->followers);
    list_add_tail(&tracker->writes, &write->link);
    while ((other = find_overlap(tracker, write)) != NULL) {
        co_queue_wait(&other->followers, &tracker->lock);
    }
}

/* A counted write has ended or never was: who settles looks again. */
CO_FN
static void wake_settling(struct blk_tracker *tracker)
{
    co_mutex_lock(&tracker->lock);
    co_queue_wake_all(&tracker->settling);
    co_mutex_unlock(&tracker->lock);
}

void blk_tracked_co_enter(struct blk_tracker *tracker, struct blk_tracked *write, uint64_t offset,
                          uint64_t bytes)
{
    write->is_listed = false;
    if (likely(blk_tokens_raise(&tracker->cells, loop_index_here()))) {
        return; /* (R2) */
    }
    wake_settling(tracker);
    write->offset = offset;
    write->bytes = bytes;
    write->is_serialising = false;
    co_mutex_lock(&tracker->lock);
    enter_listed(tracker, write);
    co_mutex_unlock(&tracker->lock);
}

/* (R3). The lock is held. */
CO_FN
static void settle(struct blk_tracker *tracker)
{
    if (!tracker->is_tracking) {
        tracker->is_tracking = true;
        blk_tokens_gate_close(&tracker->cells);
        asym_heavy();
    }
    while (!blk_tokens_are_idle(&tracker->cells)) {
        co_queue_wait(&tracker->settling, &tracker->lock);
    }
}

void blk_tracked_co_enter_serialising(struct blk_tracker *tracker, struct blk_tracked *write,
                                      uint64_t offset, uint64_t bytes)
{
    write->offset = offset;
    write->bytes = bytes;
    write->is_serialising = true;
    co_mutex_lock(&tracker->lock);
    enter_listed(tracker, write); /* listed first: nobody switches tracking off meanwhile */
    settle(tracker);
    co_mutex_unlock(&tracker->lock);
}

/* (R5). The lock is held. */
static void leave_listed(struct blk_tracker *tracker, struct blk_tracked *write)
{
    list_remove(&write->link);
    if (write->is_serialising) {
        tracker->last_serialising_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC);
    } else if (list_is_empty(&tracker->writes) && tracker->is_tracking &&
               loop_now_ns(LOOP_CLOCK_MONOTONIC) - tracker->last_serialising_ns > QUIET_NS) {
        tracker->is_tracking = false;
        blk_tokens_gate_open(&tracker->cells);
    }
}

void blk_tracked_co_leave(struct blk_tracker *tracker, struct blk_tracked *write)
{
    if (likely(!write->is_listed)) {
        blk_tokens_drop(&tracker->cells, loop_index_here());
        /* Ordered by the fence pair in the drop. */
        if (unlikely(at_load_relaxed(&tracker->cells.gate_closed))) {
            wake_settling(tracker);
        }
        return;
    }
    co_mutex_lock(&tracker->lock);
    leave_listed(tracker, write);
    co_queue_wake_all(&write->followers);
    co_mutex_unlock(&tracker->lock);
}
