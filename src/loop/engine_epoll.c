/*
 * engine_epoll.c -- a loop on epoll; disk I/O goes to the worker pool.
 *
 * (E1) The kernel watches by level, so a watch that stays as it is costs no call: after its report
 *      it remains set, and "armed" is only our word for "report it". A report of one that is not
 *      armed (its callback is under way, this is a nested level) takes it out until it is armed
 *      again.
 * (E2) An fd can be in an epoll set once. A second watch of it works on a duplicate, closed on
 *      removal.
 * (E3) Fetched events stay in `batch`, where nested levels find them.
 * (E4) A watch that is stopped stays in the kernel's set, asking for nothing: taken out, its owner
 *      could see to it that it cannot be put in again (a front end's descriptor that is an epoll
 *      set itself, and nests deeper meanwhile).
 */
#include "loop/engine_int.h"
#include "base/mem.h"
#include "os/file.h"
#include <errno.h>

enum { BATCH_MAX = LOOP_BUDGET };
static const uint64_t user_eventfd = UINT64_MAX;

struct epoll {
    int fd;
    struct os_epoll_event batch[BATCH_MAX];
    int batch_next, batch_count;
};

static struct epoll *epoll_of(const struct loop *loop)
{
    return loop->engine_state;
}

static uint64_t watch_user(const struct watch_slot *slot)
{
    return (uint64_t)slot->generation << 32 | slot->index;
}

static int fd_of(const struct watch_slot *slot)
{
    return slot->engine_fd >= 0 ? slot->engine_fd : slot->fd;
}

HOME_LOOP
static void count_call(struct loop *loop)
{
    STAT_ADD(loop, system_calls, 1);
}

HOME_LOOP
static int kernel_set(struct loop *loop, struct watch_slot *slot, bool is_new)
{
    count_call(loop);
    return os_epoll_set(epoll_of(loop)->fd, fd_of(slot), slot->events & ~(unsigned)LOOP_POLLED,
                        watch_user(slot), is_new);
}

HOME_LOOP
static void kernel_remove(struct loop *loop, struct watch_slot *slot)
{
    if (slot->engine_is_set) {
        slot->engine_is_set = false;
        count_call(loop);
        os_epoll_remove(epoll_of(loop)->fd, fd_of(slot));
    }
}

/* Find out now whether this fd can be watched; it is taken out again until armed. */
HOME_LOOP
static int epoll_watch_open(struct loop *loop, struct watch_slot *slot)
{
    int rc = kernel_set(loop, slot, true);

    if (rc == -EEXIST) { /* (E2) */
        slot->engine_fd = os_dup(slot->fd);
        rc = slot->engine_fd < 0 ? slot->engine_fd : kernel_set(loop, slot, true);
        if (rc < 0 && slot->engine_fd >= 0) {
            os_close_now(slot->engine_fd);
            slot->engine_fd = -1;
        }
    }
    if (rc == 0) {
        slot->engine_is_set = true;
        slot->engine_events = slot->events;
        slot->engine_generation = slot->generation;
    }
    return rc;
}

HOME_LOOP
static void epoll_watch_close(struct loop *loop, struct watch_slot *slot)
{
    kernel_remove(loop, slot);
    if (slot->engine_fd >= 0) {
        os_close_now(slot->engine_fd);
        slot->engine_fd = -1;
    }
}

HOME_LOOP
static void epoll_watch_arm(struct loop *loop, struct watch_slot *slot)
{
    int rc;

    if (slot->engine_is_set && slot->engine_events == slot->events &&
        slot->engine_generation == slot->generation) {
        return; /* (E1) */
    }
    rc = kernel_set(loop, slot, !slot->engine_is_set);
    if (rc < 0) {
        panic("loop '%s': fd %d is not to be watched any more (error %d): closed before its watch "
              "was removed?", loop->name, slot->fd, -rc);
    }
    slot->engine_is_set = true;
    slot->engine_events = slot->events;
    slot->engine_generation = slot->generation;
}

HOME_LOOP
static void epoll_watch_disarm(struct loop *loop, struct watch_slot *slot)
{
    if (slot->engine_is_set) { /* (E4) */
        count_call(loop);
        os_epoll_set(epoll_of(loop)->fd, fd_of(slot), 0, watch_user(slot), false);
        slot->engine_events = 0;
    }
}

HOME_LOOP
static unsigned epoll_io_count(const struct loop *loop)
{
    return 0;
}

HOME_LOOP
static bool epoll_has_events(const struct loop *loop)
{
    struct epoll *epoll = epoll_of(loop);

    return epoll->batch_next != epoll->batch_count;
}

HOME_LOOP
static void epoll_collect(struct loop *loop, uint64_t timeout_ns)
{
    struct epoll *epoll = epoll_of(loop);
    int count;

    if (epoll->batch_next != epoll->batch_count) {
        return; /* (E3) */
    }
    count_call(loop);
    count = os_epoll_wait(epoll->fd, epoll->batch, BATCH_MAX, timeout_ns);
    epoll->batch_next = 0;
    epoll->batch_count = max_of(count, 0); /* -EINTR: the next turn asks again */
}

HOME_LOOP
static int epoll_host_fd(const struct loop *loop)
{
    return epoll_of(loop)->fd;
}

HOME_LOOP
static void epoll_host_arm(struct loop *loop)
{
    /* the kernel watches already */
}

HOME_LOOP
static bool event_done(struct loop *loop, const struct os_epoll_event *event)
{
    uint32_t index = (uint32_t)event->user, generation = (uint32_t)(event->user >> 32);

    if (event->user == user_eventfd) {
        count_call(loop);
        os_eventfd_clear(loop->notifier.fd);
        notifier_consumed(&loop->notifier);
        return false;
    }
    if (watch_report(loop, index, generation, (int)event->events)) {
        return true;
    }
    if (index < loop->slot_count && !loop->slots[index]->armed) {
        kernel_remove(loop, loop->slots[index]); /* (E1) */
    }
    return false;
}

HOME_LOOP
static bool epoll_dispatch(struct loop *loop)
{
    struct epoll *epoll = epoll_of(loop);
    bool progress = false;

    for (unsigned n = 0; n < LOOP_BUDGET && epoll->batch_next < epoll->batch_count; n++) {
        struct os_epoll_event event = epoll->batch[epoll->batch_next++];

        progress = event_done(loop, &event) || progress;
    }
    ready_run(loop);
    return progress;
}

HOME_LOOP
static int epoll_open(struct loop *loop, struct err **reterr)
{
    struct epoll *epoll;
    int rc, fd = os_epoll_new();

    if (fd < 0) {
        return err_set_errno(reterr, -fd, "epoll is refused");
    }
    rc = os_epoll_set(fd, loop->notifier.fd, LOOP_IN, user_eventfd, true);
    if (rc < 0) {
        os_close_now(fd);
        return err_set_errno(reterr, -rc, "epoll refuses an eventfd");
    }
    epoll = mem_new(struct epoll);
    epoll->fd = fd;
    loop->engine_state = epoll;
    return 0;
}

HOME_LOOP
static void epoll_close(struct loop *loop)
{
    struct epoll *epoll = epoll_of(loop);

    os_close_now(epoll->fd);
    mem_free(epoll);
    loop->engine_state = NULL;
}

const struct engine_ops engine_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .watch_open = epoll_watch_open,
    .watch_close = epoll_watch_close,
    .watch_arm = epoll_watch_arm,
    .watch_disarm = epoll_watch_disarm,
    .io_begin = NULL,
    .io_count = epoll_io_count,
    .host_fd = epoll_host_fd,
    .host_arm = epoll_host_arm,
    .has_events = epoll_has_events,
    .collect = epoll_collect,
    .dispatch = epoll_dispatch,
};
