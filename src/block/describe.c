/*
 * describe.c -- a node as query-named-block-nodes shows it.
 *
 * The members are those of QEMU's BlockDeviceInfo and ImageInfo that its schema makes mandatory,
 * with the values of a disk without throttling, backing file or encryption, and those that cost
 * nothing to know. Nothing here asks the file system: a query never waits.
 */
#include "base/mem.h"
#include "block/graph_int.h"
#include <string.h>

static const char *const detect_zeroes_texts[] = {"off", "on", "unmap"};

/* "json:{…}" without what belongs to the node and not to the image. */
static char *options_as_filename(const struct blk_node *node)
{
    static const char prefix[] = "json:";
    json_t *options = json_copy(node->options_json);
    size_t bytes;
    char *text;

    json_object_del(options, "node-name");
    bytes = json_dumpb(options, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS);
    text = mem_alloc(strlen(prefix) + bytes + 1);
    memcpy(text, prefix, strlen(prefix));
    json_dumpb(options, text + strlen(prefix), bytes, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(options);
    return text;
}

MAIN_LOOP
static char *filename(const struct blk_node *node)
{
    const char *known = node->driver->filename ? node->driver->filename(node) : NULL;

    return known ? mem_strdup(known) : options_as_filename(node);
}

static json_t *describe_cache(const struct blk_node *node)
{
    return json_pack("{s:b, s:b, s:b}", "writeback", true, "direct", node->options->cache.direct,
                     "no-flush", node->options->cache.no_flush);
}

static json_t *describe_children(const struct blk_node *node)
{
    json_t *array = json_array();

    for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX; i++) {
        const struct blk_edge *edge = &node->child[i];

        if (edge->lower != NULL) {
            json_array_append_new(array, json_pack("{s:s, s:s}", "child", edge->def->name,
                                                   "node-name", edge->lower->name));
        }
    }
    return array;
}

static void add_throttling(json_t *object)
{
    static const char *const names[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"};

    for (size_t i = 0; i < countof(names); i++) {
        json_object_set_new(object, names[i], json_integer(0));
    }
}

json_t *blk_node_describe(struct blk_node *node)
{
    AUTO_MEM char *name = filename(node);
    json_t *image = json_pack("{s:s, s:s, s:I}", "filename", name, "format", node->driver->name,
                              "virtual-size", (json_int_t)blk_node_bytes(node));
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:b, s:b, s:b, s:i, s:i, s:s, s:o, s:o, s:o}", "node-name", node->name,
        "drv", node->driver->name, "file", name, "ro", node->read_only, "encrypted", false,
        "active", true, "backing_file_depth", 0, "write_threshold", 0, "detect_zeroes",
        detect_zeroes_texts[node->detect_zeroes], "cache", describe_cache(node), "children",
        describe_children(node), "image", image);

    add_throttling(object);
    return object;
}
