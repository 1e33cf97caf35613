/*
 * file.c -- a regular file as a disk.
 *
 * (F1) Whatever may block on a slow file system (open, close, stat, locks, seeks) runs in the
 *      worker pool; transfers go through the loop's engine, or the pool with aio=threads.
 * (F2) O_DIRECT: the alignment of offsets and memory is what statx says, or found by trying.
 * (F3) A failed flush of the page cache loses what was to be flushed, and the next one would
 *      succeed: so every later flush fails as well.
 * (F4) What a file system turns out not to support (holes, zeroing a range) is remembered and
 *      answered with -ENOTSUP; the core does it another way.
 */
#include "base/iov.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/drivers.h"
#include "block/protocol/file_int.h"
#include "os/file.h"
#include "sync/atomic.h"
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

enum { PROBE_BYTES_MAX = 4096, PROBE_BYTES_MIN = 512 };

enum file_aio { FILE_AIO_THREADS, FILE_AIO_NATIVE, FILE_AIO_IO_URING };
enum file_locking { FILE_LOCKING_AUTO, FILE_LOCKING_ON, FILE_LOCKING_OFF };

struct file_options {
    struct blk_common_options common;
    char *filename;
    int aio;
    int locking;
};

struct list file_all = LIST_INIT(file_all);

static const char *const aio_names[] = {"threads", "native", "io_uring", NULL};
static const char *const locking_names[] = {"auto", "on", "off", NULL};

static const struct opt file_opts[] = {
    {.name = "filename", .type = OPT_STR, .flags = OPT_REQUIRED,
     OPT_AT(struct file_options, filename), .since = "0.1", .help = "path of the image"},
    {.name = "aio", .type = OPT_ENUM, OPT_AT(struct file_options, aio), .names = aio_names,
     .dflt = "threads", .since = "0.1",
     .help = "who does the I/O: worker threads, or the loop's engine (native needs "
             "cache.direct=on)"},
    {.name = "locking", .type = OPT_ENUM, OPT_AT(struct file_options, locking),
     .names = locking_names, .dflt = "auto", .since = "0.1",
     .help = "image locking; auto: where the file system can"},
};

static const struct opt_table file_options_table = {
    .name = "BlockdevOptionsFile",
    .help = "a regular file",
    .base = &blk_common_options_table,
    .opts = file_opts,
    .count = countof(file_opts),
    .values_bytes = sizeof(struct file_options),
};

/* ---- open (F1) ------------------------------------------------------------------------------- */

enum open_step { STEP_OPEN, STEP_STAT, STEP_TYPE, STEP_ALIGNMENT, STEP_LOCK };

/* What the pool thread is asked and what it found. */
struct open_call {
    const struct file_options *options;
    bool read_only;
    enum open_step failed;
    int fd;
    struct stat stat;
    unsigned memory_alignment, request_alignment;
    int lock_probe;
};

/* Does a read of this length from this address work? A file shorter than that says nothing
 * wrong. */
BLOCKING
static bool try_read(int fd, uint8_t *buffer, size_t bytes)
{
    struct iovec iov = {buffer, bytes};

    return os_preadv(fd, &iov, 1, 0) >= 0;
}

/* (F2), for kernels and file systems that statx knows nothing about. */
BLOCKING
static int probe_alignment(int fd, unsigned *ret_memory, unsigned *ret_request)
{
    AUTO_MEM uint8_t *buffer = mem_try_alloc_aligned(PROBE_BYTES_MAX, 2 * PROBE_BYTES_MAX);

    if (buffer == NULL) {
        return -ENOMEM;
    }
    for (unsigned request = PROBE_BYTES_MIN; request <= PROBE_BYTES_MAX; request *= 2) {
        if (!try_read(fd, buffer, request)) {
            continue;
        }
        *ret_request = request;
        for (unsigned memory = PROBE_BYTES_MIN; memory <= PROBE_BYTES_MAX; memory *= 2) {
            if (try_read(fd, buffer + memory, request)) {
                *ret_memory = memory;
                return 0;
            }
        }
    }
    return -EINVAL;
}

BLOCKING
static int find_alignment(struct open_call *call)
{
    unsigned memory = 0;
    unsigned request = 0;

    if (!call->options->common.cache.direct) {
        call->memory_alignment = call->request_alignment = 1;
        return 0;
    }
    if (os_direct_alignment(call->fd, &memory, &request) == 0 && memory != 0 && request != 0) {
        call->memory_alignment = memory;
        call->request_alignment = request;
        return 0;
    }
    return probe_alignment(call->fd, &call->memory_alignment, &call->request_alignment);
}

BLOCKING
static int open_fd(struct open_call *call)
{
    const struct file_options *options = call->options;
    int direct = options->common.cache.direct ? O_DIRECT : 0;
    int fd = os_open(options->filename, (call->read_only ? O_RDONLY : O_RDWR) | direct, 0);

    if ((fd == -EACCES || fd == -EPERM || fd == -EROFS) && !call->read_only &&
        options->common.auto_read_only) {
        call->read_only = true;
        fd = os_open(options->filename, O_RDONLY | direct, 0);
    }
    return fd;
}

/* Step by step; call->failed says which one did not work. */
BLOCKING
static int open_steps(struct open_call *call)
{
    int rc;

    call->failed = STEP_STAT;
    rc = os_fstat(call->fd, &call->stat);
    if (rc < 0) {
        return rc;
    }
    call->failed = STEP_TYPE;
    if (!S_ISREG(call->stat.st_mode)) {
        return -EINVAL;
    }
    call->failed = STEP_ALIGNMENT;
    rc = find_alignment(call);
    if (rc < 0) {
        return rc;
    }
    call->failed = STEP_LOCK;
    if (call->options->locking == FILE_LOCKING_OFF) {
        return 0;
    }
    call->lock_probe = file_lock_probe(call->fd);
    return call->options->locking == FILE_LOCKING_ON ? call->lock_probe : 0;
}

BLOCKING
static int64_t open_blocking(void *opaque)
{
    struct open_call *call = opaque;
    int rc;

    call->failed = STEP_OPEN;
    call->fd = open_fd(call);
    if (call->fd < 0) {
        return call->fd;
    }
    rc = open_steps(call);
    if (rc < 0) {
        os_close(call->fd);
    }
    return rc;
}

/* Only now, because it may block as well: was it the direct access that was refused? */
BLOCKING
static int64_t opens_without_direct(void *opaque)
{
    struct open_call *call = opaque;
    int fd = os_open(call->options->filename, call->read_only ? O_RDONLY : O_RDWR, 0);

    if (fd < 0) {
        return false;
    }
    os_close(fd);
    return true;
}

MAIN_LOOP CO_FN
static int report_open(struct open_call *call, int rc, struct err **reterr)
{
    const char *path = call->options->filename;

    switch (call->failed) {
    case STEP_OPEN:
        if (rc == -EINVAL && call->options->common.cache.direct &&
            pool_co_call(NULL, opens_without_direct, call)) {
            return err_set(reterr, EINVAL,
                           "Could not open '%s': filesystem does not support O_DIRECT", path);
        }
        return err_set_errno(reterr, -rc, "Could not open '%s'", path);
    case STEP_STAT:
        return err_set_errno(reterr, -rc, "Could not stat '%s'", path);
    case STEP_TYPE:
        return err_set(reterr, EINVAL, "'file' driver requires '%s' to be a regular file", path);
    case STEP_ALIGNMENT:
        return err_set_errno(reterr, -rc,
                             "Could not find working O_DIRECT alignment for '%s', try "
                             "cache.direct=off",
                             path);
    case STEP_LOCK:
        return err_set_errno(reterr, -rc, "locking=on: '%s' cannot be locked", path);
    }
    unreachable();
}

MAIN_LOOP
static void set_up(struct blk_node *node, const struct open_call *call)
{
    const struct file_options *options = call->options;
    struct file_state *file = blk_node_state(node);
    struct blk_limits *limits = blk_node_limits_rw(node);

    file->node = node;
    file->fd = call->fd;
    file->path = mem_strdup(options->filename);
    file->is_direct = options->common.cache.direct;
    file->device = call->stat.st_dev;
    file->inode = call->stat.st_ino;
    file->can_punch = true;
    file->can_zero_range = true;
    file->uses_locks = options->locking != FILE_LOCKING_OFF && call->lock_probe == 0;
    io_file_init(&file->io, call->fd,
                 options->aio == FILE_AIO_THREADS ? IO_THREADS : IO_ENGINE);
    list_add_tail(&file_all, &file->link);
    limits->request_alignment = call->request_alignment;
    limits->memory_alignment = call->memory_alignment;
    limits->discard_alignment = (uint32_t)call->stat.st_blksize;
    if (call->read_only) {
        blk_node_set_read_only(node);
    }
    blk_node_set_bytes(node, (uint64_t)call->stat.st_size);
}

MAIN_LOOP CO_FN
static int file_co_open(struct blk_node *node, const void *values, struct err **reterr)
{
    const struct file_options *options = values;
    struct open_call call = {.options = options, .read_only = options->common.read_only};
    int rc;

    if (options->aio == FILE_AIO_NATIVE && !options->common.cache.direct) {
        return err_set(reterr, EINVAL,
                       "aio=native was specified, but it requires cache.direct=on, which was not "
                       "specified.");
    }
    rc = (int)pool_co_call(NULL, open_blocking, &call);
    if (rc < 0) {
        return report_open(&call, rc, reterr);
    }
    if (call.lock_probe < 0) {
        log_warn("node '%s': '%s' cannot be locked (%s); another process may use it too",
                 blk_node_name(node), options->filename, strerror(-call.lock_probe));
    }
    set_up(node, &call);
    return 0;
}

BLOCKING
static int64_t close_blocking(void *opaque)
{
    return os_close(*(int *)opaque);
}

MAIN_LOOP CO_FN
static void file_co_close(struct blk_node *node)
{
    struct file_state *file = blk_node_state(node);

    pool_co_call(NULL, close_blocking, &file->fd); /* and its locks are gone */
    list_remove(&file->link);
    io_file_fini(&file->io);
    mem_free(file->path);
}

MAIN_LOOP
static const char *file_filename(const struct blk_node *node)
{
    const struct file_state *file = blk_node_state(node);

    return file->path;
}

/* ---- I/O ------------------------------------------------------------------------------------- */

/* The rest of what was asked lies beyond the end of the file. */
static int finish_read(const struct iovec *iov, size_t count, uint64_t bytes, int64_t done)
{
    if (done < 0) {
        return (int)done;
    }
    if (unlikely((uint64_t)done < bytes)) {
        iov_fill(iov, count, (size_t)done, 0, (size_t)bytes - (size_t)done);
    }
    return 0;
}

CO_FN GRAPH_RD
static int file_co_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          const struct iovec *iov, size_t count, unsigned flags)
{
    struct file_state *file = blk_node_state(node);

    return finish_read(iov, count, bytes, io_co_preadv(&file->io, iov, count, offset));
}

CO_FN GRAPH_RD
static int file_co_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                           const struct iovec *iov, size_t count, unsigned flags)
{
    struct file_state *file = blk_node_state(node);
    ssize_t rc = io_co_pwritev(&file->io, iov, count, offset,
                               (flags & BLK_REQ_FUA) ? (unsigned)IO_FUA : 0);

    return rc < 0 ? (int)rc : 0;
}

/* (F3) */
CO_FN GRAPH_RD
static int file_co_flush(struct blk_node *node)
{
    struct file_state *file = blk_node_state(node);
    int rc = at_load(&file->flush_error);

    if (rc < 0) {
        return rc;
    }
    rc = io_co_fdatasync(&file->io);
    if (rc < 0 && !file->is_direct) {
        at_store(&file->flush_error, rc);
    }
    return rc;
}

/* (F4) */
CO_FN
static int fallocate_or_note(struct file_state *file, int mode, uint64_t offset, uint64_t bytes,
                             bool *can)
{
    int rc;

    if (!at_load_relaxed(can)) { /* a hint: at worst the file system is asked once more */
        return -ENOTSUP;
    }
    rc = io_co_fallocate(&file->io, mode, offset, bytes);
    if (rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENODEV || rc == -EINVAL) {
        at_store_relaxed(can, false); /* the same hint */
        return -ENOTSUP;
    }
    return rc;
}

CO_FN GRAPH_RD
static int file_co_discard(struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    struct file_state *file = blk_node_state(node);

    return fallocate_or_note(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes,
                             &file->can_punch);
}

CO_FN GRAPH_RD
static int file_co_write_zeroes(struct blk_node *node, uint64_t offset, uint64_t bytes,
                                unsigned flags)
{
    struct file_state *file = blk_node_state(node);
    int rc = -ENOTSUP;

    if (flags & BLK_REQ_MAY_UNMAP) {
        rc = file_co_discard(node, offset, bytes); /* a hole reads as zeroes */
    }
    if (rc == -ENOTSUP) {
        rc = fallocate_or_note(file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, bytes,
                               &file->can_zero_range);
    }
    return rc;
}

struct status_call {
    int fd;
    uint64_t offset, bytes;
    unsigned status;
    uint64_t run;
};

BLOCKING
static int64_t status_blocking(void *opaque)
{
    struct status_call *call = opaque;
    int64_t data = os_seek_data(call->fd, call->offset);
    int64_t hole;

    if (data == -ENXIO) { /* no data up to the end */
        call->status = BLK_STATUS_ZERO | BLK_STATUS_HOLE;
        call->run = call->bytes;
        return 0;
    }
    call->status = BLK_STATUS_DATA; /* also when the file system cannot say */
    call->run = call->bytes;
    if (data < 0) {
        return 0;
    }
    if ((uint64_t)data > call->offset) {
        call->status = BLK_STATUS_ZERO | BLK_STATUS_HOLE;
        call->run = (uint64_t)data - call->offset;
        return 0;
    }
    hole = os_seek_hole(call->fd, call->offset);
    if (hole > (int64_t)call->offset) {
        call->run = (uint64_t)hole - call->offset;
    }
    return 0;
}

CO_FN GRAPH_RD
static int file_co_status(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          unsigned *ret_status, uint64_t *ret_bytes)
{
    struct file_state *file = blk_node_state(node);
    struct status_call call = {.fd = file->io.fd, .offset = offset, .bytes = bytes};
    int rc = (int)pool_co_call(&file->io.share, status_blocking, &call);

    if (rc == 0) {
        *ret_status = call.status;
        *ret_bytes = call.run;
    }
    return rc;
}

const struct blk_driver blk_driver_file = {
    .name = "file",
    .options = &file_options_table,
    .state_bytes = sizeof(struct file_state),
    .since = "0.1",
    .co_open = file_co_open,
    .co_close = file_co_close,
    .co_set_perms = file_co_set_perms,
    .filename = file_filename,
    .co_preadv = file_co_preadv,
    .co_pwritev = file_co_pwritev,
    .co_flush = file_co_flush,
    .co_discard = file_co_discard,
    .co_write_zeroes = file_co_write_zeroes,
    .co_status = file_co_status,
    .supports_fua = true,
};
