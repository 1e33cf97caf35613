/*
 * file.h -- files. All return >= 0 or -errno; none retries, none logs. The BLOCKING ones run in the
 * worker pool.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

BLOCKING
int os_open(const char *path, int flags, unsigned mode); /* O_CLOEXEC is added */
BLOCKING
int os_close(int fd);
ANY_THREAD
int os_close_now(int fd); /* sockets, eventfds, pipes: cannot block */
ANY_THREAD
int os_dup(int fd); /* close-on-exec */
BLOCKING
ssize_t os_preadv(int fd, const struct iovec *iov, int count, uint64_t offset);
BLOCKING
ssize_t os_pwritev(int fd, const struct iovec *iov, int count, uint64_t offset, bool dsync);
BLOCKING
int os_fdatasync(int fd);
BLOCKING
int os_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes);
BLOCKING
int os_ftruncate(int fd, uint64_t bytes);
BLOCKING
int os_fstat(int fd, struct stat *ret_stat);
BLOCKING
int os_stat(const char *path, struct stat *ret_stat);
BLOCKING
int os_unlink(const char *path);
BLOCKING
int os_rename(const char *from, const char *to);
BLOCKING
int64_t os_seek_data(int fd, uint64_t offset); /* -ENXIO: no data after @offset */
BLOCKING
int64_t os_seek_hole(int fd, uint64_t offset);
BLOCKING
int os_block_device_bytes(int fd, uint64_t *ret_bytes); /* BLKGETSIZE64 */
BLOCKING
int os_block_device_sector(int fd, unsigned *ret_bytes); /* BLKSSZGET */
/* statx(STATX_DIOALIGN): memory and offset alignment of O_DIRECT; -EOPNOTSUPP: the kernel cannot
 * say. */
BLOCKING
int os_direct_alignment(int fd, unsigned *ret_memory, unsigned *ret_offset);

/* Open-file-description locks over [@offset, @offset + @bytes). -EAGAIN: somebody else's. */
enum os_lock_kind { OS_LOCK_SHARED, OS_LOCK_EXCLUSIVE };
BLOCKING
int os_lock(int fd, uint64_t offset, uint64_t bytes, enum os_lock_kind kind);
BLOCKING
int os_unlock(int fd, uint64_t offset, uint64_t bytes);
/* would it do? */
BLOCKING
int os_lock_test(int fd, uint64_t offset, uint64_t bytes, enum os_lock_kind kind);

BLOCKING
ssize_t os_read(int fd, void *to, size_t bytes);
BLOCKING
ssize_t os_write(int fd, const void *from, size_t bytes);
/* @path against the current directory, which daemonizing leaves; free with mem_free(). */
BLOCKING
char *os_path_absolute(const char *path);
/* @dir_fd-less mkstemp: creates and opens; @path_template as mkstemp(3). */
BLOCKING
int os_mkstemp(char *path_template);

/* An eventfd, close-on-exec. Not O_NONBLOCK, so that a read may stay pending in a ring whatever the
 * kernel's version thinks of non-blocking files there; neither call below waits for all that. A
 * foreign eventfd that is to be signalled is made non-blocking first: its peer may have filled
 * it. */
ANY_THREAD
int os_eventfd(void);
ANY_THREAD
bool os_eventfd_signal(int fd); /* a full non-blocking one stays signalled. False: it takes none */
ANY_THREAD
bool os_eventfd_clear(int fd); /* true: it had been signalled */

ANY_THREAD
int os_pipe(int ret_fds[2]); /* non-blocking, close-on-exec */
ANY_THREAD
int os_memfd(const char *name, uint64_t bytes);
ANY_THREAD
unsigned os_fd_count(void); /* open descriptors of this process, for leak tests */
