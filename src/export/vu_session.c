/*
 * vu_session.c -- one front end: its socket, its messages in order, its end.
 *
 * The socket is read by a watch into an inbox; a coroutine takes the letters out and carries them
 * out one by one. So the end of the connection is noticed while a message is being carried out,
 * even one that waits for requests.
 *
 * (N1) Messages are carried out in order of arrival, and answered before the next is begun.
 * (N2) `gone` is set once, by the watch or by whoever hangs up. From then on nothing is received or
 *      sent; the coroutine finishes what it does, lets the rings go and frees the session.
 * (N3) What cannot be carried out is said in one line that names the message. The connection is
 *      kept if the front end can be told (REPLY_ACK), or if an optional message was merely not
 *      offered; else it is closed, because a front end that believed it to have been done would
 *      wait for ever.
 */
#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "export/vu_int.h"
#include "os/file.h"
#include "os/socket.h"

enum {
    INBOX_MAX = 64, /* letters; more stay in the socket */
};

struct vu_letter {
    struct list link;
    struct vu_header header;
    int parsed;        /* vu_msg_parse()'s result */
    struct err *error; /* of parsing */
    struct vu_msg msg;
};

MAIN_LOOP
static void letter_free(struct vu_letter *letter)
{
    if (letter->parsed == 0) {
        vu_msg_fini(&letter->msg);
    }
    err_free(letter->error);
    mem_free(letter);
}

/* ---- the end ------------------------------------------------------------------------------ */

struct abandon {
    const struct virtio_device_ops *ops;
    void *device;
    unsigned index;
};

MAIN_LOOP CO_FN
static void abandon_co(void *opaque)
{
    struct abandon *abandon = opaque;

    abandon->ops->co_queue_abandon(abandon->device, abandon->index);
    mem_free(abandon);
}

/* (N2) */
void vu_session_end(struct vu_session *session)
{
    loop_assert_home(loop_main());
    if (session->gone) {
        return;
    }
    session->gone = true;
    loop_watch_remove(&session->watch);
    os_socket_shutdown(session->fd); /* ends a wait for room to send */
    if (session->stopping >= 0) {
        struct abandon *abandon = mem_new(struct abandon);

        abandon->ops = session->server->ops;
        abandon->device = session->server->device;
        abandon->index = (unsigned)session->stopping;
        loop_co_spawn(loop_main(), abandon_co, abandon, "vhost-user abandon");
    }
    co_queue_wake_all(&session->inbox_filled);
}

/* ---- receiving ---------------------------------------------------------------------------- */

MAIN_LOOP
static void letter_arrived(struct vu_session *session)
{
    struct vu_letter *letter = mem_new(struct vu_letter);

    letter->header = session->reader.header;
    letter->parsed = vu_reader_take(&session->reader, &letter->msg, &letter->error);
    list_add_tail(&session->inbox, &letter->link);
    session->inbox_count++;
    co_queue_wake_all(&session->inbox_filled);
}

/* One receive. False: nothing more for now, or the session has ended. */
MAIN_LOOP
static bool receive_some(struct vu_session *session)
{
    struct err *error = NULL;
    int fds[OS_SOCKET_FDS_MAX];
    int fd_count = 0;
    size_t room;
    void *to;
    ssize_t n;
    int rc;

    vu_reader_place(&session->reader, &to, &room);
    n = os_receive(session->fd, to, room, fds, &fd_count);
    if (n == -EAGAIN || n == -EINTR) {
        return false;
    }
    if (n <= 0) {
        if (vu_reader_is_midway(&session->reader)) {
            vu_server_complain(session->server, "the front end hung up in the middle of a message");
        }
        vu_session_end(session);
        return false;
    }
    rc = vu_reader_received(&session->reader, (size_t)n, fds, fd_count, &error);
    if (rc < 0) {
        vu_server_complain(session->server, "%s; the connection is closed", error->text);
        err_free(error);
        vu_session_end(session);
        return false;
    }
    if (rc > 0) {
        letter_arrived(session);
    }
    return true;
}

MAIN_LOOP
static void socket_ready(void *opaque, unsigned events)
{
    struct vu_session *session = opaque;

    (void)events;
    loop_assert_home(loop_main());
    while (session->inbox_count < INBOX_MAX) {
        if (!receive_some(session)) {
            return;
        }
    }
    if (session->stopping >= 0) { /* it should be waiting for the answer to GET_VRING_BASE */
        vu_server_complain(session->server, "%u messages came while ring %d is being stopped; the "
                           "connection is closed", session->inbox_count, session->stopping);
        vu_session_end(session);
        return;
    }
    loop_watch_set(&session->watch, 0); /* until letter_take() */
}

static const struct loop_watch_ops socket_ops = {.ready = socket_ready};

/* NULL: the session has ended. */
MAIN_LOOP CO_FN
static struct vu_letter *co_letter_take(struct vu_session *session)
{
    struct list *item;

    while (!session->gone && list_is_empty(&session->inbox)) {
        co_queue_wait(&session->inbox_filled, NULL);
    }
    if (session->gone) {
        return NULL;
    }
    loop_assert_home(loop_main());
    item = list_pop_head(&session->inbox);
    session->inbox_count--;
    loop_watch_set(&session->watch, LOOP_IN);
    return list_entry(item, struct vu_letter, link);
}

/* ---- sending ------------------------------------------------------------------------------ */

MAIN_LOOP CO_FN
static void session_co_send(struct vu_session *session, const struct vu_msg *msg)
{
    uint8_t bytes[VU_MSG_BYTES_MAX];
    size_t total = vu_msg_encode(msg, VU_TO_FRONTEND, bytes);
    size_t done = 0;

    while (done < total && !session->gone) {
        struct iovec iov = {bytes + done, total - done};
        ssize_t n = os_send(session->fd, &iov, 1, NULL, 0);

        if (n == -EAGAIN) {
            loop_co_wait_fd(session->fd, LOOP_OUT, 0);
        } else if (n < 0 && n != -EINTR) {
            vu_session_end(session);
        } else if (n > 0) {
            done += (size_t)n;
        }
    }
}

MAIN_LOOP CO_FN
static void session_co_acknowledge(struct vu_session *session, uint32_t request, bool success)
{
    struct vu_msg ack = {.request = (enum vu_request)request, .is_ack = true, .u64 = !success};

    session_co_send(session, &ack);
}

/* ---- carrying out ------------------------------------------------------------------------- */

/* (N3) */
MAIN_LOOP CO_FN
static void refuse(struct vu_session *session, const struct vu_letter *letter, int rc,
                   const struct err *error)
{
    const char *name = vu_request_name(letter->header.request);
    bool has_reply = vu_request_has_reply((enum vu_request)letter->header.request);
    bool can_say = letter->header.need_reply && !has_reply &&
                   (session->protocol_features >> VU_PROTOCOL_F_REPLY_ACK & 1) != 0;
    bool keep = can_say || (rc == -EOPNOTSUPP && !has_reply);

    vu_server_complain(session->server, "%s%s%s%s", error != NULL && strstr(error->text, name) ? ""
                       : name, error != NULL && strstr(error->text, name) ? "" : ": ",
                       error != NULL ? error->text : "refused",
                       keep ? "" : "; the connection is closed");
    if (can_say) {
        session_co_acknowledge(session, letter->header.request, false);
    }
    if (!keep) {
        vu_session_end(session);
    }
}

MAIN_LOOP CO_FN
static void letter_co_serve(struct vu_session *session, struct vu_letter *letter)
{
    struct vu_msg reply = {.request = letter->msg.request};
    struct err *error = NULL;
    int rc = letter->parsed;

    if (rc < 0) {
        refuse(session, letter, rc, letter->error);
        return;
    }
    TRACE(vu_message, "%s %s", session->server->name, vu_request_name(letter->header.request));
    rc = vu_handle(session, &letter->msg, &reply, &error);
    if (rc < 0) {
        refuse(session, letter, rc, error);
        err_free(error);
    } else if (rc == VU_REPLIED) {
        session_co_send(session, &reply);
    } else if (letter->msg.need_reply &&
               (session->protocol_features >> VU_PROTOCOL_F_REPLY_ACK & 1) != 0) {
        session_co_acknowledge(session, letter->header.request, true);
    }
}

MAIN_LOOP
static void session_free(struct vu_session *session)
{
    struct list *item;

    while ((item = list_pop_head(&session->inbox)) != NULL) {
        letter_free(list_entry(item, struct vu_letter, link));
    }
    vu_reader_fini(&session->reader);
    os_close_now(session->fd);
    mem_free(session);
}

MAIN_LOOP CO_FN
static void session_co(void *opaque)
{
    struct vu_session *session = opaque;
    struct vu_server *server = session->server;
    struct vu_letter *letter;

    while ((letter = co_letter_take(session)) != NULL) {
        letter_co_serve(session, letter); /* (N1) */
        letter_free(letter);
    }
    vu_session_co_let_go(session);
    log_debug("export '%s': the front end is gone", server->name);
    session_free(session);
    vu_server_session_ended(server);
}

int vu_session_new(struct vu_server *server, int fd, struct err **reterr)
{
    struct vu_session *session = mem_new(struct vu_session);
    int rc;

    loop_assert_home(loop_main());
    session->server = server;
    session->fd = fd;
    session->stopping = -1;
    session->ring_count = server->ops->queue_count(server->device);
    list_init(&session->inbox);
    co_queue_init(&session->inbox_filled);
    vu_reader_init(&session->reader, VU_TO_BACKEND);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        session->rings[i].kick_fd = session->rings[i].call_fd = session->rings[i].err_fd = -1;
    }
    rc = loop_watch_add(&session->watch, fd, LOOP_IN, &socket_ops, session);
    if (rc < 0) {
        session_free(session);
        return err_set_errno(reterr, -rc, "cannot watch a front end's connection");
    }
    server->session = session;
    log_debug("export '%s': a front end is connected", server->name);
    loop_co_spawn(loop_main(), session_co, session, "vhost-user session");
    return 0;
}
