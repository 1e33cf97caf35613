/*
 * ring.c -- os/ring.h: a ring whose operations take a random time and end in random order.
 *
 * A transfer touches its memory when it ends, so a buffer given back too early is noticed. As with
 * deferred task work, a completion is made only by its thread's os_ring_enter(); what could be made
 * is what os_ring_has_events() sees.
 */
#include "os/ring.h"
#include "base/mem.h"
#include "os/file.h"
#include "sim/sim_int.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

enum operation { OP_READV, OP_WRITEV, OP_READ, OP_FDATASYNC, OP_FALLOCATE, OP_POLL, OP_CANCEL };
static const char *const op_names[] = {
    [OP_READV] = "ring-readv",         [OP_WRITEV] = "ring-writev",
    [OP_READ] = "ring-read",           [OP_FDATASYNC] = "ring-fdatasync",
    [OP_FALLOCATE] = "ring-fallocate", [OP_POLL] = "ring-poll",
    [OP_CANCEL] = "ring-cancel",
};

struct op {
    struct list link;
    enum operation operation;
    int fd;
    struct sim_desc *desc; /* of READ and POLL: kept open while they wait */
    struct iovec *iov;     /* a copy */
    unsigned count;
    uint64_t offset, bytes, user, due;
    void *to;
    int mode;
    unsigned events;
    bool cancelled;
};

struct completion {
    struct list link;
    struct os_ring_event event;
};

struct os_ring {
    unsigned entries;
    struct list queued, pending; /* struct op */
    unsigned queued_count;
    struct list completions;
    unsigned completion_count;
    int fd;
};

static unsigned ring_poll(struct sim_desc *desc)
{
    return 0; /* its owner's waits look inside */
}

static void ring_close(struct sim_desc *desc)
{
    mem_free(desc);
}

static const struct sim_desc_ops ring_ops = {.poll = ring_poll, .close = ring_close};

struct os_ring *os_ring_new(unsigned entries, const char **ret_text, struct err **reterr)
{
    struct os_ring *ring;
    struct sim_desc *desc;
    int fault = sim_fault("ring-new", ENOMEM);

    if (fault < 0) {
        err_set_errno(reterr, -fault, "io_uring is refused");
        return NULL;
    }
    ring = mem_new(struct os_ring);
    desc = mem_new(struct sim_desc);
    sim_desc_init(desc, &ring_ops);
    ring->fd = sim_fd_install(desc);
    ring->entries = entries;
    list_init(&ring->queued);
    list_init(&ring->pending);
    list_init(&ring->completions);
    *ret_text = "simulated";
    return ring;
}

struct os_ring *os_ring_new_pollable(unsigned entries, const char **ret_text, struct err **reterr)
{
    return os_ring_new(entries, ret_text, reterr);
}

static void op_free(struct op *op)
{
    if (op->desc != NULL) {
        sim_desc_unref(op->desc);
    }
    mem_free(op->iov);
    mem_free(op);
}

static void free_ops(struct list *list)
{
    struct list *item;

    while ((item = list_pop_head(list)) != NULL) {
        op_free(list_entry(item, struct op, link));
    }
}

void os_ring_free(struct os_ring *ring)
{
    struct list *item;

    if (ring == NULL) {
        return;
    }
    free_ops(&ring->queued);
    free_ops(&ring->pending);
    while ((item = list_pop_head(&ring->completions)) != NULL) {
        mem_free(list_entry(item, struct completion, link));
    }
    os_close_now(ring->fd);
    mem_free(ring);
}

/* ---- queueing ---- */

static struct op *queue(struct os_ring *ring, enum operation operation, int fd, uint64_t user)
{
    struct op *op;

    if (ring->queued_count == ring->entries) {
        return NULL;
    }
    op = mem_new(struct op);
    op->operation = operation;
    op->fd = fd;
    op->user = user;
    list_add_tail(&ring->queued, &op->link);
    ring->queued_count++;
    return op;
}

static bool queue_transfer(struct os_ring *ring, enum operation operation, int fd,
                           const struct iovec *iov, unsigned count, uint64_t offset, uint64_t user)
{
    struct op *op = queue(ring, operation, fd, user);

    if (op == NULL) {
        return false;
    }
    op->iov = mem_alloc_array(count, sizeof(*iov));
    memcpy(op->iov, iov, count * sizeof(*iov));
    op->count = count;
    op->offset = offset;
    return true;
}

bool os_ring_readv(struct os_ring *ring, int fd, const struct iovec *iov, unsigned count,
                   uint64_t offset, uint64_t user)
{
    return queue_transfer(ring, OP_READV, fd, iov, count, offset, user);
}

bool os_ring_writev(struct os_ring *ring, int fd, const struct iovec *iov, unsigned count,
                    uint64_t offset, bool dsync, uint64_t user)
{
    return queue_transfer(ring, OP_WRITEV, fd, iov, count, offset, user);
}

bool os_ring_read(struct os_ring *ring, int fd, void *to, unsigned bytes, uint64_t user)
{
    struct op *op = queue(ring, OP_READ, fd, user);

    if (op != NULL) {
        op->to = to;
        op->bytes = bytes;
    }
    return op != NULL;
}

bool os_ring_fdatasync(struct os_ring *ring, int fd, uint64_t user)
{
    return queue(ring, OP_FDATASYNC, fd, user) != NULL;
}

bool os_ring_fallocate(struct os_ring *ring, int fd, int mode, uint64_t offset, uint64_t bytes,
                       uint64_t user)
{
    struct op *op = queue(ring, OP_FALLOCATE, fd, user);

    if (op != NULL) {
        op->mode = mode;
        op->offset = offset;
        op->bytes = bytes;
    }
    return op != NULL;
}

bool os_ring_poll(struct os_ring *ring, int fd, unsigned poll_events, uint64_t user)
{
    struct op *op = queue(ring, OP_POLL, fd, user);

    if (op != NULL) {
        op->events = poll_events;
    }
    return op != NULL;
}

/* The kernel may end one at any time; this one does so each time. */
bool os_ring_poll_multi(struct os_ring *ring, int fd, unsigned poll_events, uint64_t user)
{
    return os_ring_poll(ring, fd, poll_events, user);
}

bool os_ring_cancel(struct os_ring *ring, uint64_t target_user, uint64_t user)
{
    struct op *op = queue(ring, OP_CANCEL, -1, user);

    if (op != NULL) {
        op->offset = target_user;
    }
    return op != NULL;
}

unsigned os_ring_queued(const struct os_ring *ring)
{
    return ring->queued_count;
}

/* ---- completion ---- */

static void complete(struct os_ring *ring, const struct op *op, int32_t result)
{
    struct completion *completion = mem_new(struct completion);

    completion->event = (struct os_ring_event){.user = op->user, .result = result};
    list_add_tail(&ring->completions, &completion->link);
    ring->completion_count++;
    sim_trace(op_names[op->operation], (uint32_t)result);
}

static bool is_due(const struct op *op)
{
    if (op->cancelled) {
        return true;
    }
    if (op->operation == OP_POLL) {
        return sim_desc_poll(op->desc, op->events) != 0;
    }
    if (op->operation == OP_READ) {
        return op->desc->nonblocking || (op->desc->ops->poll(op->desc) & POLLIN) != 0;
    }
    return op->due <= sim_now();
}

static int32_t perform(struct op *op)
{
    int fault;

    if (op->cancelled) {
        return -ECANCELED;
    }
    switch (op->operation) {
    case OP_POLL:
        return (int32_t)sim_desc_poll(op->desc, op->events);
    case OP_READ:
        return (int32_t)op->desc->ops->read(op->desc, op->to, (size_t)op->bytes);
    case OP_READV:
    case OP_WRITEV:
        fault = sim_fault(op_names[op->operation], op->operation == OP_READV ? EIO : ENOSPC);
        if (fault < 0) {
            return fault;
        }
        return (int32_t)sim_file_transfer(op->fd, op->iov, (int)op->count, op->offset,
                                          op->operation == OP_WRITEV);
    case OP_FDATASYNC:
        fault = sim_fault(op_names[op->operation], EIO);
        return fault < 0 ? fault : min_of(sim_file_real(op->fd), 0);
    case OP_FALLOCATE:
        fault = sim_fault(op_names[op->operation], ENOSPC);
        if (fault < 0 || sim_file_real(op->fd) < 0) {
            return fault < 0 ? fault : sim_file_real(op->fd);
        }
        return fallocate(sim_file_real(op->fd), op->mode, (off_t)op->offset, (off_t)op->bytes) < 0
                   ? -errno
                   : 0;
    case OP_CANCEL:
        break;
    }
    unreachable();
}

static void cancel(struct os_ring *ring, const struct op *by)
{
    struct op *op;

    list_for_each(op, &ring->pending, link)
    {
        if (op->user == by->offset && !op->cancelled) {
            bool can_be = op->operation == OP_POLL || op->operation == OP_READ;

            op->cancelled = can_be;
            complete(ring, by, can_be ? 0 : -EALREADY);
            return;
        }
    }
    complete(ring, by, -ENOENT);
}

static void submit(struct os_ring *ring)
{
    struct list *item;

    while ((item = list_pop_head(&ring->queued)) != NULL) {
        struct op *op = list_entry(item, struct op, link);

        ring->queued_count--;
        if (op->operation == OP_CANCEL) {
            cancel(ring, op);
            op_free(op);
            continue;
        }
        op->desc = sim_fd_get(op->fd);
        if (op->desc == NULL) {
            complete(ring, op, -EBADF);
            op_free(op);
            continue;
        }
        sim_desc_ref(op->desc);
        op->due = sim_now() + sim_latency();
        list_add_tail(&ring->pending, &op->link);
    }
}

static unsigned count_due(const struct os_ring *ring)
{
    const struct op *op;
    unsigned count = 0;

    list_for_each(op, &ring->pending, link)
    {
        count += is_due(op);
    }
    return count;
}

/* In random order. */
static void make_completions(struct os_ring *ring)
{
    for (unsigned count; (count = count_due(ring)) > 0;) {
        uint64_t pick = sim_below(count);
        struct op *op;

        list_for_each(op, &ring->pending, link)
        {
            if (is_due(op) && pick-- == 0) {
                break;
            }
        }
        list_remove(&op->link);
        complete(ring, op, perform(op));
        op_free(op);
    }
}

struct waiting {
    const struct os_ring *ring;
    unsigned wait_for;
};

static bool has_enough(void *opaque)
{
    const struct waiting *waiting = opaque;

    return waiting->ring->completion_count + count_due(waiting->ring) >= waiting->wait_for;
}

static uint64_t next_due(const struct os_ring *ring, uint64_t deadline)
{
    const struct op *op;

    list_for_each(op, &ring->pending, link)
    {
        if (op->operation != OP_POLL && op->operation != OP_READ && op->due > sim_now()) {
            deadline = min_of(deadline, op->due);
        }
    }
    return deadline;
}

static bool wait_enough(struct os_ring *ring, unsigned wait_for, uint64_t timeout_ns)
{
    struct waiting waiting = {ring, wait_for};
    uint64_t now = sim_now(),
             deadline = timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;

    while (!has_enough(&waiting)) {
        if (sim_now() >= deadline) {
            return false;
        }
        sim_wait_until(has_enough, &waiting, next_due(ring, deadline), "ring");
    }
    return true;
}

int os_ring_enter(struct os_ring *ring, unsigned wait_for, uint64_t timeout_ns)
{
    bool enough = true;

    if (sim_fault("ring-enter-interrupted", EINTR) < 0) {
        return -EINTR;
    }
    submit(ring);
    if (wait_for > 0 && timeout_ns > 0) {
        enough = wait_enough(ring, wait_for, timeout_ns);
    } else {
        sim_step("ring-enter");
    }
    make_completions(ring);
    return enough ? 0 : -ETIME;
}

bool os_ring_has_events(const struct os_ring *ring)
{
    return ring->completion_count + count_due(ring) > 0;
}

unsigned os_ring_reap(struct os_ring *ring, struct os_ring_event *to, unsigned max)
{
    unsigned count = 0;

    while (count < max && !list_is_empty(&ring->completions)) {
        struct completion *completion =
            list_entry(list_pop_head(&ring->completions), struct completion, link);

        to[count++] = completion->event;
        mem_free(completion);
        ring->completion_count--;
    }
    return count;
}

int os_ring_fd(const struct os_ring *ring)
{
    return ring->fd;
}
