/*
 * track_int.h -- writes that widen to the blocks around them, and the other writes they must not
 * meet.
 *
 * An unaligned write reads the rest of its first and last block and writes them back. Another write
 * to the same blocks meanwhile would be undone by that, so the two must not overlap in time. Only
 * these read-modify-writes are tracked always; ordinary writes must stay as cheap as they are:
 *
 * (R1) A node whose requests need no alignment has no tracker and pays nothing.
 * (R2) As long as nobody serialises, a write only counts itself begun and ended in its loop's cell:
 *      plain stores, light fences, one look at `is_tracking`, as a token does (token.h) and for the
 *      same reason.
 * (R3) The first serialising write sets is_tracking, passes a heavy fence and waits until the cells
 *      agree (every ended read before any begun). From then on every write enters the list under
 *      the lock.
 * (R4) An entry waits only for entries before it in the list, so waits have no cycle: a serialising
 *      one for every overlapping one, an ordinary one for overlapping serialising ones.
 * (R5) The last entry to leave switches tracking off once nobody has serialised for a second.
 */
#pragma once
#include "block/token.h"
#include "co/lock.h"

struct blk_tracker;

/* One write, on its coroutine's stack. */
struct blk_tracked {
    struct list link;
    uint64_t offset, bytes;
    bool is_serialising;
    bool is_listed; /* else only counted */
    struct co_queue followers; /* they wait until I leave */
};

ANY_THREAD
struct blk_tracker *blk_tracker_new(void);
ANY_THREAD
void blk_tracker_free(struct blk_tracker *tracker); /* NULL is fine */

CO_FN
void blk_tracked_co_enter(struct blk_tracker *tracker, struct blk_tracked *write, uint64_t offset,
                          uint64_t bytes);
CO_FN
void blk_tracked_co_enter_serialising(struct blk_tracker *tracker, struct blk_tracked *write,
                                      uint64_t offset, uint64_t bytes);
CO_FN
void blk_tracked_co_leave(struct blk_tracker *tracker, struct blk_tracked *write);
