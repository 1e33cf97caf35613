/*
 * qmp.c -- from a message to a reply: the tables, what a well-formed request is, built-in commands.
 *
 * Wording is the field's: clients match on it. A request is checked whole before anything runs.
 */
#include "qmp/qmp.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/time.h"
#include "qmp/qmp_int.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct {
    const struct qmp_command *const *commands;
    size_t command_count;
    const struct event_def *const *events;
    size_t event_count;
    const char *version, *package;
    const char *refusal; /* NULL: commands run */
} tables;

/* ---- built-in commands -------------------------------------------------------------------- */

static json_t *version_json(void)
{
    int part[3] = {0};

    (void)sscanf(tables.version, "%d.%d.%d", &part[0], &part[1], &part[2]);
    return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "micro", part[2], "minor", part[1], "major",
                     part[0], "package", tables.package);
}

MAIN_LOOP CO_FN
static int run_query_version(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = version_json();
    return 0;
}

MAIN_LOOP
static void add_name(const struct qmp_command *command, void *opaque)
{
    json_array_append_new(opaque, json_pack("{s:s}", "name", command->name));
}

MAIN_LOOP CO_FN
static int run_query_commands(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = json_array();
    qmp_command_each(add_name, *ret_value);
    return 0;
}

/* A client in negotiation never comes here: client.c answers. */
MAIN_LOOP CO_FN
static int run_capabilities_again(const void *values, json_t **ret_value, struct err **reterr)
{
    return err_set_class(reterr, ERR_COMMAND_NOT_FOUND, EINVAL,
                         "Capabilities negotiation is already complete, command ignored");
}

static const struct opt capabilities_opts[] = {
    {.name = "enable", .type = OPT_STRS, OPT_AT(struct qmp_capabilities_values, enable),
     .since = "0.1", .help = "capabilities to switch on, of those in the greeting"},
};
const struct opt_table qmp_capabilities_table = {
    .name = "qmp_capabilities", .opts = capabilities_opts, .count = countof(capabilities_opts),
    .values_bytes = sizeof(struct qmp_capabilities_values)};

const struct qmp_command qmp_capabilities_command = {
    .name = "qmp_capabilities", .arguments = &qmp_capabilities_table, .since = "0.1",
    .help = "end negotiation; the first command on a connection", .co_run = run_capabilities_again};
static const struct qmp_command query_version_command = {
    .name = "query-version", .flags = QMP_AT_ONCE, .since = "0.1", .returns = "VersionInfo",
    .help = "version of this program", .co_run = run_query_version};
static const struct qmp_command query_commands_command = {
    .name = "query-commands", .flags = QMP_AT_ONCE, .since = "0.1", .returns = "[CommandInfo]",
    .help = "names of all commands", .co_run = run_query_commands};
static const struct qmp_command *const built_in[] = {
    &qmp_capabilities_command, &query_version_command, &query_commands_command};

/* ---- tables ------------------------------------------------------------------------------- */

static bool is_declared(const struct event_def *event)
{
    for (size_t i = 0; i < tables.event_count; i++) {
        if (tables.events[i] == event) {
            return true;
        }
    }
    return false;
}

ANY_THREAD
static void send_event(const struct event_def *event, json_t *data, void *opaque)
{
    uint64_t now_us = os_now_realtime_ns() / 1000;
    json_t *message;

    loop_assert_main();
    assert(is_declared(event)); /* or no document would know it */
    message = json_pack("{s:{s:I,s:I},s:s}", "timestamp", "seconds",
                        (json_int_t)(now_us / 1000000), "microseconds",
                        (json_int_t)(now_us % 1000000), "event", event->name);
    if (data != NULL) {
        json_object_set(message, "data", data);
    }
    qmp_clients_send_event(message);
    json_decref(message);
}

void qmp_set_tables(const struct qmp_command *const *commands, size_t command_count,
                    const struct event_def *const *events, size_t event_count, const char *version,
                    const char *package)
{
    tables.commands = commands;
    tables.command_count = command_count;
    tables.events = events;
    tables.event_count = event_count;
    tables.version = version;
    tables.package = package;
    tables.refusal = NULL;
    event_set_sink(send_event, NULL);
}

void qmp_command_each(void (*each)(const struct qmp_command *command, void *opaque), void *opaque)
{
    for (size_t i = 0; i < countof(built_in); i++) {
        each(built_in[i], opaque);
    }
    for (size_t i = 0; i < tables.command_count; i++) {
        each(tables.commands[i], opaque);
    }
}

const struct qmp_command *qmp_command_find(const char *name)
{
    for (size_t i = 0; i < countof(built_in); i++) {
        if (strcmp(built_in[i]->name, name) == 0) {
            return built_in[i];
        }
    }
    for (size_t i = 0; i < tables.command_count; i++) {
        if (strcmp(tables.commands[i]->name, name) == 0) {
            return tables.commands[i];
        }
    }
    return NULL;
}

void qmp_refuse_commands(const char *why)
{
    tables.refusal = why;
}

json_t *qmp_greeting(void)
{
    return json_pack("{s:{s:o,s:[s]}}", "QMP", "version", version_json(), "capabilities", "oob");
}

/* ---- requests ----------------------------------------------------------------------------- */

bool qmp_request_is_oob(json_t *request)
{
    return json_object_get(request, "exec-oob") != NULL;
}

static int check_member(const char *name, json_t *value, bool allow_oob, struct err **reterr)
{
    if (strcmp(name, "execute") == 0 || (allow_oob && strcmp(name, "exec-oob") == 0)) {
        return json_is_string(value)
                   ? 0
                   : err_set(reterr, EINVAL, "QMP input member '%s' must be a string", name);
    }
    if (strcmp(name, "arguments") == 0) {
        return json_is_object(value)
                   ? 0
                   : err_set(reterr, EINVAL, "QMP input member 'arguments' must be an object");
    }
    if (strcmp(name, "id") == 0) {
        return 0;
    }
    return err_set(reterr, EINVAL, "QMP input member '%s' is unexpected", name);
}

static int check_members(json_t *request, bool allow_oob, struct err **reterr)
{
    const char *name;
    json_t *value;

    if (!json_is_object(request)) {
        return err_set(reterr, EINVAL, "QMP input must be a JSON object");
    }
    json_object_foreach(request, name, value)
    {
        int rc = check_member(name, value, allow_oob, reterr);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

int qmp_request_check(json_t *request, bool allow_oob, struct qmp_call *ret_call,
                      struct err **reterr)
{
    json_t *in_order, *at_once;
    const char *name;
    int rc = check_members(request, allow_oob, reterr);

    if (rc < 0) {
        return rc;
    }
    in_order = json_object_get(request, "execute");
    at_once = json_object_get(request, "exec-oob");
    if (in_order != NULL && at_once != NULL) {
        return err_set(reterr, EINVAL, "QMP input member 'execute' clashes with 'exec-oob'");
    }
    if (in_order == NULL && at_once == NULL) {
        return err_set(reterr, EINVAL, "QMP input lacks member 'execute'");
    }
    name = json_string_value(in_order != NULL ? in_order : at_once);
    ret_call->command = qmp_command_find(name);
    ret_call->arguments = json_object_get(request, "arguments");
    if (ret_call->command == NULL) {
        return err_set_class(reterr, ERR_COMMAND_NOT_FOUND, EINVAL,
                             "The command %s has not been found", name);
    }
    if (at_once != NULL && !(ret_call->command->flags & QMP_AT_ONCE)) {
        return err_set(reterr, EINVAL, "The command %s does not support OOB", name);
    }
    return 0;
}

MAIN_LOOP CO_FN
static int run_with_table(const struct qmp_command *command, json_t *arguments, json_t **ret_value,
                          struct err **reterr)
{
    void *values = mem_alloc(command->arguments->values_bytes);
    int rc = opt_parse(command->arguments, arguments, 0, values, reterr);

    if (rc == 0) {
        rc = command->co_run(values, ret_value, reterr);
        opt_free_values(command->arguments, values);
    }
    mem_free(values);
    return rc;
}

static const struct opt_table no_arguments = {.name = "no arguments", .values_bytes = 1};

MAIN_LOOP CO_FN
static int run_any_form(const struct qmp_call *call, json_t *arguments, json_t **ret_value,
                        struct err **reterr)
{
    const struct qmp_command *command = call->command;
    char nothing;
    int rc;

    if (command->flags & QMP_FREE_FORM) {
        return command->co_run(arguments, ret_value, reterr);
    }
    if (command->arguments != NULL) {
        return run_with_table(command, arguments, ret_value, reterr);
    }
    rc = opt_parse(&no_arguments, arguments, 0, &nothing, reterr);
    return rc < 0 ? rc : command->co_run(NULL, ret_value, reterr);
}

int qmp_call_co_run(const struct qmp_call *call, json_t **ret_value, struct err **reterr)
{
    json_t *arguments;
    int rc;

    if (tables.refusal != NULL && !(call->command->flags & QMP_AT_ONCE)) {
        return err_set(reterr, ESHUTDOWN, "The command %s is not accepted: %s", call->command->name,
                       tables.refusal);
    }
    arguments = call->arguments != NULL ? json_incref(call->arguments) : json_object();
    *ret_value = NULL;
    rc = run_any_form(call, arguments, ret_value, reterr);
    json_decref(arguments);
    assert(rc <= 0);
    assert(rc == 0 || *ret_value == NULL);
    return rc;
}

/* ---- replies ------------------------------------------------------------------------------ */

static json_t *with_id(json_t *reply, json_t *request)
{
    json_t *id = json_object_get(request, "id");

    if (id != NULL) {
        json_object_set(reply, "id", id);
    }
    return reply;
}

json_t *qmp_reply_value(json_t *request, json_t *value)
{
    return with_id(json_pack("{s:o}", "return", value != NULL ? value : json_object()), request);
}

json_t *qmp_reply_error(json_t *request, struct err *error)
{
    json_t *desc = json_string(error->text);
    json_t *reply;

    if (desc == NULL) { /* a path that is not UTF-8, quoted in a message */
        desc = json_string("(the text of this error is not UTF-8)");
    }
    reply =
        json_pack("{s:{s:s,s:o}}", "error", "class", err_class_name(error->class), "desc", desc);
    err_free(error);
    return with_id(reply, request);
}

json_t *qmp_co_execute(json_t *request)
{
    struct err *error = NULL;
    json_t *value = NULL;
    struct qmp_call call;

    if (qmp_request_check(request, true, &call, &error) < 0 ||
        qmp_call_co_run(&call, &value, &error) < 0) {
        return qmp_reply_error(request, error);
    }
    return qmp_reply_value(request, value);
}
