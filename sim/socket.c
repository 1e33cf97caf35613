/*
 * socket.c -- unix stream sockets and pipes in memory.
 *
 * A connection is two ends; what one sends lies in the other's inbox as messages. A message with
 * descriptors is a boundary: one receive does not reach over it, as the kernel does it. How much a
 * send takes and a receive gives at once is a matter of chance.
 */
#include "os/socket.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/file.h"
#include "sim/sim_int.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

enum { INBOX_BYTES_MAX = 200 << 10, PATH_BYTES_MAX = 107, SCM_FDS_MAX = 253, PEER_PID = 4243 };

struct message {
    struct list link;
    char *text;
    size_t bytes, taken;
    struct sim_desc *fds[SCM_FDS_MAX];
    int fd_count;
};

struct end {
    struct sim_desc desc;
    struct end *peer;   /* NULL: closed */
    struct list inbox;
    size_t inbox_bytes;
    bool shut;          /* shut down, by either side */
    bool is_pipe;
};

struct listener {
    struct sim_desc desc;
    struct socket_name *name; /* NULL: unlinked */
    struct end *waiting[16];
    unsigned waiting_count, backlog;
};

struct socket_name {
    struct list link;
    char *path;
    struct listener *listener; /* NULL: nobody listens there any more */
};
static struct list names = LIST_INIT(names);

/* ---- messages ---- */

static void message_free(struct message *message)
{
    for (int i = 0; i < message->fd_count; i++) {
        sim_desc_unref(message->fds[i]);
    }
    mem_free(message->text);
    mem_free(message);
}

static struct message *first_message(const struct end *end)
{
    return list_first(&end->inbox, struct message, link);
}

/* ---- ends ---- */

static unsigned end_poll(struct sim_desc *desc)
{
    const struct end *end = (const struct end *)desc;
    bool over = end->shut || end->peer == NULL;
    unsigned events = 0;

    if (over || !list_is_empty(&end->inbox)) {
        events |= POLLIN;
    }
    if (over || end->peer->inbox_bytes < INBOX_BYTES_MAX) {
        events |= POLLOUT;
    }
    return events | (over ? POLLHUP : 0);
}

static ssize_t take_text(struct end *end, void *to, size_t bytes)
{
    struct message *message = first_message(end);
    size_t part;

    if (message == NULL) {
        return end->shut || end->peer == NULL ? 0 : -EAGAIN;
    }
    part = min_of(bytes, message->bytes - message->taken);
    memcpy(to, message->text + message->taken, part);
    message->taken += part;
    end->inbox_bytes -= part;
    return (ssize_t)part;
}

static void drop_if_taken(struct message *message)
{
    if (message != NULL && message->taken == message->bytes) {
        list_remove(&message->link);
        message_free(message);
    }
}

static ssize_t end_read(struct sim_desc *desc, void *to, size_t bytes)
{
    struct end *end = (struct end *)desc;
    ssize_t got = take_text(end, to, bytes);

    drop_if_taken(first_message(end));
    return got;
}

static ssize_t send_message(struct end *end, const struct iovec *iov, int count, const int *fds,
                            int fd_count)
{
    struct message *message;
    size_t total = 0, room;

    if (end->shut || end->peer == NULL) {
        return -EPIPE;
    }
    for (int i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    room = INBOX_BYTES_MAX - min_of(end->peer->inbox_bytes, (size_t)INBOX_BYTES_MAX);
    if (room == 0) {
        return -EAGAIN;
    }
    message = mem_new(struct message);
    message->bytes = min_of(total, room);
    message->text = mem_alloc(message->bytes);
    for (size_t done = 0, i = 0; done < message->bytes; i++) {
        size_t part = min_of(iov[i].iov_len, message->bytes - done);

        memcpy(message->text + done, iov[i].iov_base, part);
        done += part;
    }
    for (int i = 0; i < fd_count; i++) {
        message->fds[i] = sim_fd_get(fds[i]);
        sim_desc_ref(message->fds[i]);
    }
    message->fd_count = fd_count;
    list_add_tail(&end->peer->inbox, &message->link);
    end->peer->inbox_bytes += message->bytes;
    return (ssize_t)message->bytes;
}

static ssize_t end_write(struct sim_desc *desc, const void *from, size_t bytes)
{
    struct iovec iov = {(void *)(uintptr_t)from, bytes};

    return bytes == 0 ? 0 : send_message((struct end *)desc, &iov, 1, NULL, 0);
}

static void end_close(struct sim_desc *desc)
{
    struct end *end = (struct end *)desc;

    if (end->peer != NULL) {
        end->peer->peer = NULL;
    }
    while (first_message(end) != NULL) {
        struct message *message = first_message(end);

        list_remove(&message->link);
        message_free(message);
    }
    mem_free(end);
}

static const struct sim_desc_ops socket_ops = {
    .poll = end_poll,
    .read = end_read,
    .write = end_write,
    .close = end_close,
    .mode = S_IFSOCK | 0777,
};
static const struct sim_desc_ops pipe_ops = {
    .poll = end_poll,
    .read = end_read,
    .write = end_write,
    .close = end_close,
    .mode = S_IFIFO | 0600,
};

static struct end *end_of(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    return desc != NULL && desc->ops == &socket_ops ? (struct end *)desc : NULL;
}

static void connect_ends(const struct sim_desc_ops *ops, struct end *ret_ends[2])
{
    for (int i = 0; i < 2; i++) {
        ret_ends[i] = mem_new(struct end);
        sim_desc_init(&ret_ends[i]->desc, ops);
        ret_ends[i]->desc.nonblocking = true;
        list_init(&ret_ends[i]->inbox);
    }
    ret_ends[0]->peer = ret_ends[1];
    ret_ends[1]->peer = ret_ends[0];
}

static int install_pair(const struct sim_desc_ops *ops, int ret_fds[2], const char *name)
{
    struct end *ends[2];
    int fault = sim_fault(name, EMFILE), fds[2];

    if (fault < 0) {
        return fault;
    }
    connect_ends(ops, ends);
    fds[0] = sim_fd_install(&ends[0]->desc);
    fds[1] = sim_fd_install(&ends[1]->desc);
    if (fds[0] < 0 || fds[1] < 0) {
        for (int i = 0; i < 2; i++) {
            if (fds[i] >= 0) {
                os_close_now(fds[i]);
            }
        }
        return -EMFILE;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int os_socketpair(int ret_fds[2])
{
    return install_pair(&socket_ops, ret_fds, "socketpair");
}

int os_pipe(int ret_fds[2])
{
    return install_pair(&pipe_ops, ret_fds, "pipe");
}

/* ---- names and listeners ---- */

static struct socket_name *name_find(const char *path)
{
    struct socket_name *name;

    list_for_each(name, &names, link)
    {
        if (str_equal(name->path, path)) {
            return name;
        }
    }
    return NULL;
}

bool sim_socket_exists(const char *path)
{
    return name_find(path) != NULL;
}

bool sim_socket_remove(const char *path)
{
    struct socket_name *name = name_find(path);

    if (name == NULL) {
        return false;
    }
    if (name->listener != NULL) {
        name->listener->name = NULL;
    }
    list_remove(&name->link);
    mem_free(name->path);
    mem_free(name);
    return true;
}

void sim_socket_reset(void)
{
    while (!list_is_empty(&names)) {
        sim_socket_remove(list_first(&names, struct socket_name, link)->path);
    }
}

static unsigned listener_poll(struct sim_desc *desc)
{
    return ((struct listener *)desc)->waiting_count > 0 ? POLLIN : 0;
}

static void listener_close(struct sim_desc *desc)
{
    struct listener *listener = (struct listener *)desc;

    for (unsigned i = 0; i < listener->waiting_count; i++) {
        sim_desc_unref(&listener->waiting[i]->desc);
    }
    if (listener->name != NULL) {
        listener->name->listener = NULL; /* the file stays, and refuses */
    }
    mem_free(listener);
}

static const struct sim_desc_ops listener_ops = {
    .poll = listener_poll,
    .close = listener_close,
    .mode = S_IFSOCK | 0777,
};

int os_listen_unix(const char *path, int backlog)
{
    struct socket_name *name = name_find(path);
    struct listener *listener;
    struct stat info;
    int fault = sim_fault("listen", EMFILE);

    if (strlen(path) > PATH_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    if ((name != NULL && name->listener != NULL) || (name == NULL && os_stat(path, &info) == 0)) {
        return -EADDRINUSE;
    }
    if (fault < 0) {
        return fault;
    }
    if (name != NULL) {
        sim_socket_remove(path);
    }
    listener = mem_new(struct listener);
    sim_desc_init(&listener->desc, &listener_ops);
    listener->backlog = (unsigned)min_of(max_of(backlog, 1), (int)countof(listener->waiting));
    name = mem_new(struct socket_name);
    name->path = mem_strdup(path);
    name->listener = listener;
    listener->name = name;
    list_add_tail(&names, &name->link);
    return sim_fd_install(&listener->desc);
}

/* Nobody listens there (any more), or there is room in the backlog. */
static bool can_connect(void *opaque)
{
    const struct socket_name *name = name_find(opaque);

    return name == NULL || name->listener == NULL ||
           name->listener->waiting_count < name->listener->backlog;
}

int os_connect_unix(const char *path)
{
    struct socket_name *name;
    struct end *ends[2];
    int fault = sim_fault("connect", EMFILE);

    if (strlen(path) > PATH_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    if (fault < 0) {
        return fault;
    }
    sim_wait(can_connect, (void *)(uintptr_t)path, UINT64_MAX, "connect");
    name = name_find(path);
    if (name == NULL) {
        return -ENOENT;
    }
    if (name->listener == NULL) {
        return -ECONNREFUSED;
    }
    connect_ends(&socket_ops, ends);
    name->listener->waiting[name->listener->waiting_count++] = ends[1];
    return sim_fd_install(&ends[0]->desc);
}

int os_accept(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);
    struct listener *listener = (struct listener *)desc;
    struct end *end;
    int fault;

    sim_step("accept");
    if (desc == NULL || desc->ops != &listener_ops) {
        return -EBADF;
    }
    if (listener->waiting_count == 0) {
        return -EAGAIN;
    }
    fault = sim_fault("accept", EMFILE);
    if (fault < 0) {
        return fault;
    }
    end = listener->waiting[0];
    listener->waiting_count--;
    memmove(listener->waiting, listener->waiting + 1,
            listener->waiting_count * sizeof(listener->waiting[0]));
    return sim_fd_install(&end->desc);
}

/* ---- send and receive ---- */

ssize_t os_send(int fd, const struct iovec *iov, int count, const int *fds, int fd_count)
{
    struct end *end = end_of(fd);
    struct iovec first;

    sim_step("send");
    if (end == NULL) {
        return -EBADF;
    }
    if (fd_count > SCM_FDS_MAX) {
        return -E2BIG;
    }
    for (int i = 0; i < fd_count; i++) {
        if (sim_fd_get(fds[i]) == NULL) {
            return -EBADF;
        }
    }
    if (count > 0 && iov[0].iov_len > 1 && sim_below(8) == 0) { /* a short one */
        first = iov[0];
        first.iov_len = 1 + (size_t)sim_below(first.iov_len);
        iov = &first;
        count = 1;
    }
    return send_message(end, iov, count, fds, fd_count);
}

static int install_fds(struct message *message, int *ret_fds)
{
    int total = message->fd_count;

    for (int i = 0; i < total; i++) {
        if (i < OS_SOCKET_FDS_MAX) {
            ret_fds[i] = sim_fd_install(message->fds[i]);
        } else {
            sim_desc_unref(message->fds[i]);
        }
    }
    message->fd_count = 0;
    return total;
}

ssize_t os_receive(int fd, void *to, size_t bytes, int *ret_fds, int *ret_fd_count)
{
    struct end *end = end_of(fd);
    ssize_t got = 0;
    int fault, total = 0;

    sim_step("receive");
    fault = sim_fault("receive", ECONNRESET);
    if (end == NULL || fault < 0) {
        return end == NULL ? -EBADF : fault;
    }
    if (bytes > 1 && sim_below(8) == 0) {
        bytes = 1 + (size_t)sim_below(bytes);
    }
    do { /* up to the next message that has descriptors */
        ssize_t part;

        if (first_message(end) != NULL && total == 0) {
            total = install_fds(first_message(end), ret_fds);
        }
        part = take_text(end, (char *)to + got, bytes - (size_t)got);
        if (part <= 0) {
            got = got > 0 ? got : part;
            break;
        }
        got += part;
        drop_if_taken(first_message(end));
    } while ((size_t)got < bytes && total == 0 && first_message(end) != NULL &&
             first_message(end)->fd_count == 0);
    if (got >= 0) {
        *ret_fd_count = total;
    }
    return got;
}

int os_socket_shutdown(int fd)
{
    struct end *end = end_of(fd);

    sim_step("shutdown");
    if (end == NULL) {
        return -EBADF;
    }
    end->shut = true;
    if (end->peer != NULL) {
        end->peer->shut = true;
    }
    return 0;
}

pid_t os_socket_peer_pid(int fd)
{
    return end_of(fd) != NULL ? PEER_PID : 0;
}

bool os_fd_is_socket(int fd)
{
    struct sim_desc *desc = sim_fd_get(fd);

    return desc != NULL && (desc->ops->mode & S_IFMT) == S_IFSOCK;
}
