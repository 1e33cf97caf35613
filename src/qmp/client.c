/*
 * client.c -- one connection of the control socket.
 *
 * Up to four kinds of coroutine live for a connection, all on the main loop, each only while it has
 * something to do: the reader (until the peer has no more to say), the worker (while messages are
 * queued), one for each out-of-band command, the writer (while the peer does not read fast enough).
 * (K1) A connection is freed by the last of its coroutines.
 * (K2) Messages are answered in the order they came, but for out-of-band commands. In negotiation
 *      the reader answers by itself, so nothing is queued before negotiation is over.
 * (K3) A peer that only stops sending (half a close) gets its answers; what it sent is carried out
 *      even if it is gone by then.
 * (K4) Whoever waits for room to queue is the reader, so a client that floods waits in its socket.
 * (K5) is_gone: nothing more goes out; the descriptor is shut down, so every wait on it ends.
 */
#include "base/jsontext.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "co/lock.h"
#include "os/file.h"
#include "os/socket.h"
#include "qmp/qmp_int.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 16 << 10, KEEP_BYTES = 64 << 10 };
static const uint64_t flush_ns = 1000000000;

struct qmp_client {
    struct list link; /* clients */
    int fd;
    bool pretty;
    bool is_ready; /* negotiation is over */
    bool has_oob;  /* "exec-oob" was negotiated */
    bool is_gone;  /* (K5) */
    bool is_working, is_writing;
    unsigned coroutines;  /* (K1) */
    unsigned oob_running;
    struct list queue;    /* struct message */
    unsigned queued;
    struct co_queue room; /* the reader, waiting until queue or oob_running allow one more */
    struct strbuf out;    /* from out_done on not yet taken by the socket */
    size_t out_done;
    struct jsontext input;
    char buffer[READ_BYTES];
};

/* A request, or the error that reading it ended in. */
struct message {
    struct list link;
    struct qmp_client *client;
    json_t *request;
    struct err *error;
};

static struct list clients = LIST_INIT(clients);
static size_t running; /* commands under way */

/* qmp_co_close_all() under way: what it waits for. */
static struct {
    struct co_wait *wait; /* NULL: nobody waits */
    bool is_closing;
    bool for_output;      /* else: for commands to end */
} closing;

/* ---- the end ------------------------------------------------------------------------------ */

static bool has_output(const struct qmp_client *client)
{
    return !client->is_gone && client->out_done < client->out.bytes;
}

MAIN_LOOP
static bool close_may_go_on(void)
{
    struct qmp_client *client;

    if (!closing.for_output) {
        return running == 0;
    }
    list_for_each(client, &clients, link)
    {
        if (has_output(client)) {
            return false;
        }
    }
    return true;
}

MAIN_LOOP
static void tell_closer(void)
{
    if (closing.wait != NULL && close_may_go_on()) {
        struct co_wait *wait = take(&closing.wait);

        (void)co_wait_complete(wait, 0);
    }
}

static void give_up(struct qmp_client *client)
{
    client->is_gone = true; /* (K5) */
    (void)os_socket_shutdown(client->fd);
}

MAIN_LOOP
static void release(struct qmp_client *client)
{
    assert(client->coroutines > 0);
    if (--client->coroutines == 0) {
        assert(list_is_empty(&client->queue));
        list_remove(&client->link);
        os_close_now(client->fd);
        strbuf_fini(&client->out);
        jsontext_fini(&client->input);
        mem_free(client);
    }
    tell_closer();
}

MAIN_LOOP
static void spawn(struct qmp_client *client, co_fn *fn, void *opaque, const char *name)
{
    client->coroutines++;
    loop_co_spawn(loop_main(), fn, opaque, name);
}

/* ---- output ------------------------------------------------------------------------------- */

/* Offer the socket what there is. */
static void flush(struct qmp_client *client)
{
    while (has_output(client)) {
        struct iovec iov = {client->out.text + client->out_done,
                            client->out.bytes - client->out_done};
        ssize_t sent = os_send(client->fd, &iov, 1, NULL, 0);

        if (sent == -EAGAIN) {
            return;
        }
        if (sent < 0) {
            give_up(client);
            return;
        }
        client->out_done += (size_t)sent;
    }
    client->out.bytes = 0;
    client->out_done = 0;
    if (client->out.capacity > KEEP_BYTES) {
        strbuf_fini(&client->out);
    }
}

CO_FN
static void write_rest(void *opaque)
{
    struct qmp_client *client = opaque;

    loop_assert_main();
    while (has_output(client)) {
        if (loop_co_wait_fd(client->fd, LOOP_OUT, 0) < 0) {
            give_up(client);
        }
        flush(client);
    }
    client->is_writing = false;
    release(client);
}

/* Forget what is sent when that is most of it, so the buffer holds little more than is unread. */
static void compact(struct qmp_client *client)
{
    struct strbuf *out = &client->out;

    if (client->out_done > KEEP_BYTES && client->out_done > out->bytes / 2) {
        out->bytes -= client->out_done;
        memmove(out->text, out->text + client->out_done, out->bytes);
        client->out_done = 0;
    }
}

static char *message_text(json_t *message, bool pretty)
{
    char *text = json_dumps(message, JSON_ENSURE_ASCII | (pretty ? JSON_INDENT(4) : 0));

    assert(text != NULL); /* our own objects, and ids of bounded depth */
    return text;
}

MAIN_LOOP
static void send_text(struct qmp_client *client, const char *text)
{
    if (client->is_gone) {
        return;
    }
    compact(client);
    strbuf_add(&client->out, text, strlen(text));
    strbuf_add(&client->out, "\r\n", 2);
    if (!client->is_writing) {
        flush(client);
    }
    if (client->out.bytes - client->out_done > QMP_UNREAD_BYTES_MAX) {
        log_warn("control socket: a client is dropped: it has not read %zu bytes",
                 client->out.bytes - client->out_done);
        give_up(client);
    } else if (has_output(client) && !client->is_writing) {
        client->is_writing = true;
        spawn(client, write_rest, client, "qmp-write");
    }
}

/* Consumes @message. */
MAIN_LOOP
static void send_message(struct qmp_client *client, json_t *message)
{
    char *text = message_text(message, client->pretty);

    send_text(client, text);
    mem_free(text);
    json_decref(message);
}

void qmp_clients_send_event(json_t *event)
{
    char *texts[2] = {message_text(event, false), message_text(event, true)};
    struct qmp_client *client;

    list_for_each(client, &clients, link)
    {
        if (client->is_ready && !closing.is_closing) {
            send_text(client, texts[client->pretty]);
        }
    }
    mem_free(texts[0]);
    mem_free(texts[1]);
}

/* ---- commands ----------------------------------------------------------------------------- */

static void message_free(struct message *message)
{
    json_decref(message->request);
    err_free(message->error);
    mem_free(message);
}

MAIN_LOOP CO_FN
static json_t *run_message(struct message *message, bool is_oob)
{
    struct qmp_call call;
    json_t *value = NULL;
    int rc;

    if (message->error != NULL) {
        return qmp_reply_error(NULL, take(&message->error));
    }
    rc = qmp_request_check(message->request, is_oob, &call, &message->error);
    if (rc == 0) {
        running++;
        rc = qmp_call_co_run(&call, &value, &message->error);
        running--;
    }
    return rc == 0 ? qmp_reply_value(message->request, value)
                   : qmp_reply_error(message->request, take(&message->error));
}

CO_FN
static void work(void *opaque)
{
    struct qmp_client *client = opaque;
    struct list *link;

    loop_assert_main();
    while ((link = list_pop_head(&client->queue)) != NULL) {
        struct message *message = list_entry(link, struct message, link);

        client->queued--;
        co_queue_wake_one(&client->room);
        send_message(client, run_message(message, false));
        message_free(message);
        tell_closer();
    }
    client->is_working = false;
    release(client);
}

CO_FN
static void run_out_of_band(void *opaque)
{
    struct message *message = opaque;
    struct qmp_client *client = message->client;

    loop_assert_main();
    send_message(client, run_message(message, true));
    message_free(message);
    client->oob_running--;
    co_queue_wake_one(&client->room);
    release(client);
}

/* ---- negotiation -------------------------------------------------------------------------- */

static int read_capabilities(json_t *arguments, bool *ret_oob, struct err **reterr)
{
    struct qmp_capabilities_values values;
    json_t *none = json_object();
    int rc = opt_parse(&qmp_capabilities_table, arguments != NULL ? arguments : none, 0, &values,
                       reterr);

    json_decref(none);
    if (rc < 0) {
        return rc;
    }
    *ret_oob = false;
    for (size_t i = 0; i < values.enable.count && rc == 0; i++) {
        if (strcmp(values.enable.items[i], "oob") == 0) {
            *ret_oob = true;
        } else {
            rc = err_set(reterr, EINVAL,
                         "Parameter 'enable[%zu]' does not accept value '%s', only 'oob'", i,
                         values.enable.items[i]);
        }
    }
    opt_free_values(&qmp_capabilities_table, &values);
    return rc;
}

MAIN_LOOP
static int negotiate(struct qmp_client *client, json_t *request, struct err **reterr)
{
    struct qmp_call call = {0};
    int rc = qmp_request_check(request, false, &call, reterr);
    bool is_unknown = rc < 0 && (*reterr)->class == ERR_COMMAND_NOT_FOUND;

    if (is_unknown || (rc == 0 && call.command != &qmp_capabilities_command)) {
        err_free(take(reterr));
        return err_set_class(reterr, ERR_COMMAND_NOT_FOUND, EINVAL,
                             "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    if (rc == 0) {
        rc = read_capabilities(call.arguments, &client->has_oob, reterr);
    }
    client->is_ready = rc == 0;
    return rc;
}

/* Consumes both; one is NULL. */
MAIN_LOOP
static void answer_in_negotiation(struct qmp_client *client, json_t *request, struct err *error)
{
    int rc = error != NULL ? -EINVAL : negotiate(client, request, &error);

    send_message(client,
                 rc == 0 ? qmp_reply_value(request, NULL) : qmp_reply_error(request, error));
    json_decref(request);
}

/* ---- input -------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void take_message(struct qmp_client *client, json_t *request, struct err *error)
{
    bool is_oob = client->has_oob && error == NULL && qmp_request_is_oob(request);
    struct message *message;

    if (!client->is_ready) {
        answer_in_negotiation(client, request, error);
        return;
    }
    while (is_oob ? client->oob_running >= QMP_OOB_MAX : client->queued >= QMP_QUEUE_MAX) {
        co_queue_wait(&client->room, NULL); /* (K4) */
    }
    message = mem_new(struct message);
    *message = (struct message){.client = client, .request = request, .error = error};
    if (is_oob) {
        client->oob_running++;
        spawn(client, run_out_of_band, message, "qmp-oob");
        return;
    }
    list_add_tail(&client->queue, &message->link);
    client->queued++;
    if (!client->is_working) {
        client->is_working = true;
        spawn(client, work, client, "qmp-work");
    }
}

MAIN_LOOP CO_FN
static void take_bytes(struct qmp_client *client, size_t bytes)
{
    size_t at = 0;

    while (at < bytes) {
        struct err *error = NULL;
        json_t *request = NULL;

        at += jsontext_feed(&client->input, client->buffer + at, bytes - at, &request, &error);
        if (request != NULL || error != NULL) {
            take_message(client, request, error);
        }
    }
}

/* Bytes, 0 or -errno at the end; descriptors that came along are nobody's. */
CO_FN
static ssize_t receive(struct qmp_client *client)
{
    int fds[OS_SOCKET_FDS_MAX];
    int fd_count = 0;
    ssize_t got;

    for (;;) {
        int events = loop_co_wait_fd(client->fd, LOOP_IN, 0);

        if (events < 0) {
            return events;
        }
        got = os_receive(client->fd, client->buffer, READ_BYTES, fds, &fd_count);
        for (int i = 0; i < min_of(fd_count, (int)OS_SOCKET_FDS_MAX); i++) {
            os_close_now(fds[i]);
        }
        if (got == 0 && (events & LOOP_HUP)) {
            client->is_gone = true; /* both directions: nobody will read an answer */
        }
        if (got != -EAGAIN) {
            return got;
        }
    }
}

CO_FN
static void read_all(void *opaque)
{
    struct qmp_client *client = opaque;
    ssize_t got;

    loop_assert_main();
    while ((got = receive(client)) > 0) {
        take_bytes(client, (size_t)got);
    }
    release(client);
}

size_t qmp_client_count(void)
{
    struct qmp_client *client;
    size_t count = 0;

    list_for_each(client, &clients, link)
    {
        count += !client->is_gone;
    }
    return count;
}

void qmp_client_refuse(int fd)
{
    struct err *error = NULL;
    json_t *reply;
    char *text, *line;
    struct iovec iov;

    (void)err_set(&error, EBUSY, "The control socket has %d clients already, as many as it serves",
                  QMP_CLIENTS_MAX);
    reply = qmp_reply_error(NULL, error);
    text = message_text(reply, false);
    line = str_format("%s\r\n", text);
    iov = (struct iovec){line, strlen(line)};
    (void)os_send(fd, &iov, 1, NULL, 0);
    os_close_now(fd);
    mem_free(line);
    mem_free(text);
    json_decref(reply);
}

void qmp_client_new(int fd, bool pretty)
{
    struct qmp_client *client;

    if (qmp_client_count() >= QMP_CLIENTS_MAX || closing.is_closing) {
        qmp_client_refuse(fd);
        return;
    }
    client = mem_new(struct qmp_client);
    client->fd = fd;
    client->pretty = pretty;
    client->input.bytes_max = QMP_MESSAGE_BYTES_MAX;
    list_init(&client->queue);
    co_queue_init(&client->room);
    list_add_tail(&clients, &client->link);
    spawn(client, read_all, client, "qmp-read");
    send_message(client, qmp_greeting());
}

size_t qmp_running_commands(void)
{
    return running;
}

/* ---- closing all -------------------------------------------------------------------------- */

HOME_LOOP
static void time_is_over(void *opaque)
{
    struct co_wait *wait = opaque;

    loop_assert_main();
    closing.wait = NULL;
    (void)co_wait_complete(wait, -ETIMEDOUT);
}

MAIN_LOOP CO_FN
static void wait_until_closer_is_told(bool for_output, uint64_t deadline_ns)
{
    struct loop_timer timer;
    struct co_wait wait;

    closing.for_output = for_output;
    if (close_may_go_on()) {
        return;
    }
    loop_assert_home(loop_main());
    co_wait_init(&wait);
    closing.wait = &wait;
    loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, time_is_over, &wait);
    if (deadline_ns != 0) {
        loop_timer_arm(&timer, deadline_ns);
    }
    (void)co_wait_block(&wait);
    loop_timer_cancel(&timer);
}

size_t qmp_co_close_all(uint64_t deadline_ns)
{
    struct qmp_client *client;

    closing.is_closing = true;
    wait_until_closer_is_told(false, deadline_ns);
    wait_until_closer_is_told(true, loop_now_ns(LOOP_CLOCK_MONOTONIC) + flush_ns);
    list_for_each(client, &clients, link)
    {
        give_up(client);
    }
    while (!list_is_empty(&clients) && running == 0) {
        co_yield_turn(); /* readers and writers end: their descriptors are shut down */
    }
    closing.is_closing = false;
    return running;
}
