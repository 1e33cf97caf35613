/*
 * io.c -- file I/O of a coroutine.
 *
 * Transfers go to the loop's engine or, with IO_THREADS and where the engine has none, to the pool.
 * Flush and fallocate always go to the pool: the kernel would run them on a thread of its own
 * anyway, and the pool's shares see to it that those of a hung file take no thread from another.
 *
 * (I1) A coroutine that continues a transfer just begins another; the engine submits whatever is
 *      queued before the loop sleeps (RACES 11).
 * (I2) -EINTR is tried again. -EAGAIN, which a ring reports when it may not wait, goes to the pool,
 *      which may.
 */
#include "loop/io.h"
#include "loop/engine_int.h"
#include "base/iov.h"
#include "os/file.h"
#include <errno.h>

enum { WINDOW_ELEMENTS = 16 }; /* of a transfer continued after a short one */

struct transfer {
    struct io_file *file;
    const struct iovec *iov;
    size_t count;
    uint64_t offset;
    bool is_write, is_dsync;
};

void io_file_init(struct io_file *file, int fd, enum io_mode mode)
{
    file->fd = fd;
    file->mode = mode;
    pool_share_init(&file->share, POOL_SHARE_DEFAULT);
}

void io_file_fini(struct io_file *file)
{
    pool_share_fini(&file->share);
}

BLOCKING
static int64_t transfer_blocking(void *opaque)
{
    const struct transfer *t = opaque;

    if (t->is_write) {
        return os_pwritev(t->file->fd, t->iov, (int)t->count, t->offset, t->is_dsync);
    }
    return os_preadv(t->file->fd, t->iov, (int)t->count, t->offset);
}

CO_FN
static int64_t transfer_by_engine(struct loop *loop, const struct transfer *t)
{
    struct io_request request = {.co = co_self(), .iov = t->iov, .count = (unsigned)t->count,
                                 .fd = t->file->fd, .offset = t->offset, .is_write = t->is_write,
                                 .is_dsync = t->is_dsync};

    loop_assert_home(loop);
    loop->engine->io_begin(loop, &request);
    co_yield();
    return request.result;
}

/* One attempt, (I2) applied: bytes or -errno. */
CO_FN
static int64_t transfer_some(struct transfer *t)
{
    struct loop *loop = loop_self();
    bool has_engine;
    int64_t rc;

    loop_assert_home(loop);
    has_engine = t->file->mode == IO_ENGINE && loop->engine->io_begin != NULL;
    do {
        rc = has_engine ? transfer_by_engine(loop, t)
                        : pool_co_call(&t->file->share, transfer_blocking, t);
        if (rc == -EAGAIN) {
            has_engine = false;
            rc = -EINTR;
        }
    } while (rc == -EINTR);
    return rc;
}

/* The elements of @iov from byte @skip on, as many as fit. */
static size_t window(const struct iovec *iov, size_t count, size_t skip, struct iovec *to)
{
    size_t filled = 0;

    for (size_t i = 0; i < count && filled < WINDOW_ELEMENTS; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        to[filled].iov_base = (char *)iov[i].iov_base + skip;
        to[filled].iov_len = iov[i].iov_len - skip;
        skip = 0;
        filled++;
    }
    return filled;
}

/* The first @done of @bytes are transferred; do the rest. */
CO_FN
static ssize_t transfer_rest(const struct transfer *whole, size_t done, size_t bytes)
{
    struct iovec rest[WINDOW_ELEMENTS];

    while (done < bytes) {
        struct transfer t = *whole;
        int64_t rc;

        t.iov = rest;
        t.count = window(whole->iov, whole->count, done, rest);
        t.offset = whole->offset + done;
        rc = transfer_some(&t);
        if (rc == 0 && whole->is_write) {
            return -ENOSPC;
        }
        if (rc == 0 || (rc == -EINVAL && !whole->is_write)) {
            break; /* O_DIRECT refuses to go on where the file ends off a sector's boundary */
        }
        if (rc < 0) {
            return rc;
        }
        done += (size_t)rc;
    }
    return (ssize_t)done;
}

CO_FN
static ssize_t transfer_all(struct transfer *t)
{
    size_t bytes = iov_bytes(t->iov, t->count);
    int64_t rc;

    assert(t->count <= IOV_MAX_ELEMENTS);
    if (bytes == 0) {
        return 0;
    }
    rc = transfer_some(t);
    if (rc == 0 && t->is_write) {
        return -ENOSPC;
    }
    if (rc <= 0 || (size_t)rc == bytes) {
        return rc;
    }
    return transfer_rest(t, (size_t)rc, bytes);
}

ssize_t io_co_preadv(struct io_file *file, const struct iovec *iov, size_t count, uint64_t offset)
{
    struct transfer t = {.file = file, .iov = iov, .count = count, .offset = offset};

    return transfer_all(&t);
}

ssize_t io_co_pwritev(struct io_file *file, const struct iovec *iov, size_t count, uint64_t offset,
                      unsigned flags)
{
    struct transfer t = {.file = file, .iov = iov, .count = count, .offset = offset,
                         .is_write = true, .is_dsync = (flags & IO_FUA) != 0};

    return transfer_all(&t);
}

BLOCKING
static int64_t fdatasync_blocking(void *opaque)
{
    const struct io_file *file = opaque;

    return os_fdatasync(file->fd);
}

int io_co_fdatasync(struct io_file *file)
{
    int64_t rc;

    do {
        rc = pool_co_call(&file->share, fdatasync_blocking, file);
    } while (rc == -EINTR);
    return (int)rc;
}

struct fallocate {
    int fd, mode;
    uint64_t offset, bytes;
};

BLOCKING
static int64_t fallocate_blocking(void *opaque)
{
    const struct fallocate *f = opaque;

    return os_fallocate(f->fd, f->mode, f->offset, f->bytes);
}

int io_co_fallocate(struct io_file *file, int mode, uint64_t offset, uint64_t bytes)
{
    struct fallocate f = {.fd = file->fd, .mode = mode, .offset = offset, .bytes = bytes};
    int64_t rc;

    do {
        rc = pool_co_call(&file->share, fallocate_blocking, &f);
    } while (rc == -EINTR);
    return (int)rc;
}
