/* qmp_int.h -- between dispatch (qmp.c), connections (client.c) and listeners (server.c). */
#pragma once
#include "qmp/qmp.h"

/* ---- dispatch ---- */

/* The command a message asks for. Borrows from the message. */
struct qmp_call {
    const struct qmp_command *command;
    json_t *arguments; /* NULL: none given */
};

/* Is @request well formed, and which command does it want? @allow_oob: "exec-oob" is a known
 * member. */
MAIN_LOOP
int qmp_request_check(json_t *request, bool allow_oob, struct qmp_call *ret_call,
                      struct err **reterr);
ANY_THREAD
bool qmp_request_is_oob(json_t *request);

/* Parse the arguments and run the handler. */
MAIN_LOOP CO_FN
int qmp_call_co_run(const struct qmp_call *call, json_t **ret_value, struct err **reterr);

/* Replies; @value and @error are consumed, @request (may be NULL) lends its id. */
ANY_THREAD
json_t *qmp_reply_value(json_t *request, json_t *value);
ANY_THREAD
json_t *qmp_reply_error(json_t *request, struct err *error);
MAIN_LOOP
json_t *qmp_greeting(void);

extern const struct opt_table qmp_capabilities_table;
struct qmp_capabilities_values {
    struct opt_strs enable;
};
extern const struct qmp_command qmp_capabilities_command;

/* ---- connections ---- */

struct qmp_client;

/* Tell every client past negotiation. */
MAIN_LOOP
void qmp_clients_send_event(json_t *event);
MAIN_LOOP
void qmp_client_refuse(int fd); /* one too many: say so and close */
MAIN_LOOP
size_t qmp_client_count(void);
