/*
 * commands.c -- the commands and events of `caisson daemon`, declared once.
 *
 * A handler takes the parsed arguments to the subsystem that knows; the rules are there.
 */
#include "block/drain.h"
#include "block/node.h"
#include "cli/daemon_int.h"
#include "device/device.h"
#include "export/export.h"
#include <errno.h>

/* Handlers of free-form commands get the arguments object itself. */
static json_t *free_form(const void *values)
{
    return (json_t *)(uintptr_t)values;
}

/* ---- objects ---- */

struct id_values {
    char *id;
};
static const struct opt id_opts[] = {
    {.name = "id", .type = OPT_STR, .flags = OPT_REQUIRED, OPT_AT(struct id_values, id),
     .since = "0.1", .help = "its id"},
};
static const struct opt_table id_table = {.name = "id", .opts = id_opts, .count = countof(id_opts),
                                          .values_bytes = sizeof(struct id_values)};

MAIN_LOOP CO_FN
static int run_object_add(const void *values, json_t **ret_value, struct err **reterr)
{
    return objects_co_add(free_form(values), 0, reterr);
}

MAIN_LOOP CO_FN
static int run_object_del(const void *values, json_t **ret_value, struct err **reterr)
{
    return objects_co_delete(((const struct id_values *)values)->id, reterr);
}

struct qom_values {
    char *path;
    char *property;
    json_t *value;
};
static const struct opt qom_path_opts[] = {
    {.name = "path", .type = OPT_STR, .flags = OPT_REQUIRED, OPT_AT(struct qom_values, path),
     .since = "0.1", .help = "/objects/ID"},
};
static const struct opt_table qom_path_table = {.name = "qom-list", .opts = qom_path_opts,
                                                .count = countof(qom_path_opts),
                                                .values_bytes = sizeof(struct qom_values)};
static const struct opt qom_property_opts[] = {
    {.name = "property",
     .type = OPT_STR,
     .flags = OPT_REQUIRED,
     OPT_AT(struct qom_values, property),
     .since = "0.1",
     .help = "name of the property"},
};
static const struct opt_table qom_property_table = {
    .name = "qom-get", .base = &qom_path_table, .opts = qom_property_opts,
    .count = countof(qom_property_opts), .values_bytes = sizeof(struct qom_values)};
static const struct opt qom_value_opts[] = {
    {.name = "value", .type = OPT_JSON, .flags = OPT_REQUIRED, OPT_AT(struct qom_values, value),
     .since = "0.1", .help = "its new value"},
};
static const struct opt_table qom_value_table = {
    .name = "qom-set", .base = &qom_property_table, .opts = qom_value_opts,
    .count = countof(qom_value_opts), .values_bytes = sizeof(struct qom_values)};

MAIN_LOOP CO_FN
static int run_qom_list(const void *values, json_t **ret_value, struct err **reterr)
{
    return objects_list(((const struct qom_values *)values)->path, ret_value, reterr);
}

MAIN_LOOP CO_FN
static int run_qom_get(const void *values, json_t **ret_value, struct err **reterr)
{
    const struct qom_values *v = values;

    return objects_get(v->path, v->property, ret_value, reterr);
}

MAIN_LOOP CO_FN
static int run_qom_set(const void *values, json_t **ret_value, struct err **reterr)
{
    const struct qom_values *v = values;

    return objects_set(v->path, v->property, v->value, reterr);
}

MAIN_LOOP CO_FN
static int run_query_iothreads(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = objects_describe_iothreads();
    return 0;
}

static const struct qmp_command object_add = {
    .name = "object-add", .flags = QMP_FREE_FORM, .since = "0.1", .co_run = run_object_add,
    .help = "make an object: {qom-type, id, and the type's properties}"};
static const struct qmp_command object_del = {
    .name = "object-del", .arguments = &id_table, .since = "0.1", .co_run = run_object_del,
    .help = "delete an object that nobody uses"};
static const struct qmp_command qom_list = {
    .name = "qom-list", .arguments = &qom_path_table, .flags = QMP_AT_ONCE, .since = "0.1",
    .returns = "[ObjectPropertyInfo]", .co_run = run_qom_list, .help = "properties of an object"};
static const struct qmp_command qom_get = {
    .name = "qom-get", .arguments = &qom_property_table, .flags = QMP_AT_ONCE, .since = "0.1",
    .returns = "any", .co_run = run_qom_get, .help = "value of an object's property"};
static const struct qmp_command qom_set = {
    .name = "qom-set", .arguments = &qom_value_table, .since = "0.1", .co_run = run_qom_set,
    .help = "change an object's property"};
static const struct qmp_command query_iothreads = {
    .name = "query-iothreads", .flags = QMP_AT_ONCE, .since = "0.1", .returns = "[IOThreadInfo]",
    .co_run = run_query_iothreads, .help = "I/O threads, how they poll and on which engine"};

/* ---- nodes ---- */

struct node_name_values {
    char *node_name;
};
static const struct opt node_name_opts[] = {
    {.name = "node-name", .type = OPT_STR, .flags = OPT_REQUIRED,
     OPT_AT(struct node_name_values, node_name), .since = "0.1", .help = "name of the node"},
};
static const struct opt_table node_name_table = {
    .name = "blockdev-del", .opts = node_name_opts, .count = countof(node_name_opts),
    .values_bytes = sizeof(struct node_name_values)};

struct flat_values {
    bool flat;
};
static const struct opt flat_opts[] = {
    {.name = "flat", .type = OPT_BOOL, OPT_AT(struct flat_values, flat), .dflt = "false",
     .since = "0.1", .help = "accepted for compatibility: backing files are never nested here"},
};
static const struct opt_table flat_table = {.name = "query-named-block-nodes", .opts = flat_opts,
                                            .count = countof(flat_opts),
                                            .values_bytes = sizeof(struct flat_values)};

MAIN_LOOP CO_FN
static int run_blockdev_add(const void *values, json_t **ret_value, struct err **reterr)
{
    return blk_node_co_add(free_form(values), 0, reterr);
}

MAIN_LOOP CO_FN
static int run_blockdev_del(const void *values, json_t **ret_value, struct err **reterr)
{
    return blk_node_co_delete(((const struct node_name_values *)values)->node_name, reterr);
}

MAIN_LOOP
static void add_node(struct blk_node *node, void *opaque)
{
    json_array_append_new(opaque, blk_node_describe(node));
}

MAIN_LOOP CO_FN
static int run_query_named_block_nodes(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = json_array();
    blk_node_each(add_node, *ret_value);
    return 0;
}

static const struct qmp_command blockdev_add = {
    .name = "blockdev-add", .flags = QMP_FREE_FORM, .since = "0.1", .co_run = run_blockdev_add,
    .help = "open a node: {driver, node-name, and the driver's options}"};
static const struct qmp_command blockdev_del = {
    .name = "blockdev-del", .arguments = &node_name_table, .since = "0.1",
    .co_run = run_blockdev_del, .help = "close a node that nobody uses"};
static const struct qmp_command query_named_block_nodes = {
    .name = "query-named-block-nodes", .arguments = &flat_table, .flags = QMP_AT_ONCE,
    .since = "0.1", .returns = "[BlockDeviceInfo]", .co_run = run_query_named_block_nodes,
    .help = "the nodes there are"};

/* ---- exports ---- */

static const char *const delete_modes[] = {"safe", "hard", NULL};
enum delete_mode { DELETE_SAFE, DELETE_HARD };

struct export_delete_values {
    char *id;
    int mode;
};
static const struct opt export_delete_opts[] = {
    {.name = "id", .type = OPT_STR, .flags = OPT_REQUIRED, OPT_AT(struct export_delete_values, id),
     .since = "0.1", .help = "the export's id"},
    {.name = "mode", .type = OPT_ENUM, OPT_AT(struct export_delete_values, mode),
     .names = delete_modes, .dflt = "safe", .since = "0.1",
     .help = "safe: fail while it is in use; hard: disconnect and unplug"},
};
static const struct opt_table export_delete_table = {
    .name = "block-export-del", .opts = export_delete_opts, .count = countof(export_delete_opts),
    .values_bytes = sizeof(struct export_delete_values)};

MAIN_LOOP CO_FN
static int run_export_add(const void *values, json_t **ret_value, struct err **reterr)
{
    return export_co_add(free_form(values), 0, reterr);
}

MAIN_LOOP CO_FN
static int run_export_del(const void *values, json_t **ret_value, struct err **reterr)
{
    const struct export_delete_values *v = values;

    return export_co_delete(v->id, v->mode == DELETE_HARD, reterr);
}

MAIN_LOOP CO_FN
static int run_query_exports(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = export_describe_all();
    return 0;
}

static const struct qmp_command block_export_add = {
    .name = "block-export-add", .flags = QMP_FREE_FORM, .since = "0.1", .co_run = run_export_add,
    .help = "open a front door: {type, id, and the type's options}"};
static const struct qmp_command block_export_del = {
    .name = "block-export-del",
    .arguments = &export_delete_table,
    .since = "0.1",
    .co_run = run_export_del,
    .help = "close a front door; BLOCK_EXPORT_DELETED says when it is gone"};
static const struct qmp_command query_block_exports = {
    .name = "query-block-exports", .flags = QMP_AT_ONCE, .since = "0.1",
    .returns = "[BlockExportInfo]", .co_run = run_query_exports, .help = "the exports there are"};

/* ---- devices ---- */

MAIN_LOOP CO_FN
static int run_device_add(const void *values, json_t **ret_value, struct err **reterr)
{
    return device_co_add(free_form(values), 0, reterr);
}

MAIN_LOOP CO_FN
static int run_device_del(const void *values, json_t **ret_value, struct err **reterr)
{
    return device_co_delete(((const struct id_values *)values)->id, reterr);
}

MAIN_LOOP CO_FN
static int run_query_scsi(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = device_describe_scsi();
    return 0;
}

static const struct qmp_command device_add = {
    .name = "device_add", .flags = QMP_FREE_FORM, .since = "0.1", .co_run = run_device_add,
    .help = "plug a device: {driver, id, bus, and the driver's properties}"};
static const struct qmp_command device_del = {
    .name = "device_del", .arguments = &id_table, .flags = QMP_AT_ONCE, .since = "0.1",
    .co_run = run_device_del, .help = "unplug a device; DEVICE_DELETED says when it is gone"};
static const struct qmp_command query_scsi_devices = {
    .name = "query-scsi-devices", .flags = QMP_AT_ONCE, .since = "0.1",
    .returns = "[ScsiDeviceInfo]", .co_run = run_query_scsi, .help = "the disks that are plugged"};

/* ---- the program ---- */

MAIN_LOOP CO_FN
static int run_query_waits(const void *values, json_t **ret_value, struct err **reterr)
{
    *ret_value = json_array();
    blk_sections_describe(*ret_value);
    device_describe_waits(*ret_value);
    export_describe_waits(*ret_value);
    return 0;
}

MAIN_LOOP CO_FN
static int run_quit(const void *values, json_t **ret_value, struct err **reterr)
{
    daemon_quit("the command quit");
    return 0;
}

static const struct qmp_command query_waits = {
    .name = "query-waits",
    .flags = QMP_AT_ONCE,
    .since = "0.1",
    .returns = "[WaitInfo]",
    .co_run = run_query_waits,
    .help = "what is waited for: by whom, since when, for which requests"};
static const struct qmp_command quit = {
    .name = "quit", .flags = QMP_AT_ONCE, .since = "0.1", .co_run = run_quit,
    .help = "end the program: exports, devices and nodes first"};

const struct qmp_command *const daemon_commands[] = {
    &object_add,       &object_del,   &qom_list,     &qom_get,
    &qom_set,          &blockdev_add, &blockdev_del, &query_named_block_nodes,
    &block_export_add, &block_export_del, &query_block_exports, &device_add,
    &device_del,       &query_scsi_devices, &query_iothreads,   &query_waits,
    &quit,
};
const size_t daemon_command_count = countof(daemon_commands);

const struct event_def *const daemon_events[] = {&device_deleted_event, &export_deleted_event};
const size_t daemon_event_count = countof(daemon_events);
