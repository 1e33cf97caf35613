/*
 * open.c -- blockdev-add: from an options object to open nodes.
 *
 * One object may describe a tree: inline children, each with a driver of its own. It is done in
 * three steps, none of which recurses, so nesting costs no stack:
 *
 * (A1) Plan, without a yield: top down, each object is parsed by its driver's table and its name is
 *      taken. A bad option is found before anything is opened.
 * (A2) Open: bottom up; children are attached, then the driver opens, slowly perhaps. Nobody else
 *      can find these nodes.
 * (A3) Commit, without a yield: all become visible. If anything failed, all are closed and freed.
 *
 * An inline child has its parent's cache, read-only and force-share options unless it says
 * otherwise, and passes discards on: what the guest may discard is decided at the top.
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/graph_int.h"
#include "block/track_int.h"
#include <errno.h>
#include <string.h>

static const uint64_t BYTES_UNLIMITED = UINT64_C(1) << 62; /* a multiple of any alignment */

static const char *const discard_names[] = {"ignore", "unmap", NULL};
static const char *const detect_zeroes_names[] = {"off", "on", "unmap", NULL};

static const struct opt cache_opts[] = {
    {.name = "direct", .type = OPT_BOOL, OPT_AT(struct blk_cache_options, direct), .dflt = "off",
     .since = "0.1", .help = "bypass the page cache (O_DIRECT)"},
    {.name = "no-flush", .type = OPT_BOOL, OPT_AT(struct blk_cache_options, no_flush),
     .dflt = "off", .since = "0.1", .help = "ignore flushes: fast, and not safe over a power cut"},
};
static const struct opt_table cache_table = {
    .name = "BlockdevCacheOptions",
    .help = "cache behaviour",
    .opts = cache_opts,
    .count = countof(cache_opts),
    .values_bytes = sizeof(struct blk_cache_options),
};

static const struct opt common_opts[] = {
    {.name = "driver", .type = OPT_STR, .flags = OPT_REQUIRED,
     OPT_AT(struct blk_common_options, driver), .since = "0.1", .help = "block driver name"},
    {.name = "node-name", .type = OPT_STR, OPT_AT(struct blk_common_options, node_name),
     .since = "0.1", .help = "name of the node, at most 31 characters"},
    {.name = "read-only", .type = OPT_BOOL, OPT_AT(struct blk_common_options, read_only),
     .dflt = "off", .since = "0.1", .help = "refuse writes"},
    {.name = "auto-read-only", .type = OPT_BOOL, OPT_AT(struct blk_common_options, auto_read_only),
     .dflt = "off", .since = "0.1", .help = "fall back to read-only where writing is not allowed"},
    {.name = "discard", .type = OPT_ENUM, OPT_AT(struct blk_common_options, discard),
     .names = discard_names, .dflt = "ignore", .since = "0.1", .help = "what a discard does"},
    {.name = "detect-zeroes", .type = OPT_ENUM, OPT_AT(struct blk_common_options, detect_zeroes),
     .names = detect_zeroes_names, .dflt = "off", .since = "0.1",
     .help = "turn writes of zeroes into write-zeroes requests"},
    {.name = "cache", .type = OPT_STRUCT, OPT_AT(struct blk_common_options, cache),
     .table = &cache_table, .since = "0.1", .help = "cache behaviour"},
    {.name = "force-share", .type = OPT_BOOL, OPT_AT(struct blk_common_options, force_share),
     .dflt = "off", .since = "0.1", .help = "ignore the locks of others; needs read-only=on"},
};
const struct opt_table blk_common_options_table = {
    .name = "BlockdevOptions",
    .help = "a block node",
    .opts = common_opts,
    .count = countof(common_opts),
    .values_bytes = sizeof(struct blk_common_options),
};

/* ---- plan (A1) ------------------------------------------------------------------------------- */

/* One node to be made; it holds a reference to it. */
struct item {
    struct list link; /* of the plan, parents before children */
    struct blk_node *node;
    json_t *options; /* a reference */
    unsigned level;
    struct item *inline_child[BLK_DRIVER_CHILDREN_MAX];
};

struct plan {
    struct list items;
    unsigned flags; /* opt_parse_flags */
    struct err **reterr;
};

MAIN_LOOP
static void add_driver_name(const struct blk_driver *driver, void *opaque)
{
    struct strbuf *names = opaque;

    strbuf_addf(names, "%s'%s'", names->bytes > 0 ? ", " : "", driver->name);
}

MAIN_LOOP
static void report_unknown_driver(const char *name, struct err **reterr)
{
    struct strbuf known = {0};

    blk_driver_each(add_driver_name, &known);
    err_set(reterr, EINVAL, "Parameter 'driver' does not accept value '%s', only %s", name,
            known.text != NULL ? known.text : "none");
    strbuf_fini(&known);
}

MAIN_LOOP
static const struct blk_driver *choose_driver(const struct plan *plan, json_t *options)
{
    json_t *value = json_object_get(options, "driver");
    const struct blk_driver *driver;

    if (value == NULL) {
        err_set(plan->reterr, EINVAL, "Parameter 'driver' is missing");
        return NULL;
    }
    if (!json_is_string(value)) {
        err_set(plan->reterr, EINVAL, "Invalid parameter type for 'driver', expected: string");
        return NULL;
    }
    driver = blk_driver_find(json_string_value(value));
    if (driver == NULL) {
        report_unknown_driver(json_string_value(value), plan->reterr);
    }
    return driver;
}

MAIN_LOOP
static int check_name(const struct plan *plan, const char *name)
{
    if (!str_is_wellformed_id(name)) {
        return err_set(plan->reterr, EINVAL, "Invalid node-name: '%s'", name);
    }
    if (strlen(name) > BLK_NODE_NAME_BYTES_MAX) {
        return err_set(plan->reterr, EINVAL, "Node name too long: '%s' (at most %d characters)",
                       name, BLK_NODE_NAME_BYTES_MAX);
    }
    if (blk_registry_has(name)) {
        return err_set(plan->reterr, EEXIST, "Duplicate nodes with node-name='%s'", name);
    }
    return 0;
}

MAIN_LOOP
static int check_common(const struct plan *plan, const struct blk_common_options *options,
                        bool is_top)
{
    if (options->node_name == NULL && is_top) {
        return err_set(plan->reterr, EINVAL, "'node-name' must be specified for the root node");
    }
    if (options->detect_zeroes == BLK_DETECT_ZEROES_UNMAP &&
        options->discard != BLK_DISCARD_UNMAP) {
        return err_set(plan->reterr, EINVAL,
                       "setting detect-zeroes to unmap is not allowed without setting discard "
                       "operation to unmap");
    }
    if (options->force_share && !options->read_only) {
        return err_set(plan->reterr, EINVAL,
                       "force-share=on can only be used with read-only images");
    }
    return options->node_name == NULL ? 0 : check_name(plan, options->node_name);
}

/* Takes over @values. */
MAIN_LOOP
static struct item *item_new(struct plan *plan, const struct blk_driver *driver,
                             struct blk_common_options *values, json_t *options, unsigned level)
{
    char generated[BLK_NODE_NAME_BYTES_MAX + 1];
    struct item *item = mem_new(struct item);

    if (values->node_name == NULL) {
        blk_registry_generate_name(generated, sizeof(generated));
    }
    item->node = blk_node_new(driver, values->node_name ? values->node_name : generated);
    item->node->options = values;
    item->node->options_json = json_deep_copy(options);
    item->node->read_only = values->read_only;
    item->options = json_incref(options);
    item->level = level;
    list_add_tail(&plan->items, &item->link);
    return item;
}

MAIN_LOOP
static int plan_node(struct plan *plan, json_t *options, unsigned level, struct item **ret_item)
{
    const struct blk_driver *driver = choose_driver(plan, options);
    struct blk_common_options *values;
    int rc;

    if (driver == NULL) {
        return -EINVAL;
    }
    values = mem_alloc(driver->options->values_bytes);
    rc = opt_parse(driver->options, options, plan->flags, values, plan->reterr);
    if (rc == 0) {
        rc = check_common(plan, values, level == 1);
        if (rc == 0) {
            *ret_item = item_new(plan, driver, values, options, level);
            return 0;
        }
        opt_free_values(driver->options, values);
    }
    mem_free(values);
    return rc;
}

static void set_default(json_t *object, const char *name, bool value, unsigned flags)
{
    if (json_object_get(object, name) == NULL) {
        json_object_set_new(object, name,
                            (flags & OPT_FROM_TEXT) ? json_string(value ? "on" : "off")
                                                    : json_boolean(value));
    }
}

/* A copy of the child's object with what it inherits. */
static json_t *inherit(const struct blk_common_options *from, json_t *child, unsigned flags)
{
    json_t *options = json_copy(child);
    json_t *cache = json_object_get(options, "cache");

    set_default(options, "read-only", from->read_only, flags);
    set_default(options, "auto-read-only", from->auto_read_only, flags);
    set_default(options, "force-share", from->force_share, flags);
    if (json_object_get(options, "discard") == NULL) {
        json_object_set_new(options, "discard", json_string("unmap"));
    }
    if (cache == NULL || json_is_object(cache)) {
        cache = cache == NULL ? json_object() : json_copy(cache);
        set_default(cache, "direct", from->cache.direct, flags);
        set_default(cache, "no-flush", from->cache.no_flush, flags);
        json_object_set_new(options, "cache", cache);
    }
    return options;
}

MAIN_LOOP
static int plan_inline_child(struct plan *plan, struct item *item, size_t index, json_t *value)
{
    const char *name = item->node->driver->children[index].name;
    json_t *options;
    int rc;

    if (item->level >= BLK_DEPTH_MAX) {
        return err_set(plan->reterr, ELOOP,
                       "'%s' of node '%s' would make a graph of more than %d levels",
                       name, item->node->name, BLK_DEPTH_MAX);
    }
    options = inherit(item->node->options, value, plan->flags);
    rc = plan_node(plan, options, item->level + 1, &item->inline_child[index]);
    json_decref(options);
    if (rc < 0) {
        err_prepend(plan->reterr, "'%s' of node '%s': ", name, item->node->name);
    }
    return rc;
}

MAIN_LOOP
static int plan_children(struct plan *plan, struct item *item)
{
    const struct blk_child_def *defs = item->node->driver->children;

    for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX && defs[i].name != NULL; i++) {
        json_t *value = json_object_get(item->options, defs[i].name);
        int rc = 0;

        if (json_is_object(value)) {
            rc = plan_inline_child(plan, item, i, value);
        } else if (value != NULL && !json_is_string(value)) {
            rc = err_set(plan->reterr, EINVAL,
                         "Invalid parameter type for '%s', expected: a node's name or an object",
                         defs[i].name);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

MAIN_LOOP
static int plan_all(struct plan *plan, json_t *options)
{
    struct item *item;
    int rc = plan_node(plan, options, /* level */ 1, &item);

    if (rc < 0) {
        return rc;
    }
    list_for_each(item, &plan->items, link) { /* grows while it is walked */
        rc = plan_children(plan, item);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- open (A2) ------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static int attach_child(struct item *item, size_t index, struct err **reterr)
{
    struct blk_node *node = item->node;
    const struct blk_child_def *def = &node->driver->children[index];
    const char *name = json_string_value(json_object_get(item->options, def->name));
    struct blk_node *lower = NULL;
    unsigned perm, shared;

    if (item->inline_child[index] != NULL) {
        lower = item->inline_child[index]->node;
    } else if (name != NULL) {
        lower = blk_node_find(name);
        if (lower == NULL) {
            return err_set(reterr, ENOENT,
                           "Cannot find device='%s' nor node-name='%s' for '%s' of node '%s'", name,
                           name, def->name, node->name);
        }
    }
    if (lower == NULL) {
        return 0; /* optional; the driver's table has said so */
    }
    blk_child_perms(node, def, &perm, &shared);
    return blk_edge_co_attach(&node->child[index], lower, perm, shared, reterr);
}

/* Zeroes of the limits become what they mean, and what requests look at is worked out. */
static void prepare_for_requests(struct blk_node *node)
{
    const struct blk_common_options *options = node->options;
    struct blk_limits *limits = &node->limits;
    bool has_children = node->driver->children[0].name != NULL;

    limits->request_alignment = max_of(limits->request_alignment, 1U);
    limits->memory_alignment = max_of(limits->memory_alignment, 1U);
    limits->discard_alignment = max_of(limits->discard_alignment, 1U);
    limits->write_zeroes_alignment = max_of(limits->write_zeroes_alignment, 1U);
    limits->discard_bytes_max = limits->discard_bytes_max ? limits->discard_bytes_max
                                                          : BYTES_UNLIMITED;
    limits->write_zeroes_bytes_max =
        limits->write_zeroes_bytes_max ? limits->write_zeroes_bytes_max : BYTES_UNLIMITED;
    node->transfer_bytes_max = limits->transfer_bytes_max ? limits->transfer_bytes_max
                                                          : BYTES_UNLIMITED;
    node->request_mask = limits->request_alignment - 1;
    node->memory_mask = limits->memory_alignment - 1;
    if (node->request_mask != 0 && !node->read_only) {
        node->tracker = blk_tracker_new();
    }
    node->unmaps = options->discard == BLK_DISCARD_UNMAP;
    node->detect_zeroes = (enum blk_detect_zeroes_option)options->detect_zeroes;
    /* With children, the flush goes on to them: it is they who may ignore it. */
    node->ignores_flush = options->cache.no_flush && !has_children;
    node->simple_writes = node->tracker == NULL && !node->read_only &&
                          node->detect_zeroes == BLK_DETECT_ZEROES_OFF;
    node->has_fua = node->driver->supports_fua && !node->ignores_flush;
}

MAIN_LOOP CO_FN
static int open_node(struct item *item, struct err **reterr)
{
    struct blk_node *node = item->node;
    int rc;

    node->tells_perms = node->driver->co_set_perms != NULL;
    for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX && node->driver->children[i].name != NULL; i++) {
        rc = attach_child(item, i, reterr);
        if (rc < 0) {
            return rc;
        }
    }
    rc = node->driver->co_open(node, node->options, reterr);
    if (rc < 0) {
        return rc;
    }
    node->has_driver_open = true;
    prepare_for_requests(node);
    return 0;
}

MAIN_LOOP CO_FN
static int open_all(struct plan *plan)
{
    for (struct list *at = plan->items.prev; at != &plan->items; at = at->prev) {
        int rc = open_node(list_entry(at, struct item, link), plan->reterr);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* (A3); a node's name keeps the top one alive, parents keep their children. */
MAIN_LOOP CO_FN
static void plan_finish(struct plan *plan, bool commit)
{
    struct item *item;
    struct list *at;

    if (commit) {
        list_for_each(item, &plan->items, link) {
            item->node->node_state = BLK_NODE_OPEN;
        }
        item = list_first(&plan->items, struct item, link);
        item->node->is_named = true;
        blk_node_ref(item->node);
    }
    while ((at = list_pop_head(&plan->items)) != NULL) {
        item = list_entry(at, struct item, link);
        blk_node_co_unref(item->node);
        json_decref(item->options);
        mem_free(item);
    }
}

int blk_node_co_add(json_t *options, unsigned flags, struct err **reterr)
{
    struct err *error = NULL;
    struct plan plan = {.flags = flags, .reterr = &error};
    int rc;

    list_init(&plan.items);
    rc = plan_all(&plan, options);
    if (rc == 0) {
        rc = open_all(&plan);
    }
    plan_finish(&plan, rc == 0);
    err_propagate(reterr, error);
    return rc;
}
