/*
 * node.c -- the life of a node between open.c, which makes it, and its last reference.
 *
 *   OPENING --(all of the same blockdev-add is open)--> OPEN
 *      |                                                 |  blk_node_co_delete(), or the last
 *      +-----------(open failed)----------> CLOSING <----+  reference
 *
 * (N1) A node has a reference for its name, one per parent edge, one per drained section, and
 *      passing ones of coroutines. The last one closes it; then no edge leads to it, so no request
 *      is in it.
 * (N2) A name stays taken until the node is closed: who makes a node of the same name opens the
 *      image after its locks are gone.
 * (N3) Closing a node drops its edges, which may close more nodes: a list, not a recursion.
 */
#include "base/mem.h"
#include "base/str.h"
#include "block/graph_int.h"
#include "block/track_int.h"
#include <errno.h>
#include <stdio.h>

struct blk_node *blk_node_new(const struct blk_driver *driver, const char *name)
{
    struct blk_node *node = mem_new(struct blk_node);

    node->driver = driver;
    node->state = mem_alloc(driver->state_bytes);
    node->node_state = BLK_NODE_OPENING;
    node->refs = 1;
    node->depth = 1;
    snprintf(node->name, sizeof(node->name), "%s", name);
    list_init(&node->in_all);
    list_init(&node->parents);
    list_init(&node->claims);
    list_init(&node->dead);
    list_init(&node->work);
    co_mutex_init(&node->lock_mutex);
    for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX; i++) {
        node->child[i].upper = node;
        node->child[i].def = &driver->children[i];
        list_init(&node->child[i].in_parents);
    }
    blk_registry_add(node);
    return node;
}

/* ---- references ------------------------------------------------------------------------------ */

void blk_node_ref(struct blk_node *node)
{
    assert(node->refs > 0);
    node->refs++;
}

MAIN_LOOP
static void node_free(struct blk_node *node)
{
    assert(list_is_empty(&node->parents));
    assert(list_is_empty(&node->claims));
    blk_registry_remove(node);
    blk_tracker_free(node->tracker);
    if (node->options != NULL) {
        opt_free_values(node->driver->options, node->options);
        mem_free(node->options);
    }
    json_decref(node->options_json);
    if (node->closed != NULL) {
        co_wait_complete(node->closed, 0);
    }
    mem_free(node->state);
    mem_free(node);
}

/* One reference less; the last one puts the node on the list of those to be closed. */
MAIN_LOOP
static void unref(struct blk_node *node, struct list *dead)
{
    assert(node->refs > 0);
    if (--node->refs == 0) {
        list_add_tail(dead, &node->dead);
    }
}

MAIN_LOOP CO_FN
static void close_one(struct blk_node *node, struct list *dead)
{
    node->node_state = BLK_NODE_CLOSING;
    if (node->has_driver_open && node->driver->co_close != NULL) {
        node->driver->co_close(node);
    }
    for (size_t i = 0; i < BLK_DRIVER_CHILDREN_MAX; i++) {
        if (node->child[i].lower != NULL) {
            struct blk_node *lower = blk_edge_detach(&node->child[i]);

            blk_perms_co_settle(lower);
            unref(lower, dead);
        }
    }
    node_free(node);
}

void blk_node_co_unref(struct blk_node *node)
{
    struct list dead = LIST_INIT(dead);
    struct list *item;

    if (node == NULL) {
        return;
    }
    unref(node, &dead);
    while ((item = list_pop_head(&dead)) != NULL) {
        close_one(list_entry(item, struct blk_node, dead), &dead); /* (N3) */
    }
}

CO_FN
static void unref_in_coroutine(void *opaque)
{
    loop_assert_main();
    blk_node_co_unref(opaque);
}

void blk_node_unref_later(struct blk_node *node)
{
    if (node->refs > 1) {
        node->refs--;
    } else {
        loop_co_spawn(loop_main(), unref_in_coroutine, node, "blk-node-close");
    }
}

/* ---- deleting -------------------------------------------------------------------------------- */

MAIN_LOOP
static int in_use(const struct blk_node *node, struct err **reterr)
{
    const struct blk_edge *edge;
    struct strbuf users = {0};

    list_for_each(edge, &node->parents, in_parents) {
        AUTO_MEM char *user = blk_edge_user(edge);

        strbuf_addf(&users, "%s%s", users.bytes > 0 ? ", " : "", user);
    }
    if (users.bytes == 0) {
        strbuf_addf(&users, "somebody who is being attached to it");
    }
    err_set(reterr, EBUSY, "Block device %s is in use by %s", node->name, users.text);
    strbuf_fini(&users);
    return -EBUSY;
}

int blk_node_co_delete(const char *name, struct err **reterr)
{
    struct blk_node *node = blk_node_find(name);
    struct co_wait closed;

    if (node == NULL) {
        return err_set(reterr, ENOENT, "Failed to find node with node-name='%s'", name);
    }
    if (!list_is_empty(&node->parents) || node->attaching > 0) {
        return in_use(node, reterr);
    }
    if (!node->is_named) {
        return err_set(reterr, EPERM, "Node %s is not owned by the monitor", name);
    }
    node->is_named = false;
    node->node_state = BLK_NODE_CLOSING;
    co_wait_init(&closed);
    node->closed = &closed;
    blk_node_co_unref(node);
    co_wait_block(&closed); /* a section or a passing reference may have been left */
    return 0;
}

/* ---- looking at a node ----------------------------------------------------------------------- */

const char *blk_node_name(const struct blk_node *node)
{
    return node->name;
}

const struct blk_driver *blk_node_driver(const struct blk_node *node)
{
    return node->driver;
}

void *blk_node_state(const struct blk_node *node)
{
    return node->state;
}

uint64_t blk_node_bytes(const struct blk_node *node)
{
    return at_load_relaxed(&node->bytes); /* one number; who acts on it checks under its token */
}

bool blk_node_is_read_only(const struct blk_node *node)
{
    return node->read_only;
}

const struct blk_common_options *blk_node_options(const struct blk_node *node)
{
    return node->options;
}

const struct blk_limits *blk_node_limits(const struct blk_node *node)
{
    return &node->limits;
}

struct blk_edge *blk_node_child(const struct blk_node *node, size_t index)
{
    assert(index < BLK_DRIVER_CHILDREN_MAX);
    return (struct blk_edge *)(uintptr_t)&node->child[index];
}

/* ---- for drivers, while opening -------------------------------------------------------------- */

void blk_node_set_bytes(struct blk_node *node, uint64_t bytes)
{
    at_store_relaxed(&node->bytes, bytes); /* pairs with range_ok(): see blk_node_bytes() */
}

void blk_node_set_read_only(struct blk_node *node)
{
    assert(node->node_state == BLK_NODE_OPENING);
    node->read_only = true;
}

struct blk_limits *blk_node_limits_rw(struct blk_node *node)
{
    assert(node->node_state == BLK_NODE_OPENING);
    return &node->limits;
}
