/* daemon_int.h -- between the files of `caisson daemon`. */
#pragma once
#include "base/list.h"
#include "base/opt.h"
#include "base/str.h"
#include "qmp/qmp.h"

#define CAISSON_VERSION "0.1.0"

/* ---- options.c: what was typed ---- */

enum daemon_option {
    DAEMON_OBJECT,
    DAEMON_BLOCKDEV,
    DAEMON_CHARDEV,
    DAEMON_MONITOR,
    DAEMON_EXPORT,
    DAEMON_DEVICE,
    DAEMON_PIDFILE,
    DAEMON_DAEMONIZE,
    DAEMON_TRACE,
    DAEMON_LOG_LEVEL,
    DAEMON_SHUTDOWN_TIMEOUT,
    DAEMON_VERSION,
    DAEMON_HELP,
    DAEMON_OPTION_MAX_
};

/* One option that is carried out in its place on the command line. */
struct daemon_arg {
    struct list link;
    enum daemon_option option;
    char *text;      /* as typed: for messages */
    json_t *object;  /* its value, split */
    unsigned flags;  /* enum opt_parse_flags */
};

struct daemon_settings {
    struct list args; /* struct daemon_arg, in order */
    struct daemon_arg *help; /* the first one that asks for help: the only one looked at; in args */
    const char *pidfile;
    bool daemonize, wants_version, wants_help;
    uint64_t shutdown_timeout_ns;
};

/* The whole line is read, and each value split, before anything is done. -EINVAL with a text that
 * begins with the option. */
ANY_THREAD
int daemon_settings_parse(struct daemon_settings *settings, int argc, char **argv,
                          struct err **reterr);
ANY_THREAD
void daemon_settings_fini(struct daemon_settings *settings);
ANY_THREAD
const char *daemon_option_name(enum daemon_option option); /* "blockdev" */
/* The text of --help. */
ANY_THREAD
void daemon_usage(struct strbuf *to);

/* ---- help.c ---- */

/* What `--object help`, `--device scsi-hd,help` and so on print. -EINVAL: there is no such type. */
MAIN_LOOP
int daemon_help(const struct daemon_arg *arg, struct strbuf *to, struct err **reterr);

/* ---- chardev.c ---- */

struct chardevs {
    struct list all;
};
extern const struct opt_table chardev_socket_table;
extern const struct opt_table monitor_table;

MAIN_LOOP
void chardevs_init(struct chardevs *chardevs);
/* wait=on waits here for the first client. */
MAIN_LOOP CO_FN
int chardevs_co_add(struct chardevs *chardevs, json_t *object, unsigned flags, struct err **reterr);
MAIN_LOOP
int chardevs_add_monitor(struct chardevs *chardevs, json_t *object, unsigned flags,
                         struct err **reterr);
MAIN_LOOP
void chardevs_accept(struct chardevs *chardevs); /* from now on; before, clients wait */
MAIN_LOOP
void chardevs_abort(struct chardevs *chardevs); /* whoever waits for a client stops waiting */
MAIN_LOOP
void chardevs_stop(struct chardevs *chardevs); /* no new clients */
BLOCKING
void chardevs_fini(struct chardevs *chardevs); /* stopped; removes the socket files */

/* ---- objects.c: objects by id, and their properties ---- */

MAIN_LOOP CO_FN
int objects_co_add(json_t *object, unsigned flags, struct err **reterr);
MAIN_LOOP CO_FN
int objects_co_delete(const char *id, struct err **reterr);
/* "/objects/io0", or "io0" where that is the only one of the name. */
MAIN_LOOP
int objects_get(const char *path, const char *property, json_t **ret_value, struct err **reterr);
MAIN_LOOP
int objects_set(const char *path, const char *property, json_t *value, struct err **reterr);
MAIN_LOOP
int objects_list(const char *path, json_t **ret_list, struct err **reterr);
/* The types there are: name and table of properties. */
MAIN_LOOP
void objects_type_each(void (*each)(const char *name, const struct opt_table *table, void *opaque),
                       void *opaque);
MAIN_LOOP
json_t *objects_describe_iothreads(void);

/* ---- commands.c ---- */

extern const struct qmp_command *const daemon_commands[];
extern const size_t daemon_command_count;
extern const struct event_def *const daemon_events[];
extern const size_t daemon_event_count;

/* ---- daemon.c ---- */

/* Exports, nodes, I/O threads, monitors go, in this order; then the program ends. Idempotent. */
MAIN_LOOP
void daemon_quit(const char *why);
