/*
 * ring.h -- one io_uring, and one epoll set: what a loop's engine waits on. Wraps liburing.
 * Only the thread that made it may use it.
 */
#pragma once
#include "base/ctx.h"
#include "base/err.h"
#include <sys/uio.h>

struct os_ring;

/* Tries flags from best to plain; *@ret_text says which (static text). NULL: refused, with the
 * reason. @entries: submission slots. */
HOME_LOOP
struct os_ring *os_ring_new(unsigned entries, const char **ret_text, struct err **reterr);
/* The same for a host program that waits for os_ring_fd() with poll(2): without deferred task work,
 * which does not wake such a wait. */
HOME_LOOP
struct os_ring *os_ring_new_pollable(unsigned entries, const char **ret_text, struct err **reterr);
HOME_LOOP
void os_ring_free(struct os_ring *ring);

/* Queue an operation; @user comes back with its completion. False: the queue is full, submit
 * first. */
HOME_LOOP
bool os_ring_readv(struct os_ring *ring, int fd, const struct iovec *iov, unsigned count,
                   uint64_t offset, uint64_t user);
HOME_LOOP
bool os_ring_writev(struct os_ring *ring, int fd, const struct iovec *iov, unsigned count,
                    uint64_t offset, bool dsync, uint64_t user);
HOME_LOOP
bool os_ring_read(struct os_ring *ring, int fd, void *to, unsigned bytes, uint64_t user);
HOME_LOOP
bool os_ring_fdatasync(struct os_ring *ring, int fd, uint64_t user);
HOME_LOOP
bool os_ring_fallocate(struct os_ring *ring, int fd, int mode, uint64_t offset, uint64_t bytes,
                       uint64_t user);
HOME_LOOP
bool os_ring_poll(struct os_ring *ring, int fd, unsigned poll_events, uint64_t user); /* one-shot */
/* As above, and goes on watching: one completion for each time @fd is woken, with `more` set. One
 * without is the last. -EINVAL in its result: this kernel cannot (before 5.13). */
HOME_LOOP
bool os_ring_poll_multi(struct os_ring *ring, int fd, unsigned poll_events, uint64_t user);
HOME_LOOP
bool os_ring_cancel(struct os_ring *ring, uint64_t target_user, uint64_t user);

HOME_LOOP
unsigned os_ring_queued(const struct os_ring *ring); /* not yet submitted */

/* Submit what is queued and wait for at least @wait_for completions until @timeout_ns from now
 * (UINT64_MAX: for ever; 0: do not wait). One system call. 0, -ETIME, -EINTR, -EBUSY. */
HOME_LOOP
int os_ring_enter(struct os_ring *ring, unsigned wait_for, uint64_t timeout_ns);

/* In memory only: is there a completion, or deferred task work that would make one? */
HOME_LOOP
bool os_ring_has_events(const struct os_ring *ring);

struct os_ring_event {
    uint64_t user;
    int32_t result;
    bool more; /* of os_ring_poll_multi() */
};
/* Take up to @max completions; in memory only. */
HOME_LOOP
unsigned os_ring_reap(struct os_ring *ring, struct os_ring_event *to, unsigned max);
HOME_LOOP
int os_ring_fd(const struct os_ring *ring);

/* ---- epoll ---- */
HOME_LOOP
int os_epoll_new(void);
HOME_LOOP
int os_epoll_set(int epoll_fd, int fd, unsigned poll_events, uint64_t user, bool is_new);
HOME_LOOP
int os_epoll_remove(int epoll_fd, int fd);
struct os_epoll_event {
    uint64_t user;
    unsigned events;
};
/* @timeout_ns as above. Number of events, or -errno. */
HOME_LOOP
int os_epoll_wait(int epoll_fd, struct os_epoll_event *to, int max, uint64_t timeout_ns);
