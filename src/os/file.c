/*
 * file.c -- files, eventfds, pipes: a system call each, its error as a negative number.
 */
#include "os/file.h"
#include "base/mem.h"
#include "base/str.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int or_errno(int rc)
{
    return rc < 0 ? -errno : rc;
}

static ssize_t bytes_or_errno(ssize_t bytes)
{
    return bytes < 0 ? -errno : bytes;
}

int os_open(const char *path, int flags, unsigned mode)
{
    return or_errno(open(path, flags | O_CLOEXEC, mode));
}

int os_close(int fd)
{
    return or_errno(close(fd));
}

int os_close_now(int fd)
{
    return or_errno(close(fd));
}

int os_dup(int fd)
{
    return or_errno(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

ssize_t os_preadv(int fd, const struct iovec *iov, int count, uint64_t offset)
{
    return bytes_or_errno(preadv(fd, iov, count, (off_t)offset));
}

ssize_t os_pwritev(int fd, const struct iovec *iov, int count, uint64_t offset, bool dsync)
{
    return bytes_or_errno(pwritev2(fd, iov, count, (off_t)offset, dsync ? RWF_DSYNC : 0));
}

int os_fdatasync(int fd)
{
    return or_errno(fdatasync(fd));
}

int os_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
    return or_errno(fallocate(fd, mode, (off_t)offset, (off_t)bytes));
}

int os_ftruncate(int fd, uint64_t bytes)
{
    return or_errno(ftruncate(fd, (off_t)bytes));
}

int os_fstat(int fd, struct stat *ret_stat)
{
    return or_errno(fstat(fd, ret_stat));
}

int os_stat(const char *path, struct stat *ret_stat)
{
    return or_errno(stat(path, ret_stat));
}

int os_unlink(const char *path)
{
    return or_errno(unlink(path));
}

int os_rename(const char *from, const char *to)
{
    return or_errno(rename(from, to));
}

static int64_t seek(int fd, uint64_t offset, int whence)
{
    off_t found = lseek(fd, (off_t)offset, whence);

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
    return or_errno(ioctl(fd, BLKGETSIZE64, ret_bytes));
}

int os_block_device_sector(int fd, unsigned *ret_bytes)
{
    int bytes;

    if (ioctl(fd, BLKSSZGET, &bytes) < 0) {
        return -errno;
    }
    *ret_bytes = (unsigned)bytes;
    return 0;
}

int os_direct_alignment(int fd, unsigned *ret_memory, unsigned *ret_offset)
{
#ifdef STATX_DIOALIGN
    struct statx info;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) < 0) {
        return -errno;
    }
    if (!(info.stx_mask & STATX_DIOALIGN) || info.stx_dio_offset_align == 0) {
        return -EOPNOTSUPP;
    }
    *ret_memory = info.stx_dio_mem_align;
    *ret_offset = info.stx_dio_offset_align;
    return 0;
#else
    return -EOPNOTSUPP;
#endif
}

static struct flock flock_of(uint64_t offset, uint64_t bytes, short type)
{
    return (struct flock){
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)offset,
        .l_len = (off_t)bytes,
    };
}

static short flock_type(enum os_lock_kind kind)
{
    return kind == OS_LOCK_SHARED ? F_RDLCK : F_WRLCK;
}

int os_lock(int fd, uint64_t offset, uint64_t bytes, enum os_lock_kind kind)
{
    struct flock lock = flock_of(offset, bytes, flock_type(kind));

    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        return errno == EACCES ? -EAGAIN : -errno; /* POSIX allows either for a conflict */
    }
    return 0;
}

int os_unlock(int fd, uint64_t offset, uint64_t bytes)
{
    struct flock lock = flock_of(offset, bytes, F_UNLCK);

    return or_errno(fcntl(fd, F_OFD_SETLK, &lock));
}

int os_lock_test(int fd, uint64_t offset, uint64_t bytes, enum os_lock_kind kind)
{
    struct flock lock = flock_of(offset, bytes, flock_type(kind));

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) {
        return -errno;
    }
    return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

ssize_t os_read(int fd, void *to, size_t bytes)
{
    return bytes_or_errno(read(fd, to, bytes));
}

ssize_t os_write(int fd, const void *from, size_t bytes)
{
    return bytes_or_errno(write(fd, from, bytes));
}

int os_mkstemp(char *path_template)
{
    return or_errno(mkostemp(path_template, O_CLOEXEC));
}

int os_eventfd(void)
{
    return or_errno(eventfd(0, EFD_CLOEXEC));
}

bool os_eventfd_signal(int fd)
{
    const uint64_t one = 1;

    return write(fd, &one, sizeof(one)) >= 0 || errno == EAGAIN || errno == EINTR;
}

/* For kernels before 5.8, whose eventfds do not know RWF_NOWAIT. */
static bool clear_after_poll(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    uint64_t count;

    return poll(&poll_fd, 1, 0) == 1 && read(fd, &count, sizeof(count)) > 0;
}

bool os_eventfd_clear(int fd)
{
    uint64_t count;
    struct iovec iov = {.iov_base = &count, .iov_len = sizeof(count)};

    if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) > 0) {
        return true;
    }
    return errno == EOPNOTSUPP && clear_after_poll(fd);
}

int os_pipe(int ret_fds[2])
{
    return or_errno(pipe2(ret_fds, O_CLOEXEC | O_NONBLOCK));
}

int os_memfd(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)bytes) < 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

unsigned os_fd_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    if (dir == NULL) {
        return 0;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count - 1; /* the directory's own */
}

char *os_path_absolute(const char *path)
{
    char folder[PATH_MAX];

    if (path[0] == '/' || getcwd(folder, sizeof(folder)) == NULL) {
        return mem_strdup(path);
    }
    return str_format("%s/%s", folder, path);
}
