/*
 * options.c -- the command line of `caisson daemon`, as a list in its order.
 *
 * One table names every option; parser, --help and "did you mean" read it. Nothing is carried out
 * here, so a slip anywhere on the line changes nothing.
 */
#include "base/log.h"
#include "base/mem.h"
#include "cli/daemon_int.h"
#include <errno.h>
#include <string.h>

enum { SHUTDOWN_TIMEOUT_S_DEFAULT = 30, SHUTDOWN_TIMEOUT_S_MAX = 24 * 3600 };

struct option_def {
    const char *name;
    char letter;             /* 0: none */
    const char *argument;    /* as --help shows it; NULL: takes none */
    const char *implied_key; /* of a value of keys; NULL: the value is plain text */
    bool is_keyed;           /* carried out in order, with a value of keys (or JSON) */
    const char *help;
};

static const struct option_def defs[DAEMON_OPTION_MAX_] = {
    [DAEMON_OBJECT] = {"object", 0, "iothread,id=ID[,poll-max-ns=N][,…]", "qom-type", true,
                       "make an object: an I/O thread"},
    [DAEMON_BLOCKDEV] = {"blockdev", 0, "[driver=]DRIVER,node-name=NODE[,…]", "driver", true,
                         "open a block node"},
    [DAEMON_CHARDEV] = {"chardev", 0,
                        "socket,id=ID,path=PATH[,server=on|off][,wait=on|off]\n"
                        "            socket,id=ID,fd=N[,server=on|off]",
                        "backend", true, "make a socket for --monitor"},
    [DAEMON_MONITOR] = {"monitor", 0, "[chardev=]ID[,mode=control][,pretty=on|off]", "chardev",
                        true, "serve the control protocol (QMP) on a --chardev"},
    [DAEMON_EXPORT] = {"export", 0,
                       "[type=]vhost-user-scsi,id=ID,addr.type=unix,addr.path=PATH[,num-queues=N]\n"
                       "           [,iothread=ID | ,iothread.0=ID,iothread.1=ID…]",
                       "type", true,
                       "open a front door: a SCSI host adapter for a virtual machine"},
    [DAEMON_DEVICE] =
        {"device", 0, "scsi-hd,id=ID,bus=EXPORT.0,drive=NODE[,scsi-id=N][,lun=N][,serial=TEXT][,…]",
         "driver", true, "plug a disk"},
    [DAEMON_PIDFILE] = {"pidfile", 0, "PATH", NULL, false,
                        "write and lock a pid file when all options have succeeded"},
    [DAEMON_DAEMONIZE] = {"daemonize", 0, NULL, NULL, false,
                          "go to the background when all options have succeeded"},
    [DAEMON_TRACE] = {"trace", 'T', "[enable=]PATTERN", NULL, false,
                      "switch on trace points; `-T help` lists them"},
    [DAEMON_LOG_LEVEL] = {"log-level", 0, "error|warn|info|debug", NULL, false,
                          "what is worth a line on standard error (default: info)"},
    [DAEMON_SHUTDOWN_TIMEOUT] = {"shutdown-timeout", 0, "SECONDS", NULL, false,
                                 "how long requests may take to end at the end (default: 30)"},
    [DAEMON_VERSION] = {"version", 'V', NULL, NULL, false, "print the version and exit"},
    [DAEMON_HELP] = {"help", 'h', NULL, NULL, false, "print this help and exit"},
};

const char *daemon_option_name(enum daemon_option option)
{
    return defs[option].name;
}

void daemon_usage(struct strbuf *to)
{
    strbuf_addf(to, "usage: caisson daemon [OPTION]…\n"
                    "Serve virtual disks to virtual machines.\n\n");
    for (size_t i = 0; i < countof(defs); i++) {
        const struct option_def *def = &defs[i];

        if (def->letter != 0) {
            strbuf_addf(to, "  -%c, --%s%s%s\n", def->letter, def->name,
                        def->argument != NULL ? " " : "",
                        def->argument != NULL ? def->argument : "");
        } else {
            strbuf_addf(to, "  --%s%s%s\n", def->name, def->argument != NULL ? " " : "",
                        def->argument != NULL ? def->argument : "");
        }
        strbuf_addf(to, "          %s\n", def->help);
    }
    strbuf_addf(
        to,
        "\nOptions are carried out in the order in which they stand; when one fails, what was done "
        "is undone\nand the exit status is 1. `--object help`, `--blockdev help`, `--export help`, "
        "`--device help`,\n`--chardev help` list types, `--device scsi-hd,help` and the like their "
        "properties. Instead of\nkeys each takes a JSON object. SIGTERM, SIGINT, SIGHUP and the "
        "command `quit` end the program;\na second signal ends it at once.\n");
}

/* ---- one option ---- */

static int find_long(const char *name, size_t bytes, enum daemon_option *ret_option,
                     struct err **reterr)
{
    AUTO_MEM char *wanted = str_format("%.*s", (int)bytes, name);
    const char *nearest = NULL;
    size_t nearest_distance = SIZE_MAX;

    for (size_t i = 0; i < countof(defs); i++) {
        size_t distance = str_distance(wanted, defs[i].name);

        if (strcmp(wanted, defs[i].name) == 0) {
            *ret_option = (enum daemon_option)i;
            return 0;
        }
        if (distance < nearest_distance) {
            nearest = defs[i].name;
            nearest_distance = distance;
        }
    }
    if (nearest != NULL) {
        return err_set(reterr, EINVAL, "unrecognized option '--%s'; did you mean '--%s'?", wanted,
                       nearest);
    }
    return err_set(reterr, EINVAL, "unrecognized option '--%s'; see --help", wanted);
}

static int find_short(char letter, enum daemon_option *ret_option, struct err **reterr)
{
    for (size_t i = 0; i < countof(defs); i++) {
        if (defs[i].letter == letter && letter != 0) {
            *ret_option = (enum daemon_option)i;
            return 0;
        }
    }
    return err_set(reterr, EINVAL, "unrecognized option '-%c'; see --help", letter);
}

/* An option and its value, however they were written. */
struct typed {
    enum daemon_option option;
    const char *value; /* NULL: none */
    int used;          /* words of the line */
};

/* The value stands behind '=' or the letter (@attached), or is the next word. */
static int find_value(struct typed *typed, const char *attached, const char *next,
                      struct err **reterr)
{
    const struct option_def *def = &defs[typed->option];

    typed->used = 1;
    typed->value = attached;
    if (def->argument == NULL) {
        return attached == NULL
                   ? 0
                   : err_set(reterr, EINVAL, "option '--%s' takes no value", def->name);
    }
    if (attached == NULL && next == NULL) {
        return err_set(reterr, EINVAL, "option '--%s' requires an argument: %s", def->name,
                       def->argument);
    }
    if (attached == NULL) {
        typed->value = next;
        typed->used = 2;
    }
    return 0;
}

static int read_typed(const char *word, const char *next, struct typed *typed, struct err **reterr)
{
    const char *attached;
    int rc;

    if (word[0] != '-' || word[1] == '\0' || strcmp(word, "--") == 0) {
        return err_set(reterr, EINVAL, "%s: Unexpected argument; options begin with '--'", word);
    }
    if (word[1] == '-') {
        size_t bytes = strcspn(word + 2, "=");

        attached = word[2 + bytes] == '=' ? word + 2 + bytes + 1 : NULL;
        rc = find_long(word + 2, bytes, &typed->option, reterr);
    } else {
        attached = word[2] != '\0' ? word + 2 : NULL;
        rc = find_short(word[1], &typed->option, reterr);
    }
    return rc < 0 ? rc : find_value(typed, attached, next, reterr);
}

/* ---- what it means ---- */

static int add_keyed(struct daemon_settings *settings, const struct typed *typed,
                     struct err **reterr)
{
    const struct option_def *def = &defs[typed->option];
    struct daemon_arg *arg;
    json_t *object = NULL;
    unsigned flags = 0;
    bool help = false;

    if (opt_parse_string(typed->value, def->implied_key, &object, &flags, &help, reterr) < 0) {
        err_prepend(reterr, "--%s %s: ", def->name, typed->value);
        return -EINVAL;
    }
    arg = mem_new(struct daemon_arg);
    arg->option = typed->option;
    arg->text = mem_strdup(typed->value);
    arg->object = object;
    arg->flags = flags;
    list_add_tail(&settings->args, &arg->link);
    if (help && settings->help == NULL) {
        settings->help = arg;
    }
    return 0;
}

static int set_trace(struct daemon_settings *settings, const struct typed *typed,
                     struct err **reterr)
{
    const char *pattern = typed->value;

    if (strcmp(pattern, "help") == 0 || strcmp(pattern, "?") == 0) {
        return add_keyed(settings, typed, reterr);
    }
    if (str_has_prefix(pattern, "enable=")) {
        pattern += strlen("enable=");
    }
    if (strpbrk(pattern, "=,") != NULL) {
        return err_set(reterr, EINVAL, "--trace %s: only [enable=]PATTERN is supported", pattern);
    }
    if (trace_enable(pattern) == 0) {
        return err_set(reterr, EINVAL, "--trace %s: no trace point has such a name; see -T help",
                       pattern);
    }
    return 0;
}

static int set_log_level(const char *text, struct err **reterr)
{
    enum log_level level = LOG_INFO;

    if (log_level_parse(text, &level) < 0) {
        return err_set(reterr, EINVAL, "--log-level %s: error, warn, info or debug is wanted",
                       text);
    }
    log_set_level(level);
    return 0;
}

static int set_shutdown_timeout(struct daemon_settings *settings, const char *text,
                                struct err **reterr)
{
    uint64_t seconds = 0;

    if (str_parse_u64(text, SHUTDOWN_TIMEOUT_S_MAX, &seconds) < 0) {
        return err_set(reterr, EINVAL,
                       "--shutdown-timeout %s: a number of seconds from 0 to %d is wanted", text,
                       SHUTDOWN_TIMEOUT_S_MAX);
    }
    settings->shutdown_timeout_ns = seconds * 1000000000;
    return 0;
}

static int apply(struct daemon_settings *settings, const struct typed *typed, struct err **reterr)
{
    switch (typed->option) {
    case DAEMON_OBJECT:
    case DAEMON_BLOCKDEV:
    case DAEMON_CHARDEV:
    case DAEMON_MONITOR:
    case DAEMON_EXPORT:
    case DAEMON_DEVICE:
        return add_keyed(settings, typed, reterr);
    case DAEMON_PIDFILE:
        settings->pidfile = typed->value;
        return 0;
    case DAEMON_DAEMONIZE:
        settings->daemonize = true;
        return 0;
    case DAEMON_TRACE:
        return set_trace(settings, typed, reterr);
    case DAEMON_LOG_LEVEL:
        return set_log_level(typed->value, reterr);
    case DAEMON_SHUTDOWN_TIMEOUT:
        return set_shutdown_timeout(settings, typed->value, reterr);
    case DAEMON_VERSION:
        settings->wants_version = true;
        return 0;
    case DAEMON_HELP:
        settings->wants_help = true;
        return 0;
    case DAEMON_OPTION_MAX_:
        break;
    }
    unreachable();
}

int daemon_settings_parse(struct daemon_settings *settings, int argc, char **argv,
                          struct err **reterr)
{
    *settings = (struct daemon_settings){
        .shutdown_timeout_ns = SHUTDOWN_TIMEOUT_S_DEFAULT * 1000000000ULL};
    list_init(&settings->args);
    for (int at = 1; at < argc && !settings->wants_help && !settings->wants_version;) {
        struct typed typed = {.option = DAEMON_OPTION_MAX_};
        int rc = read_typed(argv[at], at + 1 < argc ? argv[at + 1] : NULL, &typed, reterr);

        if (rc == 0) {
            rc = apply(settings, &typed, reterr);
        }
        if (rc < 0) {
            daemon_settings_fini(settings);
            return rc;
        }
        at += typed.used;
    }
    return 0;
}

void daemon_settings_fini(struct daemon_settings *settings)
{
    struct list *link;

    while ((link = list_pop_head(&settings->args)) != NULL) {
        struct daemon_arg *arg = list_entry(link, struct daemon_arg, link);

        json_decref(arg->object);
        mem_free(arg->text);
        mem_free(arg);
    }
}
