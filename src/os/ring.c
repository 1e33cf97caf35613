/*
 * ring.c -- one io_uring, by liburing.
 *
 * With deferred task work (DEFER_TASKRUN) a completion is made only when its thread enters the
 * kernel to ask for events: os_ring_has_events() therefore looks at the TASKRUN flag too, and every
 * os_ring_enter() asks for events, also one that waits for none.
 */
#include "os/ring.h"
#include "base/mem.h"
#include <errno.h>
#include <liburing.h>
#include <string.h>

struct os_ring {
    struct io_uring uring;
};

/* From best to plain. SUBMIT_ALL: one bad operation does not hold up those behind it. */
static const struct flag_set {
    unsigned flags;
    const char *text;
} flag_sets[] = {
    {IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
         IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
     "single-issuer, defer-taskrun"}, /* Linux 6.1 */
    {IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN |
         IORING_SETUP_TASKRUN_FLAG,
     "single-issuer, coop-taskrun"}, /* 6.0 */
    {IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
     "coop-taskrun"}, /* 5.19 */
    {0, "plain"},
};

/* Features we cannot do without: completions are never dropped; waits take a deadline. */
static const unsigned features_needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;

/* The kernel starts a thread for a transfer that would block, by default at most 4 a processor: a
 * hung file would hold them all, and every other file's such transfers would wait for it. */
enum { BLOCKED_MAX = 4096 };

HOME_LOOP
static int try_flags(struct io_uring *uring, unsigned entries, unsigned flags)
{
    unsigned workers[2] = {BLOCKED_MAX, 0};
    struct io_uring_params params = {.flags = flags | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
                                     .cq_entries = 4 * entries};
    int rc = io_uring_queue_init_params(entries, uring, &params);

    if (rc < 0) {
        return rc;
    }
    if ((params.features & features_needed) != features_needed) {
        io_uring_queue_exit(uring);
        return -ENOSYS;
    }
    io_uring_register_ring_fd(uring); /* saves a lookup a call; does without where refused */
    io_uring_register_iowq_max_workers(uring, workers); /* Linux 5.15 */
    return 0;
}

HOME_LOOP
static struct os_ring *ring_new(unsigned entries, size_t flag_set_first, const char **ret_text,
                                struct err **reterr)
{
    struct os_ring *ring = mem_new(struct os_ring);
    int rc = -ENOSYS;

    for (size_t i = flag_set_first; i < countof(flag_sets); i++) {
        rc = try_flags(&ring->uring, entries, flag_sets[i].flags);
        if (rc == 0) {
            *ret_text = flag_sets[i].text;
            return ring;
        }
    }
    err_set_errno(reterr, -rc, "io_uring is refused");
    mem_free(ring);
    return NULL;
}

struct os_ring *os_ring_new(unsigned entries, const char **ret_text, struct err **reterr)
{
    return ring_new(entries, 0, ret_text, reterr);
}

struct os_ring *os_ring_new_pollable(unsigned entries, const char **ret_text, struct err **reterr)
{
    return ring_new(entries, 1, ret_text, reterr); /* the first defers task work */
}

void os_ring_free(struct os_ring *ring)
{
    if (ring != NULL) {
        io_uring_queue_exit(&ring->uring);
        mem_free(ring);
    }
}

bool os_ring_readv(struct os_ring *ring, int fd, const struct iovec *iov, unsigned count,
                   uint64_t offset, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_readv(sqe, fd, iov, count, offset);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_writev(struct os_ring *ring, int fd, const struct iovec *iov, unsigned count,
                    uint64_t offset, bool dsync, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_writev2(sqe, fd, iov, count, offset, dsync ? RWF_DSYNC : 0);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_read(struct os_ring *ring, int fd, void *to, unsigned bytes, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_read(sqe, fd, to, bytes, UINT64_MAX);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_fdatasync(struct os_ring *ring, int fd, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_fallocate(struct os_ring *ring, int fd, int mode, uint64_t offset, uint64_t bytes,
                       uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)bytes);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_poll(struct os_ring *ring, int fd, unsigned poll_events, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_poll_add(sqe, fd, poll_events);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_poll_multi(struct os_ring *ring, int fd, unsigned poll_events, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_poll_multishot(sqe, fd, poll_events);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

bool os_ring_cancel(struct os_ring *ring, uint64_t target_user, uint64_t user)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_cancel64(sqe, target_user, 0);
    io_uring_sqe_set_data64(sqe, user);
    return true;
}

unsigned os_ring_queued(const struct os_ring *ring)
{
    return io_uring_sq_ready(&ring->uring);
}

int os_ring_enter(struct os_ring *ring, unsigned wait_for, uint64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_ns / 1000000000),
                                        .tv_nsec = (long long)(timeout_ns % 1000000000)};
    int rc;

    if (wait_for == 0 || timeout_ns == 0) {
        rc = io_uring_submit_and_get_events(&ring->uring);
    } else if (timeout_ns == UINT64_MAX) {
        rc = io_uring_submit_and_wait(&ring->uring, wait_for);
    } else {
        rc = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, wait_for, &timeout, NULL);
    }
    return rc < 0 ? rc : 0;
}

bool os_ring_has_events(const struct os_ring *ring)
{
    return io_uring_cq_ready(&ring->uring) != 0 ||
           (IO_URING_READ_ONCE(*ring->uring.sq.kflags) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

unsigned os_ring_reap(struct os_ring *ring, struct os_ring_event *to, unsigned max)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        if (count == max) {
            break;
        }
        to[count].user = cqe->user_data;
        to[count].result = cqe->res;
        to[count].more = (cqe->flags & IORING_CQE_F_MORE) != 0;
        count++;
    }
    io_uring_cq_advance(&ring->uring, count);
    return count;
}

int os_ring_fd(const struct os_ring *ring)
{
    return ring->uring.ring_fd;
}
