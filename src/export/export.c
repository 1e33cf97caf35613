/*
 * export.c -- the exports there are: added, described, deleted.
 *
 * (X1) An id is taken from the call of export_co_add() until BLOCK_EXPORT_DELETED is emitted.
 * (X2) Deleting shuts the door at once and then closes in a coroutine of its own, which alone takes
 *      the export off the list; a second deletion is refused.
 */
#include <errno.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "export/export_int.h"

static const struct export_type *const *types;
static size_t type_count;
static struct list exports = LIST_INIT(exports);
static bool doors_are_held;
static struct co_wait *shutdown_waits; /* NULL, or who waits for an export to go */

static const struct opt export_opts[] = {
    {.name = "type", .type = OPT_STR, OPT_AT(struct export_options, type), .flags = OPT_REQUIRED,
     .since = "0.1", .help = "the type of export"},
    {.name = "id", .type = OPT_STR, OPT_AT(struct export_options, id), .flags = OPT_REQUIRED,
     .since = "0.1", .help = "its name, not used by another export"},
    {.name = "iothread", .type = OPT_STRS, OPT_AT(struct export_options, iothread), .since = "0.1",
     .help = "I/O thread to run in, or several; default: the main loop"},
    {.name = "fixed-iothread", .type = OPT_BOOL, OPT_AT(struct export_options, fixed_iothread),
     .dflt = "false", .since = "0.1",
     .help = "accepted for compatibility: nothing ever moves an export off its I/O threads here"},
};
const struct opt_table export_options_table = {
    .name = "export",
    .opts = export_opts,
    .count = countof(export_opts),
    .values_bytes = sizeof(struct export_options),
};

static const struct opt deleted_members[] = {
    {.name = "id", .type = OPT_STR, .since = "0.1", .help = "the export's id"},
};
static const struct opt_table deleted_table = {
    .name = "BLOCK_EXPORT_DELETED",
    .opts = deleted_members,
    .count = countof(deleted_members),
};
const struct event_def export_deleted_event = {
    .name = "BLOCK_EXPORT_DELETED",
    .members = &deleted_table,
    .since = "0.1",
    .help = "an export is gone: its id and its socket are free",
};

void export_types_set(const struct export_type *const *new_types, size_t count)
{
    types = new_types;
    type_count = count;
}

void export_type_each(void (*each)(const struct export_type *type, void *opaque), void *opaque)
{
    for (size_t i = 0; i < type_count; i++) {
        each(types[i], opaque);
    }
}

MAIN_LOOP
static struct export *export_find(const char *id)
{
    struct export *export;

    list_for_each(export, &exports, link) {
        if (str_equal(export->id, id)) {
            return export;
        }
    }
    return NULL;
}

MAIN_LOOP
static void tell_shutdown(void)
{
    if (shutdown_waits != NULL) {
        co_wait_complete(take(&shutdown_waits), 0);
    }
}

MAIN_LOOP
static void export_free(struct export *export)
{
    list_remove(&export->link);
    mem_free(export->id);
    mem_free(export);
    tell_shutdown();
}

/* ---- add ---------------------------------------------------------------------------------- */

MAIN_LOOP
static const struct export_type *type_find(json_t *options, struct err **reterr)
{
    const char *name = json_string_value(json_object_get(options, "type"));
    struct strbuf known = {0};

    if (name == NULL) {
        err_set(reterr, EINVAL, "Parameter 'type' is missing");
        return NULL;
    }
    for (size_t i = 0; i < type_count; i++) {
        if (str_equal(types[i]->name, name)) {
            strbuf_fini(&known);
            return types[i];
        }
        strbuf_addf(&known, "%s'%s'", i > 0 ? ", " : "", types[i]->name);
    }
    err_set(reterr, EINVAL, "Parameter 'type' does not accept value '%s'; there is %s", name,
            known.text != NULL ? known.text : "none");
    strbuf_fini(&known);
    return NULL;
}

MAIN_LOOP CO_FN
static int export_co_open(const struct export_type *type, const struct export_options *options,
                          struct err **reterr)
{
    struct export *export;
    int rc;

    if (!str_is_wellformed_id(options->id)) {
        return err_set(reterr, EINVAL,
                       "Invalid block export id '%s': it must begin with a letter and consist of "
                       "letters, digits, '-', '.' and '_'", options->id);
    }
    if (export_find(options->id) != NULL) {
        return err_set(reterr, EEXIST, "Block export id '%s' is already in use", options->id);
    }
    export = mem_alloc(type->bytes);
    export->type = type;
    export->id = mem_strdup(options->id);
    list_add_tail(&exports, &export->link); /* (X1) */
    rc = type->co_open(export, options, reterr);
    if (rc < 0) {
        export_free(export);
        return rc;
    }
    export->is_open = true;
    tell_shutdown();
    return 0;
}

int export_co_add(json_t *options, unsigned flags, struct err **reterr)
{
    const struct export_type *type = type_find(options, reterr);
    AUTO_MEM struct export_options *values = NULL;
    int rc;

    if (type == NULL) {
        return -EINVAL;
    }
    values = mem_alloc(type->options->values_bytes);
    rc = opt_parse(type->options, options, flags, values, reterr);
    if (rc < 0) {
        return rc;
    }
    rc = export_co_open(type, values, reterr);
    opt_free_values(type->options, values);
    return rc;
}

/* ---- start-up ---------------------------------------------------------------------------- */

void export_hold_doors(bool is_held)
{
    struct export *export;

    doors_are_held = is_held;
    if (is_held) {
        return;
    }
    list_for_each(export, &exports, link) {
        if (export->is_open && !export->is_shutting_down) {
            export->type->admit(export);
        }
    }
}

bool export_doors_are_held(void)
{
    return doors_are_held;
}

/* ---- delete ------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void close_co(void *opaque)
{
    struct export *export = opaque;
    json_t *data = json_object();

    export->type->co_close(export);
    json_object_set_new(data, "id", json_string(export->id));
    export_free(export);
    event_emit(&export_deleted_event, data);
}

/* (X2) */
MAIN_LOOP
static void delete_begin(struct export *export)
{
    export->is_shutting_down = true;
    export->since_ns = loop_now_ns(LOOP_CLOCK_REALTIME);
    export->type->shut(export);
    loop_co_spawn(loop_main(), close_co, export, "export close");
}

int export_co_delete(const char *id, bool hard, struct err **reterr)
{
    struct export *export = export_find(id);

    if (export == NULL) {
        return err_set(reterr, ENOENT, "Export '%s' is not found", id);
    }
    if (!export->is_open) {
        return err_set(reterr, EBUSY, "Export '%s' is still being added", id);
    }
    if (export->is_shutting_down) {
        return err_set(reterr, EBUSY, "Export '%s' is already shutting down", id);
    }
    if (!hard) {
        int rc = export->type->check_unused(export, reterr);

        if (rc < 0) {
            return rc;
        }
    }
    delete_begin(export);
    return 0;
}

/* ---- shutdown ----------------------------------------------------------------------------- */

MAIN_LOOP
static void shutdown_timeout(void *opaque)
{
    co_wait_complete(opaque, -ETIMEDOUT);
}

/* Until an export goes. False: it is @deadline_ns. */
MAIN_LOOP CO_FN
static bool co_wait_change(uint64_t deadline_ns)
{
    struct loop_timer timer;
    struct co_wait wait;
    int64_t rc;

    loop_assert_home(loop_main());
    co_wait_init(&wait);
    loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, shutdown_timeout, &wait);
    if (deadline_ns != 0) {
        loop_timer_arm(&timer, deadline_ns);
    }
    shutdown_waits = &wait;
    rc = co_wait_block(&wait);
    shutdown_waits = NULL;
    loop_timer_cancel(&timer);
    return rc == 0;
}

MAIN_LOOP
static void log_unfinished(void)
{
    struct export *export;

    list_for_each(export, &exports, link) {
        json_t *lines = json_array();
        json_t *line;
        size_t i;

        export->type->describe_requests(export, lines);
        log_error("export '%s' has not ended; %zu requests are out", export->id,
                  json_array_size(lines));
        json_array_foreach(lines, i, line) {
            log_error("export '%s' waits for %s", export->id, json_string_value(line));
        }
        json_decref(lines);
    }
}

int export_co_delete_all(uint64_t deadline_ns)
{
    while (!list_is_empty(&exports)) {
        struct export *export;

        list_for_each(export, &exports, link) {
            if (export->is_open && !export->is_shutting_down) {
                delete_begin(export);
            }
        }
        if (!co_wait_change(deadline_ns)) {
            log_unfinished();
            return -ETIMEDOUT;
        }
    }
    return 0;
}

/* ---- for people --------------------------------------------------------------------------- */

json_t *export_describe_all(void)
{
    json_t *array = json_array();
    struct export *export;

    list_for_each(export, &exports, link) {
        json_t *object = json_object();

        json_object_set_new(object, "id", json_string(export->id));
        json_object_set_new(object, "type", json_string(export->type->name));
        json_object_set_new(object, "shutting-down", json_boolean(export->is_shutting_down));
        if (export->is_open) {
            export->type->describe(export, object);
        }
        json_array_append_new(array, object);
    }
    return array;
}

void export_describe_waits(json_t *to_array)
{
    struct export *export;

    list_for_each(export, &exports, link) {
        if (export->is_shutting_down) {
            json_t *object = json_object();
            json_t *requests = json_array();
            AUTO_MEM char *owner = str_format("block-export-del '%s'", export->id);

            json_object_set_new(object, "kind", json_string("export-close"));
            json_object_set_new(object, "owner", json_string(owner));
            json_object_set_new(object, "since", json_real((double)export->since_ns / 1e9));
            export->type->describe_requests(export, requests);
            json_object_set_new(object, "waits-for", requests);
            json_array_append_new(to_array, object);
        }
    }
}
