/*
 * ctl.c -- `caisson ctl`: one command (or the event stream) over a control socket.
 *
 * A coroutine on a loop of its own, like everything that waits. Messages are JSON objects one after
 * the other; where one ends only the parser knows, so input is kept until a whole one is there.
 */
#include "cli/ctl.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/ctl_int.h"
#include "loop/loop.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/time.h"
#include "sync/asym.h"
#include "sync/rcu.h"
#include <errno.h>
#include <stdio.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 64 << 10, INPUT_BYTES_MAX = 64 << 20, TIMEOUT_S_MAX = 1000000 };

struct ctl {
    const char *socket;
    bool raw_json, events_only;
    const char *wait_event; /* --wait EVENT[:id] */
    char *wait_name;        /* its part before the colon */
    const char *wait_id;    /* NULL: any */
    uint64_t timeout_s, deadline_ns;
    const char *command;
    json_t *arguments;

    int fd;
    struct strbuf input;
    bool seen_awaited;
    int exit_status;
};

static const char usage[] =
    "usage: caisson ctl SOCKET [--json] [--wait EVENT[:ID]] [--timeout SECONDS] COMMAND "
    "[KEY=VALUE…]\n"
    "       caisson ctl SOCKET [--json] [--timeout SECONDS] events\n"
    "\n"
    "Runs one QMP command on the daemon's control socket and prints its answer.\n"
    "\n"
    "  --json             print the answer as JSON, as it came\n"
    "  --wait EVENT[:ID]  after the command has succeeded wait for this event (of this id)\n"
    "  --timeout SECONDS  give up after that long (default: never)\n"
    "  events             print events as they come\n"
    "\n"
    "KEY may be dotted (file.filename=disk.img). VALUE is JSON where it reads as JSON (10, true, "
    "null,\n"
    "[\"a\",\"b\"], '\"10\"' for the text 10), else text.\n"
    "\n"
    "Exit status: 0 done, 1 the command failed or the time is over, 2 wrong usage, 3 no "
    "connection.\n"
    "\n"
    "  caisson ctl /run/c.sock query-scsi-devices\n"
    "  caisson ctl /run/c.sock device_add driver=scsi-hd id=disk1 bus=hba0.0 drive=node1\n"
    "  caisson ctl /run/c.sock --wait DEVICE_DELETED:disk1 device_del id=disk1\n";

/* ---- messages ---------------------------------------------------------------------------- */

CO_FN
static int send_all(struct ctl *ctl, const char *text, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        struct iovec iov = {(void *)(uintptr_t)(text + done), bytes - done};
        ssize_t sent = os_send(ctl->fd, &iov, 1, NULL, 0);

        if (sent == -EAGAIN) {
            sent = loop_co_wait_fd(ctl->fd, LOOP_OUT, ctl->deadline_ns);
            if (sent < 0) {
                return (int)sent;
            }
            continue;
        }
        if (sent < 0) {
            return (int)sent;
        }
        done += (size_t)sent;
    }
    return 0;
}

/* One message off the front of the input, or NULL when none is whole. */
static json_t *next_buffered(struct ctl *ctl)
{
    json_error_t error;
    json_t *message;
    size_t used;

    if (ctl->input.bytes == 0) {
        return NULL;
    }
    message = json_loadb(ctl->input.text, ctl->input.bytes, JSON_DISABLE_EOF_CHECK, &error);
    if (message == NULL) {
        return NULL;
    }
    used = (size_t)error.position;
    memmove(ctl->input.text, ctl->input.text + used, ctl->input.bytes - used);
    ctl->input.bytes -= used;
    return message;
}

/* 0 and a new reference; -ECONNRESET at the end of the stream; -ETIMEDOUT. */
CO_FN
static int receive(struct ctl *ctl, json_t **ret_message)
{
    AUTO_MEM char *chunk = mem_alloc(READ_BYTES);
    int fds[OS_SOCKET_FDS_MAX], fd_count;

    while ((*ret_message = next_buffered(ctl)) == NULL) {
        ssize_t got = os_receive(ctl->fd, chunk, READ_BYTES, fds, &fd_count);

        if (got == -EAGAIN) {
            int rc = loop_co_wait_fd(ctl->fd, LOOP_IN, ctl->deadline_ns);

            if (rc < 0) {
                return rc;
            }
        } else if (got <= 0) {
            return got == 0 ? -ECONNRESET : (int)got;
        } else if (ctl->input.bytes > INPUT_BYTES_MAX) {
            return -EMSGSIZE; /* not JSON, or an answer nobody could read */
        } else {
            strbuf_add(&ctl->input, chunk, (size_t)got);
        }
    }
    return 0;
}

static void print_json(const json_t *message)
{
    char *text = json_dumps(message, JSON_ENCODE_ANY);

    puts(text != NULL ? text : "?");
    fflush(stdout);
    mem_free(text);
}

static bool is_awaited(const struct ctl *ctl, json_t *event)
{
    const char *name;
    json_t *value;

    if (ctl->wait_event == NULL ||
        !str_equal(json_string_value(json_object_get(event, "event")), ctl->wait_name)) {
        return false;
    }
    if (ctl->wait_id == NULL) {
        return true;
    }
    json_object_foreach(json_object_get(event, "data"), name, value) {
        if (str_equal(json_string_value(value), ctl->wait_id)) {
            return true;
        }
    }
    return false;
}

static void note_event(struct ctl *ctl, json_t *event)
{
    ctl->seen_awaited |= is_awaited(ctl, event);
    if (ctl->events_only) {
        if (ctl->raw_json) {
            print_json(event);
        } else {
            struct strbuf line = {0};

            ctl_format_event(event, &line);
            fputs(line.text, stdout);
            fflush(stdout);
            strbuf_fini(&line);
        }
    }
}

/* The next message that is not an event; events are noted on the way. */
CO_FN
static int receive_reply(struct ctl *ctl, json_t **ret_reply)
{
    for (;;) {
        json_t *message;
        int rc = receive(ctl, &message);

        if (rc < 0) {
            return rc;
        }
        if (json_object_get(message, "event") == NULL) {
            *ret_reply = message;
            return 0;
        }
        note_event(ctl, message);
        json_decref(message);
    }
}

CO_FN
static int execute(struct ctl *ctl, const char *command, json_t *arguments, json_t **ret_reply)
{
    json_t *request = json_pack("{s:s}", "execute", command);
    char *text;
    int rc;

    if (arguments != NULL && json_object_size(arguments) > 0) {
        json_object_set(request, "arguments", arguments);
    }
    text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    rc = send_all(ctl, text, strlen(text));
    mem_free(text);
    return rc < 0 ? rc : receive_reply(ctl, ret_reply);
}

/* ---- the conversation -------------------------------------------------------------------- */

static int lost(const struct ctl *ctl, int rc)
{
    if (rc == -ETIMEDOUT) {
        fprintf(stderr, "caisson ctl: %s: no answer within %" PRIu64 " s\n", ctl->socket,
                ctl->timeout_s);
        return CTL_ERROR_REPLY;
    }
    fprintf(stderr, "caisson ctl: %s: connection lost: %s\n", ctl->socket,
            rc == -ECONNRESET ? "the daemon closed it" : strerror(-rc));
    return CTL_NO_CONNECTION;
}

static int print_reply(const struct ctl *ctl, json_t *reply)
{
    json_t *error = json_object_get(reply, "error");

    if (ctl->raw_json) {
        print_json(error != NULL ? reply : json_object_get(reply, "return"));
    } else if (error == NULL) {
        struct strbuf text = {0};

        ctl_format_value(json_object_get(reply, "return"), &text);
        fputs(text.text != NULL ? text.text : "", stdout);
        strbuf_fini(&text);
    }
    if (error != NULL) {
        fprintf(stderr, "caisson ctl: %s: %s\n",
                json_string_value(json_object_get(error, "class")),
                json_string_value(json_object_get(error, "desc")));
        return CTL_ERROR_REPLY;
    }
    return CTL_OK;
}

CO_FN
static int greet(struct ctl *ctl)
{
    json_t *message = NULL;
    int rc = receive(ctl, &message);

    if (rc < 0) {
        return rc;
    }
    rc = json_object_get(message, "QMP") != NULL ? 0 : -EPROTO;
    json_decref(message);
    if (rc == 0) {
        rc = execute(ctl, "qmp_capabilities", NULL, &message);
        if (rc == 0) {
            json_decref(message);
        }
    }
    return rc;
}

CO_FN
static int wait_for_event(struct ctl *ctl)
{
    while (ctl->events_only || (ctl->wait_event != NULL && !ctl->seen_awaited)) {
        json_t *message;
        int rc = receive(ctl, &message);

        if (rc < 0) {
            return rc;
        }
        if (json_object_get(message, "event") != NULL) {
            note_event(ctl, message);
        }
        json_decref(message);
    }
    return 0;
}

CO_FN
static int converse(struct ctl *ctl)
{
    json_t *reply;
    int rc = greet(ctl);

    if (rc < 0) {
        return lost(ctl, rc);
    }
    if (!ctl->events_only) {
        int status;

        rc = execute(ctl, ctl->command, ctl->arguments, &reply);
        if (rc < 0) {
            return lost(ctl, rc);
        }
        status = print_reply(ctl, reply);
        json_decref(reply);
        if (status != CTL_OK) {
            return status;
        }
    }
    rc = wait_for_event(ctl);
    if (rc == -ETIMEDOUT && !ctl->events_only) {
        fprintf(stderr, "caisson ctl: no event %s within %" PRIu64 " s\n", ctl->wait_event,
                ctl->timeout_s);
        return CTL_ERROR_REPLY;
    }
    if (rc == -ETIMEDOUT) {
        return CTL_OK; /* `events --timeout`: that long was asked for */
    }
    return rc < 0 ? lost(ctl, rc) : CTL_OK;
}

CO_FN
static void ctl_co(void *opaque)
{
    struct ctl *ctl = opaque;

    ctl->exit_status = converse(ctl);
    loop_stop(loop_self());
}

/* ---- the command line -------------------------------------------------------------------- */

/* 1: an option that takes a value was read, and its value; 0: one without; -EINVAL. */
static int parse_option(struct ctl *ctl, const char *option, const char *value, struct err **reterr)
{
    if (strcmp(option, "--json") == 0) {
        ctl->raw_json = true;
        return 0;
    }
    if (strcmp(option, "--wait") != 0 && strcmp(option, "--timeout") != 0) {
        return err_set(reterr, EINVAL, "unknown option '%s'", option);
    }
    if (value == NULL) {
        return err_set(reterr, EINVAL, "option '%s' needs a value", option);
    }
    if (strcmp(option, "--wait") == 0) {
        const char *colon = strchr(value, ':');

        ctl->wait_event = value;
        ctl->wait_id = colon != NULL ? colon + 1 : NULL;
        mem_free(ctl->wait_name);
        ctl->wait_name = mem_strdup(value);
        ctl->wait_name[colon != NULL ? colon - value : (ptrdiff_t)strlen(value)] = '\0';
    } else if (str_parse_u64(value, TIMEOUT_S_MAX, &ctl->timeout_s) < 0 || ctl->timeout_s == 0) {
        return err_set(reterr, EINVAL, "--timeout '%s': a number of seconds from 1 to %d is wanted",
                       value, TIMEOUT_S_MAX);
    }
    return 1;
}

static int parse_command_line(struct ctl *ctl, int argc, char **argv, struct err **reterr)
{
    int at = 1;

    for (; at < argc; at++) {
        if (argv[at][0] == '-') {
            int rc = parse_option(ctl, argv[at], at + 1 < argc ? argv[at + 1] : NULL, reterr);

            if (rc < 0) {
                return rc;
            }
            at += rc;
        } else if (ctl->socket == NULL) {
            ctl->socket = argv[at];
        } else if (ctl->command == NULL) {
            ctl->command = argv[at];
        } else if (ctl_parse_argument(argv[at], ctl->arguments, reterr) < 0) {
            return -EINVAL;
        }
    }
    if (ctl->socket == NULL || ctl->command == NULL) {
        return err_set(reterr, EINVAL, "%s is missing",
                       ctl->socket == NULL ? "the control socket's path" : "a command");
    }
    ctl->events_only = strcmp(ctl->command, "events") == 0;
    return 0;
}

static int run(struct ctl *ctl)
{
    const struct loop_config config = {.name = "ctl"};
    struct err *error = NULL;
    struct loop *loop;

    ctl->fd = os_connect_unix(ctl->socket);
    if (ctl->fd < 0) {
        fprintf(stderr, "caisson ctl: %s: %s\n", ctl->socket, strerror(-ctl->fd));
        return CTL_NO_CONNECTION;
    }
    asym_init();
    rcu_thread_register();
    loop = loop_new(&config, &error);
    if (loop == NULL) {
        fprintf(stderr, "caisson ctl: %s\n", error->text);
        err_free(error);
        return CTL_NO_CONNECTION;
    }
    if (ctl->timeout_s != 0) {
        ctl->deadline_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC) + ctl->timeout_s * 1000000000;
    }
    loop_co_spawn(loop, ctl_co, ctl, "ctl");
    loop_run(loop);
    os_close_now(ctl->fd);
    return ctl->exit_status;
}

int cli_ctl_main(int argc, char **argv)
{
    struct ctl ctl = {.fd = -1, .arguments = json_object()};
    struct err *error = NULL;
    int status;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        status = CTL_OK;
    } else if (parse_command_line(&ctl, argc, argv, &error) < 0) {
        fprintf(stderr, "caisson ctl: %s\n\n%s", error->text, usage);
        err_free(error);
        status = CTL_USAGE;
    } else {
        status = run(&ctl);
    }
    json_decref(ctl.arguments);
    strbuf_fini(&ctl.input);
    mem_free(ctl.wait_name);
    return status;
}
