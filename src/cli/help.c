/* help.c -- `--device help`, `--blockdev file,help` and the like, out of the tables. */
#include "base/log.h"
#include "block/node.h"
#include "cli/daemon_int.h"
#include "device/device.h"
#include "export/export.h"
#include <errno.h>
#include <string.h>

/* Either the list of types, or the properties of the wanted one. */
struct help {
    struct strbuf *to;
    const char *wanted; /* NULL: the list */
    bool is_found;
};

static void add_type(struct help *help, const char *name, const struct opt_table *table)
{
    if (help->wanted == NULL) {
        strbuf_addf(help->to, "  %-20s %s\n", name, table->help != NULL ? table->help : "");
    } else if (strcmp(help->wanted, name) == 0) {
        strbuf_addf(help->to, "%s options:\n", name);
        opt_help(table, help->to);
        help->is_found = true;
    }
}

static void add_table(const char *name, const struct opt_table *table, void *opaque)
{
    add_type(opaque, name, table);
}

static void add_driver(const struct blk_driver *driver, void *opaque)
{
    add_type(opaque, driver->name, driver->options);
}

static void add_export(const struct export_type *type, void *opaque)
{
    add_type(opaque, type->name, type->options);
}

static void add_trace_point(const char *name, void *opaque)
{
    struct help *help = opaque;

    strbuf_addf(help->to, "%s\n", name);
}

struct kind {
    const char *heading;
    const char *key; /* of the member that names the type */
};
static const struct kind kinds[DAEMON_OPTION_MAX_] = {
    [DAEMON_OBJECT] = {"List of user creatable objects:\n", "qom-type"},
    [DAEMON_BLOCKDEV] = {"Block drivers:\n", "driver"},
    [DAEMON_CHARDEV] = {"Available chardev backend types:\n", "backend"},
    [DAEMON_EXPORT] = {"Export types:\n", "type"},
    [DAEMON_DEVICE] = {"Devices:\n", "driver"},
};

MAIN_LOOP
static void add_kind(enum daemon_option option, struct help *help)
{
    switch (option) {
    case DAEMON_OBJECT:
        objects_type_each(add_table, help);
        break;
    case DAEMON_BLOCKDEV:
        blk_driver_each(add_driver, help);
        break;
    case DAEMON_CHARDEV:
        add_type(help, "socket", &chardev_socket_table);
        break;
    case DAEMON_EXPORT:
        export_type_each(add_export, help);
        break;
    case DAEMON_DEVICE:
        device_driver_each(add_table, help);
        break;
    case DAEMON_MONITOR:
        add_type(help, "monitor", &monitor_table);
        break;
    case DAEMON_TRACE:
        trace_list(add_trace_point, help);
        break;
    case DAEMON_PIDFILE:
    case DAEMON_DAEMONIZE:
    case DAEMON_LOG_LEVEL:
    case DAEMON_SHUTDOWN_TIMEOUT:
    case DAEMON_VERSION:
    case DAEMON_HELP:
    case DAEMON_OPTION_MAX_:
    default:
        unreachable(); /* none of these takes keys */
    }
}

int daemon_help(const struct daemon_arg *arg, struct strbuf *to, struct err **reterr)
{
    const struct kind *kind = &kinds[arg->option];
    struct help help = {.to = to};

    if (kind->key != NULL) {
        help.wanted = json_string_value(json_object_get(arg->object, kind->key));
    } else if (arg->option == DAEMON_MONITOR) {
        help.wanted = "monitor";
    }
    if (kind->heading != NULL && help.wanted == NULL) {
        strbuf_addf(to, "%s", kind->heading);
    }
    add_kind(arg->option, &help);
    if (help.wanted != NULL && !help.is_found) {
        return err_set(reterr, EINVAL,
                       "--%s: Parameter '%s' does not accept value '%s'; `--%s help` lists them",
                       daemon_option_name(arg->option), kind->key, help.wanted,
                       daemon_option_name(arg->option));
    }
    return 0;
}
