/*
 * qmp.h -- the control socket: QMP as on the wire. Knows no subsystem: commands come as typed
 * tables.
 *
 * (Q1) Commands of one connection run in order, connections are independent.
 * (Q2) Commands marked QMP_AT_ONCE (queries, device_del, quit) also run out of band ("exec-oob").
 * (Q3) A handler is a coroutine on the main loop and may yield as long as it likes.
 */
#pragma once
#include "base/event.h"
#include "base/opt.h"
#include "loop/loop.h"

enum {
    QMP_QUEUE_MAX = 8, /* messages read ahead of the one that runs; others wait in the socket */
    QMP_OOB_MAX = 8,       /* out-of-band commands of one connection under way at once */
    QMP_CLIENTS_MAX = 64,
    QMP_MESSAGE_BYTES_MAX = 1 << 20,
    QMP_NESTING_MAX = 64,
    QMP_UNREAD_BYTES_MAX = 64 << 20, /* output nobody reads: the client is dropped */
};

enum qmp_command_flags {
    QMP_AT_ONCE = 1 << 0,
    QMP_FREE_FORM = 1 << 1, /* @values is the arguments object itself (json_t *), not parsed */
};

struct qmp_command {
    const char *name;
    const struct opt_table *arguments; /* NULL: none */
    unsigned flags;
    const char *since, *help;
    const char *returns; /* a QAPI type name, for people; NULL: {} */
    /* @values: as parsed. *@ret_value (a new reference; left NULL: {}) on success. */
    CO_SLOT MAIN_SLOT int (*co_run)(const void *values, json_t **ret_value, struct err **reterr);
};

/* Handed over once by cli/, before the first monitor. */
MAIN_LOOP
void qmp_set_tables(const struct qmp_command *const *commands, size_t command_count,
                    const struct event_def *const *events, size_t event_count, const char *version,
                    const char *package);
MAIN_LOOP
const struct qmp_command *qmp_command_find(const char *name);
MAIN_LOOP
void qmp_command_each(void (*each)(const struct qmp_command *command, void *opaque), void *opaque);

/* Run one command object ({"execute":…}) as a client past negotiation would and return the reply
 * object (new reference); for tests and embedders. */
MAIN_LOOP CO_FN
json_t *qmp_co_execute(json_t *request);

/* From now on only QMP_AT_ONCE commands run; others are told @why (static text). NULL: all run
 * again. */
MAIN_LOOP
void qmp_refuse_commands(const char *why);
/* Commands under way on all connections, the caller's own included. */
MAIN_LOOP
size_t qmp_running_commands(void);

/* Serve monitors on a listening socket (taken over) until qmp_server_free(). Events go to every
 * client that has left negotiation mode. */
struct qmp_server;
MAIN_LOOP
struct qmp_server *qmp_server_new(int listen_fd, bool pretty);
/* One client on a connected socket (taken over): chardev with server=off. */
MAIN_LOOP
void qmp_client_new(int fd, bool pretty);
/* Stop listening; its clients stay until they leave or qmp_co_close_all(). */
MAIN_LOOP
void qmp_server_free(struct qmp_server *server);
/* Clients are sent no more events; what they run may end and be answered until @deadline_ns (0: as
 * long as it takes), their output is flushed for at most 1 s more, then they are closed. Returns
 * how many commands did not end. Not from a command's handler. */
MAIN_LOOP CO_FN
size_t qmp_co_close_all(uint64_t deadline_ns);
