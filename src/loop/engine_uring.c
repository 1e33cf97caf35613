/*
 * engine_uring.c -- a loop on one io_uring: disk I/O, fd readiness and the wake-up eventfd.
 *
 * (U1) A completion's user word says what it is: tag in the low three bits; for a transfer the
 *      request's address, for a watch its slot's index and generation.
 * (U2) The eventfd is watched whenever the loop sleeps, by a poll that goes on for ever: each write
 *      is one completion, and that is the consumption of (N3). The counter is never read, which
 *      saves the read's way through the kernel on each wake-up. Nothing is missed for it: by (N3)
 *      the next write that matters comes only after the completion of the last has been seen. Only
 *      when the poll has ended, or where it cannot go on, the counter is cleared: a new poll would
 *      report it again.
 * (U3) What is queued is submitted by the next collect(), which every turn calls: nothing stays
 *      behind, whatever queued it (RACES 11). A full queue is submitted at once.
 * (U4) Completions are fetched into `batch` and handed out from there, also to nested levels. When
 *      the kernel wants room first (-EBUSY, overflow), it is given room, and the call is made
 *      again.
 */
#include "loop/engine_int.h"
#include "base/mem.h"
#include "os/file.h"
#include <errno.h>

enum { RING_ENTRIES = 256, BATCH_FIRST = LOOP_BUDGET };
enum user_tag { USER_EVENTFD, USER_TRANSFER, USER_WATCH, USER_IGNORE };
enum { TAG_BITS = 3, GENERATION_SHIFT = 32 };

struct uring {
    struct os_ring *ring;
    bool event_is_watched; /* a poll of the eventfd is queued or pending */
    bool event_is_oneshot; /* the kernel knows no other */
    unsigned transfers;    /* in flight */
    struct os_ring_event *batch;
    unsigned batch_next, batch_count, batch_capacity;
};

static struct uring *uring_of(const struct loop *loop)
{
    return loop->engine_state;
}

/* ---- submission ---- */

/* Move what is in the ring to the batch, which grows if it must: only after a refusal. */
HOME_LOOP
static unsigned fetch(struct uring *uring)
{
    unsigned room, count;

    if (uring->batch_next == uring->batch_count) {
        uring->batch_next = uring->batch_count = 0;
    }
    if (uring->batch_count == uring->batch_capacity) {
        uring->batch_capacity *= 2;
        uring->batch = mem_realloc(uring->batch, uring->batch_capacity * sizeof(uring->batch[0]));
    }
    room = uring->batch_capacity - uring->batch_count;
    count = os_ring_reap(uring->ring, uring->batch + uring->batch_count, room);
    uring->batch_count += count;
    return count;
}

HOME_LOOP
static int enter(struct loop *loop, unsigned wait_for, uint64_t timeout_ns)
{
    STAT_ADD(loop, system_calls, 1);
    return os_ring_enter(uring_of(loop)->ring, wait_for, timeout_ns);
}

/* The queue is full, or a batch is. -EBUSY and -EAGAIN pass as completions are fetched. */
HOME_LOOP
static void submit_now(struct loop *loop)
{
    if (enter(loop, 0, 0) < 0) {
        fetch(uring_of(loop));
    }
}

#define QUEUE(loop, operation)                                                                     \
    while (!(operation)) {                                                                         \
        submit_now(loop);                                                                          \
    }

HOME_LOOP
static void watch_eventfd(struct loop *loop)
{
    struct uring *uring = uring_of(loop);

    if (uring->event_is_watched) {
        return;
    }
    uring->event_is_watched = true;
    if (uring->event_is_oneshot) {
        QUEUE(loop, os_ring_poll(uring->ring, loop->notifier.fd, LOOP_IN, USER_EVENTFD));
    } else {
        QUEUE(loop, os_ring_poll_multi(uring->ring, loop->notifier.fd, LOOP_IN, USER_EVENTFD));
    }
}

/* (U2) */
HOME_LOOP
static void eventfd_done(struct loop *loop, const struct os_ring_event *event)
{
    struct uring *uring = uring_of(loop);

    if (!event->more) {
        uring->event_is_watched = false;
        uring->event_is_oneshot = uring->event_is_oneshot || event->result == -EINVAL;
        STAT_ADD(loop, system_calls, 1);
        os_eventfd_clear(loop->notifier.fd);
    }
    notifier_consumed(&loop->notifier);
}

HOME_LOOP
static void uring_io_begin(struct loop *loop, struct io_request *request)
{
    struct uring *uring = uring_of(loop);
    uint64_t user = (uint64_t)(uintptr_t)request | USER_TRANSFER;
    uint64_t batch_max = at_load_relaxed(&loop->aio_max_batch); /* loop_set_aio_max_batch() */

    if (request->is_write) {
        QUEUE(loop, os_ring_writev(uring->ring, request->fd, request->iov, request->count,
                                   request->offset, request->is_dsync, user));
    } else {
        QUEUE(loop, os_ring_readv(uring->ring, request->fd, request->iov, request->count,
                                  request->offset, user));
    }
    uring->transfers++;
    if (batch_max != 0 && os_ring_queued(uring->ring) >= batch_max) {
        submit_now(loop);
    }
}

HOME_LOOP
static unsigned uring_io_count(const struct loop *loop)
{
    return uring_of(loop)->transfers;
}

/* ---- watches ---- */

static uint64_t watch_user(const struct watch_slot *slot)
{
    return (uint64_t)slot->generation << GENERATION_SHIFT | (uint64_t)slot->index << TAG_BITS |
           USER_WATCH;
}

HOME_LOOP
static int uring_watch_open(struct loop *loop, struct watch_slot *slot)
{
    return 0;
}

HOME_LOOP
static void uring_watch_close(struct loop *loop, struct watch_slot *slot)
{
}

HOME_LOOP
static void uring_watch_arm(struct loop *loop, struct watch_slot *slot)
{
    QUEUE(loop, os_ring_poll(uring_of(loop)->ring, slot->fd, slot->events & ~(unsigned)LOOP_POLLED,
                             watch_user(slot)));
}

HOME_LOOP
static void uring_watch_disarm(struct loop *loop, struct watch_slot *slot)
{
    QUEUE(loop, os_ring_cancel(uring_of(loop)->ring, watch_user(slot), USER_IGNORE));
}

/* ---- completion ---- */

HOME_LOOP
static bool uring_has_events(const struct loop *loop)
{
    struct uring *uring = uring_of(loop);

    return uring->batch_next != uring->batch_count || os_ring_has_events(uring->ring);
}

HOME_LOOP
static void uring_submit(struct loop *loop)
{
    if (os_ring_queued(uring_of(loop)->ring) != 0) {
        submit_now(loop);
    }
}

HOME_LOOP
static void uring_collect(struct loop *loop, uint64_t timeout_ns)
{
    struct uring *uring = uring_of(loop);
    int rc;

    if (timeout_ns != 0) {
        watch_eventfd(loop); /* (U2) */
    }
    if (uring->batch_next != uring->batch_count) {
        timeout_ns = 0;
    }
    if (os_ring_queued(uring->ring) == 0 && timeout_ns == 0) {
        if (!os_ring_has_events(uring->ring) || fetch(uring) > 0) {
            return; /* nothing, or already in memory: no system call */
        }
    }
    rc = enter(loop, timeout_ns != 0 ? 1 : 0, timeout_ns);
    fetch(uring);
    if (rc == -EBUSY) { /* (U4): nothing was submitted; there is room now */
        enter(loop, 0, 0);
    }
}

HOME_LOOP
static void transfer_done(struct loop *loop, struct io_request *request, int32_t result)
{
    uring_of(loop)->transfers--;
    request->result = result;
    STAT_ADD(loop, ios_run, 1);
    loop_event(loop, LOOP_EVENT_IO, NULL, result);
    co_wake(request->co);
}

/* True: that was somebody's event. */
HOME_LOOP
static bool event_done(struct loop *loop, const struct os_ring_event *event)
{
    switch ((enum user_tag)(event->user & ((1U << TAG_BITS) - 1))) {
    case USER_EVENTFD:
        eventfd_done(loop, event);
        return false;
    case USER_TRANSFER:
        transfer_done(loop, (struct io_request *)(uintptr_t)(event->user & ~(uint64_t)7),
                      event->result);
        return true;
    case USER_WATCH:
        return watch_report(loop, (uint32_t)event->user >> TAG_BITS,
                            (uint32_t)(event->user >> GENERATION_SHIFT), event->result);
    case USER_IGNORE:
        return false;
    }
    unreachable();
}

HOME_LOOP
static bool uring_dispatch(struct loop *loop)
{
    struct uring *uring = uring_of(loop);
    bool progress = false;

    for (unsigned n = 0; n < LOOP_BUDGET; n++) {
        struct os_ring_event event;

        if (uring->batch_next == uring->batch_count) {
            break;
        }
        event = uring->batch[uring->batch_next++]; /* a copy: the callback may fetch more */
        progress = event_done(loop, &event) || progress;
    }
    ready_run(loop);
    return progress;
}

/* ---- in a host program ---- */

HOME_LOOP
static int uring_host_fd(const struct loop *loop)
{
    return os_ring_fd(uring_of(loop)->ring);
}

HOME_LOOP
static void uring_host_arm(struct loop *loop)
{
    watch_eventfd(loop); /* (U2) */
    if (os_ring_queued(uring_of(loop)->ring) > 0) {
        submit_now(loop);
    }
}

/* ---- life ---- */

HOME_LOOP
static int uring_open(struct loop *loop, struct err **reterr)
{
    struct uring *uring;
    struct os_ring *ring = loop->is_hosted
                               ? os_ring_new_pollable(RING_ENTRIES, &loop->engine_flags, reterr)
                               : os_ring_new(RING_ENTRIES, &loop->engine_flags, reterr);

    if (ring == NULL) {
        return -ENOSYS;
    }
    uring = mem_new(struct uring);
    uring->ring = ring;
    uring->batch_capacity = BATCH_FIRST;
    uring->batch = mem_alloc_array(BATCH_FIRST, sizeof(uring->batch[0]));
    loop->engine_state = uring;
    return 0;
}

HOME_LOOP
static void uring_close(struct loop *loop)
{
    struct uring *uring = uring_of(loop);

    os_ring_free(uring->ring);
    os_eventfd_clear(loop->notifier.fd);
    notifier_consumed(&loop->notifier); /* a late one's: nobody would write to the next loop here */
    mem_free(uring->batch);
    mem_free(uring);
    loop->engine_state = NULL;
}

const struct engine_ops engine_uring = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .watch_open = uring_watch_open,
    .watch_close = uring_watch_close,
    .watch_arm = uring_watch_arm,
    .watch_disarm = uring_watch_disarm,
    .io_begin = uring_io_begin,
    .io_count = uring_io_count,
    .host_fd = uring_host_fd,
    .host_arm = uring_host_arm,
    .submit = uring_submit,
    .has_events = uring_has_events,
    .collect = uring_collect,
    .dispatch = uring_dispatch,
};
