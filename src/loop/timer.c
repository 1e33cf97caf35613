/*
 * timer.c -- timers of a loop: a 4-ary heap per clock.
 *
 * (T1) heap->items[i]->heap_index == i; a timer that is not armed has SIZE_MAX.
 * (T2) No item fires before its parent (deadline, then order of arming).
 * (T3) A timer is taken out before its callback, which may arm, cancel or free any timer, itself
 *      too.
 * Arming allocates only when more timers are armed than ever before.
 */
#include "loop/loop_int.h"
#include "base/mem.h"
#include "os/time.h"

enum { WAYS = 4, CAPACITY_FIRST = 64 };
/* A realtime clock may be set: look again after this long. */
enum { REALTIME_WAIT_MAX_NS = 1000 * 1000 * 1000 };

uint64_t loop_now_ns(enum loop_clock clock)
{
    return clock == LOOP_CLOCK_REALTIME ? os_now_realtime_ns() : os_now_monotonic_ns();
}

static bool is_before(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

static void put(struct timer_heap *heap, size_t at, struct loop_timer *timer)
{
    heap->items[at] = timer;
    timer->heap_index = at;
}

static void sift_up(struct timer_heap *heap, size_t at, struct loop_timer *timer)
{
    while (at > 0) {
        size_t parent = (at - 1) / WAYS;

        if (!is_before(timer, heap->items[parent])) {
            break;
        }
        put(heap, at, heap->items[parent]);
        at = parent;
    }
    put(heap, at, timer);
}

static size_t first_child(const struct timer_heap *heap, size_t at)
{
    size_t begin = at * WAYS + 1, end = min_of(begin + WAYS, heap->count), best = begin;

    for (size_t i = begin + 1; i < end; i++) {
        if (is_before(heap->items[i], heap->items[best])) {
            best = i;
        }
    }
    return best;
}

static void sift_down(struct timer_heap *heap, size_t at, struct loop_timer *timer)
{
    while (at * WAYS + 1 < heap->count) {
        size_t child = first_child(heap, at);

        if (!is_before(heap->items[child], timer)) {
            break;
        }
        put(heap, at, heap->items[child]);
        at = child;
    }
    put(heap, at, timer);
}

static void remove_at(struct timer_heap *heap, size_t at)
{
    struct loop_timer *last = heap->items[--heap->count];

    heap->items[at]->heap_index = SIZE_MAX;
    if (at == heap->count) {
        return;
    }
    if (at > 0 && is_before(last, heap->items[(at - 1) / WAYS])) {
        sift_up(heap, at, last);
    } else {
        sift_down(heap, at, last);
    }
}

static void reserve_one(struct timer_heap *heap)
{
    if (heap->count == heap->capacity) {
        heap->capacity = max_of(2 * heap->capacity, (size_t)CAPACITY_FIRST);
        heap->items = mem_realloc(heap->items, heap->capacity * sizeof(struct loop_timer *));
    }
}

void loop_timer_init(struct loop_timer *timer, enum loop_clock clock, void (*fn)(void *opaque),
                     void *opaque)
{
    timer->loop = loop_self();
    timer->clock = clock;
    timer->heap_index = SIZE_MAX;
    timer->fn = fn;
    timer->opaque = opaque;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t deadline_ns)
{
    struct timer_heap *heap = &timer->loop->timers[timer->clock];

    loop_assert_home(timer->loop);
    loop_timer_cancel(timer);
    timer->deadline_ns = deadline_ns;
    timer->order = ++heap->order_last;
    reserve_one(heap);
    sift_up(heap, heap->count++, timer);
}

void loop_timer_cancel(struct loop_timer *timer)
{
    struct timer_heap *heap = &timer->loop->timers[timer->clock];

    if (timer->heap_index != SIZE_MAX) {
        loop_assert_home(timer->loop);
        assert(timer->heap_index < heap->count && heap->items[timer->heap_index] == timer);
        remove_at(heap, timer->heap_index);
    }
}

HOME_LOOP
static bool run_clock(struct loop *loop, enum loop_clock clock)
{
    struct timer_heap *heap = &loop->timers[clock];
    uint64_t now_ns = loop_now_ns(clock);
    unsigned count = 0;

    while (count < LOOP_BUDGET && heap->count > 0 && heap->items[0]->deadline_ns <= now_ns) {
        struct loop_timer *timer = heap->items[0];

        remove_at(heap, 0); /* (T3) */
        loop_event(loop, LOOP_EVENT_TIMER, NULL, (int64_t)(now_ns - timer->deadline_ns));
        timer->fn(timer->opaque);
        ready_run(loop);
        count++;
    }
    STAT_ADD(loop, timers_run, count);
    return count > 0;
}

bool timer_run(struct loop *loop)
{
    bool progress = false;

    for (unsigned clock = 0; clock < LOOP_CLOCK_MAX_; clock++) {
        if (loop->timers[clock].count > 0 && run_clock(loop, (enum loop_clock)clock)) {
            progress = true;
        }
    }
    return progress;
}

size_t timer_count(const struct loop *loop)
{
    return loop->timers[LOOP_CLOCK_MONOTONIC].count + loop->timers[LOOP_CLOCK_REALTIME].count;
}

static uint64_t until(const struct timer_heap *heap, uint64_t now_ns)
{
    uint64_t deadline_ns = heap->items[0]->deadline_ns;

    return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

uint64_t timer_timeout_ns(const struct loop *loop, uint64_t now_ns)
{
    const struct timer_heap *monotonic = &loop->timers[LOOP_CLOCK_MONOTONIC];
    const struct timer_heap *realtime = &loop->timers[LOOP_CLOCK_REALTIME];
    uint64_t timeout_ns = UINT64_MAX;

    if (monotonic->count > 0) {
        timeout_ns = until(monotonic, now_ns);
    }
    if (realtime->count > 0) {
        uint64_t wait_ns = until(realtime, loop_now_ns(LOOP_CLOCK_REALTIME));

        wait_ns = min_of(wait_ns, (uint64_t)REALTIME_WAIT_MAX_NS);
        timeout_ns = min_of(timeout_ns, wait_ns);
    }
    return timeout_ns;
}
