/*
 * socket.c -- unix stream sockets and the descriptors that travel over them.
 *
 * A message's descriptors are taken into a buffer that holds as many as the kernel passes at once
 * (SCM_MAX_FD), so none is lost by truncation and all that do not fit the caller's are closed here.
 */
#include "os/socket.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SCM_FDS_MAX = 253 }; /* the kernel's SCM_MAX_FD */

union control {
    struct cmsghdr header; /* alignment */
    char bytes[CMSG_SPACE(SCM_FDS_MAX * sizeof(int))];
};

static int unix_address(const char *path, struct sockaddr_un *ret_address)
{
    size_t length = strlen(path);

    if (length >= sizeof(ret_address->sun_path)) {
        return -ENAMETOOLONG;
    }
    memset(ret_address, 0, sizeof(*ret_address));
    ret_address->sun_family = AF_UNIX;
    memcpy(ret_address->sun_path, path, length);
    return 0;
}

static int stream_socket(int flags)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    return fd < 0 ? -errno : fd;
}

static int connect_to(const struct sockaddr_un *address, int flags)
{
    int fd = stream_socket(flags), rc;

    if (fd < 0) {
        return fd;
    }
    do {
        rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* Whoever listened at the other end of @fd is no more. (A killed process's ring may keep its
 * sockets open a little longer than itself.) */
static bool listener_is_dead(int fd)
{
    pid_t pid = os_socket_peer_pid(fd);

    return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* Remove @address's socket file if nobody answers there. */
static void remove_stale(const struct sockaddr_un *address)
{
    struct stat info;
    int fd;

    if (lstat(address->sun_path, &info) < 0 || !S_ISSOCK(info.st_mode)) {
        return; /* bind() will say what is wrong, if anything */
    }
    fd = connect_to(address, SOCK_NONBLOCK);
    if (fd == -ECONNREFUSED || (fd >= 0 && listener_is_dead(fd))) {
        unlink(address->sun_path);
    }
    if (fd >= 0) {
        close(fd);
    }
}

int os_listen_unix(const char *path, int backlog)
{
    struct sockaddr_un address;
    int rc = unix_address(path, &address), fd;

    if (rc < 0) {
        return rc;
    }
    remove_stale(&address);
    fd = stream_socket(SOCK_NONBLOCK);
    if (fd < 0) {
        return fd;
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, backlog) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int os_connect_unix(const char *path)
{
    struct sockaddr_un address;
    int rc = unix_address(path, &address), fd;

    if (rc < 0) {
        return rc;
    }
    fd = connect_to(&address, 0);
    if (fd >= 0) {
        rc = os_fd_set_nonblocking(fd);
        if (rc < 0) {
            close(fd);
            return rc;
        }
    }
    return fd;
}

int os_accept(int fd)
{
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    return client < 0 ? -errno : client;
}

int os_socketpair(int ret_fds[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0 ? -errno
                                                                                            : 0;
}

static void attach_fds(struct msghdr *message, union control *control, const int *fds, int count)
{
    size_t bytes = (size_t)count * sizeof(int);
    struct cmsghdr *header;

    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(bytes);
    memset(control->bytes, 0, message->msg_controllen);
    header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(header), fds, bytes);
}

ssize_t os_send(int fd, const struct iovec *iov, int count, const int *fds, int fd_count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                             .msg_iovlen = (size_t)count};
    union control control;
    ssize_t bytes;

    if (fd_count > SCM_FDS_MAX) {
        return -E2BIG;
    }
    if (fd_count > 0) {
        attach_fds(&message, &control, fds, fd_count);
    }
    bytes = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return bytes < 0 ? -errno : bytes;
}

/* The descriptors of one control message, appended to @fds as far as they fit; the new total. */
static int collect_fds(const struct cmsghdr *header, int *fds, int total)
{
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < count; i++) {
        int fd;

        memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
        if (total < OS_SOCKET_FDS_MAX) {
            fds[total] = fd;
        } else {
            close(fd);
        }
        total++;
    }
    return total;
}

ssize_t os_receive(int fd, void *to, size_t bytes, int *ret_fds, int *ret_fd_count)
{
    union control control;
    struct iovec iov = {.iov_base = to, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    int total = 0;

    if (received < 0) {
        return -errno;
    }
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            total = collect_fds(header, ret_fds, total);
        }
    }
    *ret_fd_count = total;
    return received;
}

int os_socket_shutdown(int fd)
{
    return shutdown(fd, SHUT_RDWR) < 0 ? -errno : 0;
}

int os_fd_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    return 0;
}

bool os_fd_is_socket(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

pid_t os_socket_peer_pid(int fd)
{
    socklen_t bytes = sizeof(struct ucred);
    struct ucred peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 ? 0 : peer.pid;
}

static_assert(OS_FD_IN == POLLIN && OS_FD_OUT == POLLOUT, "poll(2)'s numbers");

int os_fd_wait(int fd, unsigned events, uint64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                               .tv_nsec = (long)(timeout_ns % 1000000000)};
    struct pollfd watch = {.fd = fd, .events = (short)events};
    int rc = ppoll(&watch, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);

    if (rc < 0) {
        return -errno;
    }
    return rc == 0 ? 0 : (unsigned short)watch.revents;
}
