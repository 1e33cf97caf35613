/*
 * file.c -- regular files. A simulated file is a name and a memory file of the real system, so that
 * holes, punching and shared mappings behave as they do; names, access modes, direct I/O's
 * alignment and open-file-description locks are simulated here. Folders need not be made.
 */
#include "os/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "sim/sim_int.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DIRECT_ALIGNMENT = 512 };

struct lock {
    struct list link;
    const struct open_file *holder;
    uint64_t begin, end;
    enum os_lock_kind kind;
};

struct inode {
    struct list link; /* on `inodes` while it has a name */
    char *path;       /* NULL: unlinked, or a memfd */
    unsigned opens;
    int real_fd;
    unsigned number;
    struct list locks;
};

struct open_file {
    struct sim_desc desc;
    struct inode *inode;
    int flags;
    uint64_t position;
};

static struct list inodes = LIST_INIT(inodes);
static unsigned inode_numbers, temporary_names;

/* ---- inodes ---- */

static struct inode *inode_new(const char *path)
{
    struct inode *inode = mem_new(struct inode);

    inode->path = mem_strdup(path);
    inode->number = ++inode_numbers;
    inode->real_fd = memfd_create("sim", MFD_CLOEXEC);
    if (inode->real_fd < 0) {
        panic("sim: no memory file: %s", strerror(errno));
    }
    list_init(&inode->locks);
    list_init(&inode->link);
    if (path != NULL) {
        list_add_tail(&inodes, &inode->link);
    }
    return inode;
}

static void inode_free_unused(struct inode *inode)
{
    if (inode->opens == 0 && inode->path == NULL) {
        close(inode->real_fd);
        mem_free(inode);
    }
}

static void inode_remove_name(struct inode *inode)
{
    list_remove(&inode->link);
    mem_free(take(&inode->path));
    inode_free_unused(inode);
}

static struct inode *inode_find(const char *path)
{
    struct inode *inode;

    list_for_each(inode, &inodes, link)
    {
        if (str_equal(inode->path, path)) {
            return inode;
        }
    }
    return NULL;
}

void sim_file_reset(void)
{
    while (!list_is_empty(&inodes)) {
        inode_remove_name(list_first(&inodes, struct inode, link));
    }
    inode_numbers = temporary_names = 0;
}

/* ---- open files ---- */

static unsigned file_poll(struct sim_desc *desc)
{
    return POLLIN | POLLOUT;
}

static ssize_t file_read(struct sim_desc *desc, void *to, size_t bytes)
{
    struct open_file *file = (struct open_file *)desc;
    ssize_t got = pread(file->inode->real_fd, to, bytes, (off_t)file->position);

    file->position += got > 0 ? (uint64_t)got : 0;
    return got < 0 ? -errno : got;
}

static ssize_t file_write(struct sim_desc *desc, const void *from, size_t bytes)
{
    struct open_file *file = (struct open_file *)desc;
    ssize_t put;

    if ((file->flags & O_ACCMODE) == O_RDONLY) {
        return -EBADF;
    }
    put = pwrite(file->inode->real_fd, from, bytes, (off_t)file->position);
    file->position += put > 0 ? (uint64_t)put : 0;
    return put < 0 ? -errno : put;
}

static void drop_locks(struct open_file *file, uint64_t begin, uint64_t end);

static void file_close(struct sim_desc *desc)
{
    struct open_file *file = (struct open_file *)desc;
    struct inode *inode = file->inode;

    drop_locks(file, 0, UINT64_MAX);
    mem_free(file);
    inode->opens--;
    inode_free_unused(inode);
}

static const struct sim_desc_ops file_ops = {
    .poll = file_poll,
    .read = file_read,
    .write = file_write,
    .close = file_close,
    .mode = S_IFREG | 0644,
};

static int file_install(struct inode *inode, int flags)
{
    struct open_file *file = mem_new(struct open_file);

    sim_desc_init(&file->desc, &file_ops);
    file->inode = inode;
    file->flags = flags;
    inode->opens++;
    return sim_fd_install(&file->desc);
}

static struct open_file *file_of(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    return desc != NULL && desc->ops == &file_ops ? (struct open_file *)desc : NULL;
}

int sim_file_real(int fd)
{
    struct open_file *file = file_of(fd);

    return file != NULL ? file->inode->real_fd : -EBADF;
}

int os_open(const char *path, int flags, unsigned mode)
{
    struct inode *inode;
    int fault;

    sim_sleep(sim_latency());
    fault = sim_fault("open", EMFILE);
    if (fault < 0) {
        return fault;
    }
    inode = inode_find(path);
    if (inode == NULL && sim_socket_exists(path)) {
        return -ENXIO;
    }
    if (inode == NULL && !(flags & O_CREAT)) {
        return -ENOENT;
    }
    if (inode != NULL && (flags & O_CREAT) && (flags & O_EXCL)) {
        return -EEXIST;
    }
    if (inode == NULL) {
        inode = inode_new(path);
    } else if (flags & O_TRUNC) {
        ftruncate(inode->real_fd, 0);
    }
    return file_install(inode, flags);
}

char *os_path_absolute(const char *path)
{
    return mem_strdup(path); /* one folder */
}

int os_mkstemp(char *path_template)
{
    size_t length = strlen(path_template);

    if (length < 6) {
        return -EINVAL;
    }
    snprintf(path_template + length - 6, 7, "%06u", ++temporary_names % 1000000);
    return os_open(path_template, O_RDWR | O_CREAT | O_EXCL, 0600);
}

int os_memfd(const char *name, uint64_t bytes)
{
    struct inode *inode;
    int fault = sim_fault("memfd", EMFILE), fd;

    if (fault < 0) {
        return fault;
    }
    inode = inode_new(NULL);
    if (ftruncate(inode->real_fd, (off_t)bytes) < 0) {
        int rc = -errno;

        inode_free_unused(inode);
        return rc;
    }
    fd = file_install(inode, O_RDWR);
    return fd;
}

/* ---- transfers ---- */

static bool is_aligned(const struct iovec *iov, int count, uint64_t offset)
{
    uint64_t bits = offset;

    for (int i = 0; i < count; i++) {
        bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
    }
    return bits % DIRECT_ALIGNMENT == 0;
}

/* As many leading bytes of @iov as an interrupted transfer would do: half, in whole sectors. */
static int shorten(const struct iovec *iov, int count, struct iovec *to)
{
    size_t total = 0, keep;
    int n = 0;

    for (int i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    keep = total / 2 / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT;
    if (keep == 0) {
        keep = total;
    }
    for (; n < count && keep > 0; n++) {
        to[n] = iov[n];
        to[n].iov_len = min_of(to[n].iov_len, keep);
        keep -= to[n].iov_len;
    }
    return n;
}

ssize_t sim_file_transfer(int fd, const struct iovec *iov, int count, uint64_t offset,
                          bool is_write)
{
    struct open_file *file = file_of(fd);
    struct iovec part[IOV_MAX];
    ssize_t done;

    if (file == NULL || (is_write && (file->flags & O_ACCMODE) == O_RDONLY) ||
        (!is_write && (file->flags & O_ACCMODE) == O_WRONLY)) {
        return -EBADF;
    }
    if (count > IOV_MAX || ((file->flags & O_DIRECT) && !is_aligned(iov, count, offset))) {
        return -EINVAL;
    }
    if (sim_fault("short-transfer", EIO) < 0) {
        count = shorten(iov, count, part);
        iov = part;
    }
    done = is_write ? pwritev(file->inode->real_fd, iov, count, (off_t)offset)
                    : preadv(file->inode->real_fd, iov, count, (off_t)offset);
    return done < 0 ? -errno : done;
}

ssize_t os_preadv(int fd, const struct iovec *iov, int count, uint64_t offset)
{
    int fault;

    sim_sleep(sim_latency());
    fault = sim_fault("preadv", EIO);
    return fault < 0 ? fault : sim_file_transfer(fd, iov, count, offset, false);
}

ssize_t os_pwritev(int fd, const struct iovec *iov, int count, uint64_t offset, bool dsync)
{
    int fault;

    sim_sleep(sim_latency());
    fault = sim_fault("pwritev", ENOSPC);
    return fault < 0 ? fault : sim_file_transfer(fd, iov, count, offset, true);
}

/* The real descriptor for a call named @name that takes its time, or why not. */
static int begin(int fd, const char *name, int errnum)
{
    int fault;

    sim_sleep(sim_latency());
    fault = sim_fault(name, errnum);
    return fault < 0 ? fault : sim_file_real(fd);
}

int os_fdatasync(int fd)
{
    int real_fd = begin(fd, "fdatasync", EIO);

    return min_of(real_fd, 0);
}

int os_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
    int real_fd = begin(fd, "fallocate", ENOSPC);

    if (real_fd < 0) {
        return real_fd;
    }
    return fallocate(real_fd, mode, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
}

int os_ftruncate(int fd, uint64_t bytes)
{
    int real_fd = begin(fd, "ftruncate", EIO);

    if (real_fd < 0) {
        return real_fd;
    }
    return ftruncate(real_fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int stat_inode(const struct inode *inode, struct stat *ret_stat)
{
    struct stat real;

    if (fstat(inode->real_fd, &real) < 0) {
        return -errno;
    }
    memset(ret_stat, 0, sizeof(*ret_stat));
    ret_stat->st_mode = S_IFREG | 0644;
    ret_stat->st_nlink = inode->path != NULL;
    ret_stat->st_size = real.st_size;
    ret_stat->st_blocks = real.st_blocks;
    ret_stat->st_blksize = 4096;
    ret_stat->st_dev = 1;
    ret_stat->st_ino = inode->number;
    return 0;
}

int os_fstat(int fd, struct stat *ret_stat)
{
    struct open_file *file = file_of(fd);
    struct sim_desc *desc = sim_fd_get(fd);

    sim_step("fstat");
    if (desc == NULL) {
        return -EBADF;
    }
    if (file == NULL) {
        memset(ret_stat, 0, sizeof(*ret_stat));
        ret_stat->st_mode = desc->ops->mode;
        return 0;
    }
    return stat_inode(file->inode, ret_stat);
}

int os_stat(const char *path, struct stat *ret_stat)
{
    struct inode *inode = inode_find(path);

    sim_step("stat");
    if (inode != NULL) {
        return stat_inode(inode, ret_stat);
    }
    if (!sim_socket_exists(path)) {
        return -ENOENT;
    }
    memset(ret_stat, 0, sizeof(*ret_stat));
    ret_stat->st_mode = S_IFSOCK | 0755;
    return 0;
}

int os_unlink(const char *path)
{
    struct inode *inode = inode_find(path);

    sim_step("unlink");
    if (inode != NULL) {
        inode_remove_name(inode);
        return 0;
    }
    return sim_socket_remove(path) ? 0 : -ENOENT;
}

int os_rename(const char *from, const char *to)
{
    struct inode *inode = inode_find(from), *old = inode_find(to);

    sim_step("rename");
    if (inode == NULL) {
        return -ENOENT;
    }
    if (old != NULL && old != inode) {
        inode_remove_name(old);
    }
    mem_free(inode->path);
    inode->path = mem_strdup(to);
    return 0;
}

static int64_t seek(int fd, uint64_t offset, int whence)
{
    int real_fd = begin(fd, "lseek", EIO);
    off_t found;

    if (real_fd < 0) {
        return real_fd;
    }
    found = lseek(real_fd, (off_t)offset, whence);
    return found < 0 ? -errno : found;
}

int64_t os_seek_data(int fd, uint64_t offset)
{
    return seek(fd, offset, SEEK_DATA);
}

int64_t os_seek_hole(int fd, uint64_t offset)
{
    return seek(fd, offset, SEEK_HOLE);
}

int os_block_device_bytes(int fd, uint64_t *ret_bytes)
{
    return -ENOTTY;
}

int os_block_device_sector(int fd, unsigned *ret_bytes)
{
    return -ENOTTY;
}

int os_direct_alignment(int fd, unsigned *ret_memory, unsigned *ret_offset)
{
    if (file_of(fd) == NULL) {
        return -EBADF;
    }
    *ret_memory = *ret_offset = DIRECT_ALIGNMENT;
    return 0;
}

/* ---- locks ---- */

static uint64_t lock_end(uint64_t offset, uint64_t bytes)
{
    return bytes == 0 ? UINT64_MAX : offset + bytes;
}

static void add_lock(struct open_file *file, uint64_t begin_at, uint64_t end,
                     enum os_lock_kind kind)
{
    struct lock *lock = mem_new(struct lock);

    lock->holder = file;
    lock->begin = begin_at;
    lock->end = end;
    lock->kind = kind;
    list_add_tail(&file->inode->locks, &lock->link);
}

static void drop_locks(struct open_file *file, uint64_t begin_at, uint64_t end)
{
    struct lock *lock, *next;
    struct list kept = LIST_INIT(kept);

    list_splice_tail(&kept, &file->inode->locks);
    list_for_each_safe(lock, next, &kept, link)
    {
        list_remove(&lock->link);
        if (lock->holder != file || lock->end <= begin_at || end <= lock->begin) {
            list_add_tail(&file->inode->locks, &lock->link);
            continue;
        }
        if (lock->begin < begin_at) {
            add_lock(file, lock->begin, begin_at, lock->kind);
        }
        if (end < lock->end) {
            add_lock(file, end, lock->end, lock->kind);
        }
        mem_free(lock);
    }
}

static bool conflicts(const struct open_file *file, uint64_t begin_at, uint64_t end,
                      enum os_lock_kind kind)
{
    const struct lock *lock;

    list_for_each(lock, &file->inode->locks, link)
    {
        if (lock->holder != file && lock->begin < end && begin_at < lock->end &&
            (kind == OS_LOCK_EXCLUSIVE || lock->kind == OS_LOCK_EXCLUSIVE)) {
            return true;
        }
    }
    return false;
}

int os_lock_test(int fd, uint64_t offset, uint64_t bytes, enum os_lock_kind kind)
{
    struct open_file *file = file_of(fd);

    sim_step("lock-test");
    if (file == NULL) {
        return -EBADF;
    }
    return conflicts(file, offset, lock_end(offset, bytes), kind) ? -EAGAIN : 0;
}

int os_lock(int fd, uint64_t offset, uint64_t bytes, enum os_lock_kind kind)
{
    struct open_file *file;
    int fault;

    sim_sleep(sim_latency());
    fault = sim_fault("lock", ENOLCK);
    file = file_of(fd);
    if (file == NULL || fault < 0) {
        return file == NULL ? -EBADF : fault;
    }
    if (conflicts(file, offset, lock_end(offset, bytes), kind)) {
        return -EAGAIN;
    }
    drop_locks(file, offset, lock_end(offset, bytes));
    add_lock(file, offset, lock_end(offset, bytes), kind);
    return 0;
}

int os_unlock(int fd, uint64_t offset, uint64_t bytes)
{
    struct open_file *file = file_of(fd);

    sim_step("unlock");
    if (file == NULL) {
        return -EBADF;
    }
    drop_locks(file, offset, lock_end(offset, bytes));
    return 0;
}

/* ---- for tests ---- */

void sim_file_create(const char *path, uint64_t bytes)
{
    struct inode *inode = inode_find(path);

    if (inode == NULL) {
        inode = inode_new(path);
    }
    if (ftruncate(inode->real_fd, (off_t)bytes) < 0) {
        panic("sim: no room for '%s'", path);
    }
}

size_t sim_file_peek(const char *path, uint64_t offset, void *to, size_t bytes)
{
    struct inode *inode = inode_find(path);
    ssize_t got = inode != NULL ? pread(inode->real_fd, to, bytes, (off_t)offset) : 0;

    return got > 0 ? (size_t)got : 0;
}
