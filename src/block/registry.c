/*
 * registry.c -- nodes by name, and the drivers there are.
 *
 * A chained hash table that doubles: adding, finding and removing do not depend on how many nodes
 * there are. All of it is main-loop data.
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/graph_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BUCKETS_FIRST = 64 };

static struct {
    struct blk_node **buckets;
    size_t bucket_count; /* a power of two, or 0 */
    size_t count;
    struct list all;
    uint64_t generated;
    const struct blk_driver *const *drivers;
    size_t driver_count;
} registry = {.all = LIST_INIT(registry.all)};

static uint64_t hash(const char *name) /* FNV-1a */
{
    uint64_t h = 0xcbf29ce484222325U;

    for (; *name != '\0'; name++) {
        h = (h ^ (uint8_t)*name) * 0x100000001b3U;
    }
    return h;
}

static struct blk_node **bucket(const char *name)
{
    return &registry.buckets[hash(name) & (registry.bucket_count - 1)];
}

static void resize(size_t bucket_count)
{
    struct blk_node *node;

    mem_free(registry.buckets);
    registry.buckets = mem_alloc_array(bucket_count, sizeof(registry.buckets[0]));
    registry.bucket_count = bucket_count;
    list_for_each(node, &registry.all, in_all) {
        struct blk_node **at = bucket(node->name);

        node->hash_next = *at;
        *at = node;
    }
}

struct blk_node *blk_registry_find(const char *name)
{
    struct blk_node *node = registry.bucket_count == 0 ? NULL : *bucket(name);

    while (node != NULL && strcmp(node->name, name) != 0) {
        node = node->hash_next;
    }
    return node;
}

bool blk_registry_has(const char *name)
{
    return blk_registry_find(name) != NULL;
}

void blk_registry_add(struct blk_node *node)
{
    struct blk_node **at;

    assert(!blk_registry_has(node->name));
    if (registry.count >= registry.bucket_count) {
        resize(max_of(2 * registry.bucket_count, (size_t)BUCKETS_FIRST));
    }
    at = bucket(node->name);
    node->hash_next = *at;
    *at = node;
    list_add_head(&registry.all, &node->in_all); /* newest first, as QEMU lists them */
    registry.count++;
}

void blk_registry_remove(struct blk_node *node)
{
    struct blk_node **at = bucket(node->name);

    while (*at != node) {
        at = &(*at)->hash_next;
    }
    *at = node->hash_next;
    list_remove(&node->in_all);
    if (--registry.count == 0) { /* nothing is left behind at exit */
        mem_free(registry.buckets);
        registry.buckets = NULL;
        registry.bucket_count = 0;
    }
}

void blk_registry_generate_name(char *to, size_t bytes_max)
{
    do {
        snprintf(to, bytes_max, "#block%03" PRIu64, registry.generated++);
    } while (blk_registry_has(to));
}

struct blk_node *blk_node_find(const char *name)
{
    struct blk_node *node = blk_registry_find(name);

    return node != NULL && node->node_state == BLK_NODE_OPEN ? node : NULL;
}

void blk_node_each(void (*each)(struct blk_node *node, void *opaque), void *opaque)
{
    struct blk_node *node;
    struct blk_node *following;

    list_for_each_safe(node, following, &registry.all, in_all) {
        if (node->node_state == BLK_NODE_OPEN) {
            each(node, opaque);
        }
    }
}

void blk_drivers_set(const struct blk_driver *const *drivers, size_t count)
{
    registry.drivers = drivers;
    registry.driver_count = count;
}

const struct blk_driver *blk_driver_find(const char *name)
{
    for (size_t i = 0; i < registry.driver_count; i++) {
        if (strcmp(registry.drivers[i]->name, name) == 0) {
            return registry.drivers[i];
        }
    }
    return NULL;
}

void blk_driver_each(void (*each)(const struct blk_driver *driver, void *opaque), void *opaque)
{
    for (size_t i = 0; i < registry.driver_count; i++) {
        each(registry.drivers[i], opaque);
    }
}
