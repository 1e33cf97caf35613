/* socket.h -- non-blocking stream sockets. >= 0 or -errno; -EAGAIN: wait for the fd. */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include <sys/types.h>
#include <sys/uio.h>

/* descriptors we look at in one message; more are closed and counted */
enum { OS_SOCKET_FDS_MAX = 32 };

CTX_ANY_BEGIN
/* UNIX: unlinks a stale socket file first (one nobody answers at). -ENAMETOOLONG above 107
 * bytes. */
int os_listen_unix(const char *path, int backlog);
/* blocks at most until the backlog takes it: local and short */
int os_connect_unix(const char *path);
int os_accept(int fd);
int os_socketpair(int ret_fds[2]);
ssize_t os_send(int fd, const struct iovec *iov, int count, const int *fds, int fd_count);
/* Descriptors received go to @ret_fds (capacity OS_SOCKET_FDS_MAX), *@ret_fd_count counts them all,
 * also those that did not fit (closed). They are the caller's even if the text is nonsense. 0: end
 * of file. */
ssize_t os_receive(int fd, void *to, size_t bytes, int *ret_fds, int *ret_fd_count);
int os_socket_shutdown(int fd);
int os_fd_set_nonblocking(int fd);
bool os_fd_is_socket(int fd);
pid_t os_socket_peer_pid(int fd); /* who was at the other end when it was made; 0: cannot tell */
CTX_ANY_END

enum os_fd_event { OS_FD_IN = 1, OS_FD_OUT = 4 }; /* poll(2)'s numbers */
/* Wait until @fd is ready for one of @events (enum os_fd_event), at most @timeout_ns from now. The
 * events that hold (errors and hang-up too), 0: none in time, -EINTR. For programs without a
 * loop. */
BLOCKING
int os_fd_wait(int fd, unsigned events, uint64_t timeout_ns);
