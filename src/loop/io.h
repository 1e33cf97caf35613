/*
 * io.h -- file I/O of a coroutine through its loop's engine, and calls that must block.
 *
 * Short transfers, EINTR and EAGAIN are dealt with here: a read returns less than asked only at the
 * end of the file, a write never does.
 */
#pragma once
#include "base/iov.h"
#include "loop/loop.h"
#include <sys/types.h>
#include <sys/uio.h>

enum io_mode {
    IO_ENGINE,  /* aio=io_uring (and native): the loop's engine, which may be the pool itself */
    IO_THREADS, /* aio=threads: always the worker pool */
};

/* A file's share of the worker pool: at most `max` calls run at once, the rest wait in order, so
 * a hung file takes no thread from another: the pool is as large as all shares together. Shared
 * between loops; guarded by the pool's lock. */
struct pool_share {
    unsigned max;
    unsigned running;    /* or queued for a thread */
    struct list waiting; /* for the share */
    struct list link;
};
ANY_THREAD
void pool_share_init(struct pool_share *share, unsigned max);
ANY_THREAD
void pool_share_fini(struct pool_share *share); /* no call may be under way */

struct io_file {
    int fd;
    enum io_mode mode;
    struct pool_share share;
};

enum { POOL_SHARE_DEFAULT = 8 };

/* @fd stays the caller's. */
MAIN_LOOP
void io_file_init(struct io_file *file, int fd, enum io_mode mode);
MAIN_LOOP
void io_file_fini(struct io_file *file); /* no call may be under way */

enum io_flags { IO_FUA = 1 << 0 /* RWF_DSYNC */ };

/* Bytes done (a read's count is short only at the end of file) or -errno. @count <=
 * IOV_MAX_ELEMENTS; @iov stays the caller's and is not changed. A write to a full device:
 * -ENOSPC. */
CO_FN
ssize_t io_co_preadv(struct io_file *file, const struct iovec *iov, size_t count, uint64_t offset);
CO_FN
ssize_t io_co_pwritev(struct io_file *file, const struct iovec *iov, size_t count, uint64_t offset,
                      unsigned flags);
CO_FN
int io_co_fdatasync(struct io_file *file);
CO_FN
int io_co_fallocate(struct io_file *file, int mode, uint64_t offset, uint64_t bytes);

/* Run @fn on a pool thread and wait for it; its value is returned. @share NULL: the common share
 * for open, close, locks, stat, mmap, munmap… of everybody (bounded too). */
typedef int64_t pool_fn(void *opaque); /* label its definition BLOCKING */
CO_FN
int64_t pool_co_call(struct pool_share *share, pool_fn *fn, void *opaque);

/* Run @fn on a pool thread, from anywhere, and wait for nothing. @fn frees @opaque. */
ANY_THREAD
void pool_run(pool_fn *fn, void *opaque);

/* Started on first use. Waits for what runs; nothing may be queued. At exit. */
BLOCKING
void pool_stop(void);
