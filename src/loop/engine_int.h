/*
 * engine_int.h -- what a loop waits on. Two engines: io_uring, and epoll with the worker pool.
 *
 * An engine reports each armed watch once (watch_report()) and reads the loop's eventfd by itself.
 * What it has fetched and not yet handed out stays in its state, not on a stack, so that a nested
 * poll goes on with it (RACES 9).
 */
#pragma once
#include "loop/loop_int.h"

struct io_request;

struct engine_ops {
    const char *name;
    HOME_SLOT int (*open)(struct loop *loop, struct err **reterr);
    HOME_SLOT void (*close)(struct loop *loop);

    HOME_SLOT int (*watch_open)(struct loop *loop, struct watch_slot *slot); /* 0 or -errno */
    HOME_SLOT void (*watch_close)(struct loop *loop, struct watch_slot *slot);
    HOME_SLOT void (*watch_arm)(struct loop *loop, struct watch_slot *slot);
    HOME_SLOT void (*watch_disarm)(struct loop *loop, struct watch_slot *slot);

    /* Begin a transfer; the coroutine is woken when it is done. NULL: the worker pool does it. */
    HOME_SLOT void (*io_begin)(struct loop *loop, struct io_request *request);
    HOME_SLOT unsigned (*io_count)(const struct loop *loop); /* under way */

    /* For a host program: a descriptor that is readable when collect() would find something;
     * make that so for the loop's eventfd and what is queued. */
    HOME_SLOT int (*host_fd)(const struct loop *loop);
    HOME_SLOT void (*host_arm)(struct loop *loop);

    /* Optional: submit what is queued, before a spin that may last. */
    HOME_SLOT void (*submit)(struct loop *loop);
    /* In memory only: would collect() or dispatch() find something? Called while spinning. */
    HOME_SLOT bool (*has_events)(const struct loop *loop);
    /* Submit what is queued and fetch events; wait for one at most @timeout_ns (0: do not). */
    HOME_SLOT void (*collect)(struct loop *loop, uint64_t timeout_ns);
    /* Hand out at most LOOP_BUDGET fetched events; true: there were any. */
    HOME_SLOT bool (*dispatch)(struct loop *loop);
};

extern const struct engine_ops engine_uring, engine_epoll;

/* A transfer in flight; on its coroutine's stack. */
struct io_request {
    struct co *co;
    const struct iovec *iov;
    unsigned count;
    int fd;
    uint64_t offset;
    int64_t result;
    bool is_write, is_dsync;
};
