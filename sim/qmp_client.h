/* qmp_client.h -- a client of the control socket, for simulated runs. Each call waits in its own
 * task. */
#pragma once
#include "base/ctx.h"
#include "base/jsontext.h"
#include "base/list.h"
#include "base/macros.h"

CTX_ANY_BEGIN

struct qmp_client {
    int fd;
    struct jsontext input;
    char buffer[4096];
    size_t filled, used;
    json_t *events; /* array: seen and not yet taken */
};

/* Connects as soon as somebody listens at @path, and negotiates. */
void qmp_client_open(struct qmp_client *client, const char *path);
void qmp_client_close(struct qmp_client *client);

/* The whole reply ({"return":…} or {"error":…}; new reference) to a command; @arguments (a jansson
 * pack format, NULL: none) follows. */
json_t *qmp_client_run(struct qmp_client *client, const char *command, const char *arguments, ...);

/* As above; panics unless it succeeds. The value (new reference). */
json_t *qmp_client_must(struct qmp_client *client, const char *command, const char *arguments, ...);

/* The next event called @name, past or future (new reference); the others are kept. NULL: the
 * connection has ended. */
json_t *qmp_client_event(struct qmp_client *client, const char *name);

CTX_ANY_END
