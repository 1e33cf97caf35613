/*
 * objects.c -- object-add, object-del, qom-get, qom-set, qom-list: objects by id and their
 * properties.
 *
 * One type so far, the I/O thread; loop/iothread.c keeps them, its table has their properties.
 */
#include "base/mem.h"
#include "cli/daemon_int.h"
#include "loop/iothread.h"
#include <errno.h>
#include <string.h>

struct iothread_object {
    struct iothread_options options;
    char *type;
    char *id;
};
static const struct opt iothread_object_opts[] = {
    {.name = "qom-type",
     .type = OPT_STR,
     .flags = OPT_REQUIRED,
     OPT_AT(struct iothread_object, type),
     .since = "0.1",
     .help = "iothread"},
    {.name = "id",
     .type = OPT_STR,
     .flags = OPT_REQUIRED,
     OPT_AT(struct iothread_object, id),
     .since = "0.1",
     .help = "its name, not used by another object"},
};
static const struct opt_table iothread_object_table = {.name = "iothread",
                                                       .help = "a thread that runs one event loop",
                                                       .base = &iothread_options_table,
                                                       .opts = iothread_object_opts,
                                                       .count = countof(iothread_object_opts),
                                                       .values_bytes =
                                                           sizeof(struct iothread_object)};

void objects_type_each(void (*each)(const char *name, const struct opt_table *table, void *opaque),
                       void *opaque)
{
    each("iothread", &iothread_options_table, opaque);
}

/* ---- making and deleting ---- */

static int check_type(json_t *object, struct err **reterr)
{
    json_t *type = json_object_get(object, "qom-type");

    if (type == NULL) {
        return err_set(reterr, EINVAL, "Parameter 'qom-type' is missing");
    }
    if (!json_is_string(type)) {
        return err_set(reterr, EINVAL, "Invalid parameter type for 'qom-type', expected: string");
    }
    if (strcmp(json_string_value(type), "iothread") != 0) {
        return err_set(reterr, EINVAL,
                       "Parameter 'qom-type' does not accept value '%s', only 'iothread'",
                       json_string_value(type));
    }
    return 0;
}

MAIN_LOOP CO_FN
static int add_iothread(const struct iothread_object *values, struct err **reterr)
{
    if (!str_is_wellformed_id(values->id)) {
        return err_set(reterr, EINVAL,
                       "Parameter 'id' expects an identifier (a letter, then letters, digits, '-', "
                       "'.', '_'), not '%s'", values->id);
    }
    return iothread_co_new(values->id, &values->options, reterr);
}

int objects_co_add(json_t *object, unsigned flags, struct err **reterr)
{
    struct iothread_object values;
    int rc = check_type(object, reterr);

    if (rc == 0) {
        rc = opt_parse(&iothread_object_table, object, flags, &values, reterr);
    }
    if (rc == 0) {
        rc = add_iothread(&values, reterr);
        opt_free_values(&iothread_object_table, &values);
    }
    return rc;
}

int objects_co_delete(const char *id, struct err **reterr)
{
    struct iothread *thread = iothread_find(id);

    return thread != NULL ? iothread_co_delete(thread, reterr)
                          : err_set(reterr, ENOENT, "object '%s' not found", id);
}

/* ---- properties ---- */

static const char objects_prefix[] = "/objects/";

MAIN_LOOP
static int find_by_path(const char *path, struct iothread **ret_thread, struct err **reterr)
{
    const char *id = str_has_prefix(path, objects_prefix) ? path + strlen(objects_prefix) : path;

    *ret_thread = iothread_find(id);
    if (*ret_thread == NULL) {
        return err_set_class(reterr, ERR_DEVICE_NOT_FOUND, ENOENT, "Device '%s' not found", path);
    }
    return 0;
}

/* Properties are the numbers of the table. */
struct lookup {
    const char *name;
    const struct opt *found;
};

static bool match_name(const struct opt *opt, void *opaque)
{
    struct lookup *lookup = opaque;

    if (strcmp(opt->name, lookup->name) == 0) {
        lookup->found = opt;
    }
    return lookup->found == NULL;
}

static const struct opt *find_property(const char *name)
{
    struct lookup lookup = {.name = name};

    opt_each(&iothread_options_table, match_name, &lookup);
    assert(lookup.found == NULL || lookup.found->type == OPT_I64);
    return lookup.found;
}

static int no_property(const char *name, struct err **reterr)
{
    return err_set(reterr, ENOENT, "Property 'iothread.%s' not found", name);
}

MAIN_LOOP
static int64_t property_value(struct iothread *thread, const char *name)
{
    struct iothread_options options;
    int64_t value;

    iothread_get_options(thread, &options);
    memcpy(&value, (const char *)&options + find_property(name)->offset, sizeof(value));
    return value;
}

int objects_get(const char *path, const char *property, json_t **ret_value, struct err **reterr)
{
    struct iothread *thread;
    int rc = find_by_path(path, &thread, reterr);

    if (rc < 0) {
        return rc;
    }
    if (strcmp(property, "type") == 0) {
        *ret_value = json_string("iothread");
        return 0;
    }
    if (find_property(property) == NULL) {
        return no_property(property, reterr);
    }
    *ret_value = json_integer(property_value(thread, property));
    return 0;
}

/* As the table reads it: type and range. */
static int read_value(const char *property, json_t *value, int64_t *ret_value, struct err **reterr)
{
    struct iothread_options options;
    json_t *object = json_object();
    int rc;

    json_object_set(object, property, value);
    rc = opt_parse(&iothread_options_table, object, 0, &options, reterr);
    json_decref(object);
    if (rc == 0) {
        memcpy(ret_value, (const char *)&options + find_property(property)->offset,
               sizeof(*ret_value));
        opt_free_values(&iothread_options_table, &options);
    }
    return rc;
}

int objects_set(const char *path, const char *property, json_t *value, struct err **reterr)
{
    struct iothread *thread;
    int64_t number = 0;
    int rc = find_by_path(path, &thread, reterr);

    if (rc < 0) {
        return rc;
    }
    if (strcmp(property, "type") == 0) {
        return err_set(reterr, EINVAL, "Property 'iothread.type' is read-only");
    }
    if (find_property(property) == NULL) {
        return no_property(property, reterr);
    }
    rc = read_value(property, value, &number, reterr);
    return rc < 0 ? rc : iothread_set_option(thread, property, number, reterr);
}

/* ---- lists ---- */

static void add_property(json_t *list, const char *name, const char *type)
{
    json_array_append_new(list, json_pack("{s:s,s:s}", "name", name, "type", type));
}

static bool add_option(const struct opt *opt, void *opaque)
{
    add_property(opaque, opt->name, opt_type_name(opt->type));
    return true;
}

MAIN_LOOP
static void add_child(struct iothread *thread, void *opaque)
{
    add_property(opaque, iothread_id(thread), "child<iothread>");
}

int objects_list(const char *path, json_t **ret_list, struct err **reterr)
{
    struct iothread *thread;
    json_t *list;

    if (strcmp(path, "/") == 0) {
        list = json_array();
        add_property(list, "type", "string");
        add_property(list, "objects", "child<container>");
    } else if (strcmp(path, "/objects") == 0) {
        list = json_array();
        add_property(list, "type", "string");
        iothread_each(add_child, list);
    } else {
        int rc = find_by_path(path, &thread, reterr);

        if (rc < 0) {
            return rc;
        }
        list = json_array();
        add_property(list, "type", "string");
        opt_each(&iothread_options_table, add_option, list);
    }
    *ret_list = list;
    return 0;
}

MAIN_LOOP
static void describe_iothread(struct iothread *thread, void *opaque)
{
    json_t *object = json_pack("{s:s,s:I}", "id", iothread_id(thread), "thread-id",
                               (json_int_t)iothread_os_id(thread));
    static const char *const members[] = {"poll-max-ns", "poll-grow", "poll-shrink",
                                          "aio-max-batch"};

    for (size_t i = 0; i < countof(members); i++) {
        json_object_set_new(object, members[i], json_integer(property_value(thread, members[i])));
    }
    json_object_set_new(object, "engine", json_string(loop_engine_text(iothread_loop(thread))));
    json_array_append_new(opaque, object);
}

json_t *objects_describe_iothreads(void)
{
    json_t *list = json_array();

    iothread_each(describe_iothread, list);
    return list;
}
