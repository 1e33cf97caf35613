#include "sim/qmp_client.h"
#include "os/file.h"
#include "os/socket.h"
#include "sim/sim.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t retry_ns = 1000000;

static json_t *next_message(struct qmp_client *client)
{
    json_t *value = NULL;
    struct err *error = NULL;
    int fds[OS_SOCKET_FDS_MAX], fd_count = 0;

    for (;;) {
        ssize_t got;

        client->used += jsontext_feed(&client->input, client->buffer + client->used,
                                      client->filled - client->used, &value, &error);
        if (error != NULL) {
            panic("qmp client: %s", error->text);
        }
        if (value != NULL) {
            return value;
        }
        sim_wait_fd(client->fd, POLLIN, UINT64_MAX);
        got = os_receive(client->fd, client->buffer, sizeof(client->buffer), fds, &fd_count);
        if (got == -EAGAIN) {
            continue;
        }
        if (got <= 0) {
            return NULL;
        }
        client->used = 0;
        client->filled = (size_t)got;
    }
}

static void send_all(struct qmp_client *client, const char *text)
{
    size_t bytes = strlen(text);

    for (size_t done = 0; done < bytes;) {
        struct iovec iov = {(void *)(uintptr_t)(text + done), bytes - done};
        ssize_t sent = os_send(client->fd, &iov, 1, NULL, 0);

        if (sent == -EAGAIN) {
            sim_wait_fd(client->fd, POLLOUT, UINT64_MAX);
        } else if (sent < 0) {
            panic("qmp client: send: %s", strerror((int)-sent));
        } else {
            done += (size_t)sent;
        }
    }
}

/* A daemon whose start-up fails hangs up on whoever waits at its door: then, and while there is no
 * door, try again. */
static json_t *connect_and_greet(struct qmp_client *client, const char *path)
{
    for (;;) {
        json_t *greeting;

        client->fd = os_connect_unix(path);
        if (client->fd >= 0) {
            greeting = next_message(client);
            if (greeting != NULL) {
                return greeting;
            }
            os_close(client->fd);
        }
        sim_sleep(retry_ns);
    }
}

void qmp_client_open(struct qmp_client *client, const char *path)
{
    json_t *greeting;

    *client = (struct qmp_client){.fd = -1, .events = json_array()};
    client->input.bytes_max = 1 << 20;
    greeting = connect_and_greet(client, path);
    if (json_object_get(json_object_get(greeting, "QMP"), "version") == NULL) {
        panic("qmp client: no greeting");
    }
    json_decref(greeting);
    json_decref(qmp_client_must(client, "qmp_capabilities", NULL));
}

void qmp_client_close(struct qmp_client *client)
{
    os_close_now(client->fd);
    jsontext_fini(&client->input);
    json_decref(client->events);
}

static json_t *run(struct qmp_client *client, const char *command, const char *arguments,
                   va_list args)
{
    json_t *request = json_pack("{s:s}", "execute", command), *reply;
    char *text;

    if (arguments != NULL) {
        json_object_set_new(request, "arguments", json_vpack_ex(NULL, 0, arguments, args));
    }
    text = json_dumps(request, JSON_COMPACT);
    send_all(client, text);
    free(text);
    json_decref(request);
    while ((reply = next_message(client)) != NULL && json_object_get(reply, "event") != NULL) {
        json_array_append_new(client->events, reply);
    }
    if (reply == NULL) {
        panic("qmp client: the connection ended before the reply to %s", command);
    }
    return reply;
}

json_t *qmp_client_run(struct qmp_client *client, const char *command, const char *arguments, ...)
{
    va_list args;
    json_t *reply;

    va_start(args, arguments);
    reply = run(client, command, arguments, args);
    va_end(args);
    return reply;
}

json_t *qmp_client_must(struct qmp_client *client, const char *command, const char *arguments, ...)
{
    va_list args;
    json_t *reply, *value;

    va_start(args, arguments);
    reply = run(client, command, arguments, args);
    va_end(args);
    value = json_object_get(reply, "return");
    if (value == NULL) {
        char *text = json_dumps(reply, 0);

        panic("qmp client: %s: %s", command, text);
    }
    json_incref(value);
    json_decref(reply);
    return value;
}

json_t *qmp_client_event(struct qmp_client *client, const char *name)
{
    for (size_t i = 0;; i++) {
        json_t *event = json_array_get(client->events, i);

        if (event == NULL) {
            event = next_message(client);
            if (event == NULL) {
                return NULL;
            }
            json_array_append_new(client->events, event);
        }
        if (strcmp(json_string_value(json_object_get(event, "event")), name) == 0) {
            json_incref(event);
            json_array_remove(client->events, i);
            return event;
        }
    }
}
