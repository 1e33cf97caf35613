/*
 * node.h -- nodes: making, finding, naming, deleting them; and I/O from a driver to its child.
 */
#pragma once
#include "base/opt.h"
#include "block/driver.h"

struct blk_edge;

/* Options every node has; a driver's options struct begins with this. */
struct blk_common_options {
    char *driver;              /* the driver is chosen before its table is */
    char *node_name;
    bool read_only;
    bool auto_read_only;
    int discard;               /* enum blk_discard_option */
    int detect_zeroes;         /* enum blk_detect_zeroes_option */
    struct blk_cache_options {
        bool direct, no_flush;
    } cache;
    bool force_share;
};
enum {
    BLK_NODE_NAME_BYTES_MAX = 31, /* QEMU's, which libvirt and scripts know */
    BLK_DEPTH_MAX = 256,          /* nodes on a path; overlay chains of 200 exist */
};
enum blk_discard_option { BLK_DISCARD_IGNORE, BLK_DISCARD_UNMAP };
enum blk_detect_zeroes_option {
    BLK_DETECT_ZEROES_OFF,
    BLK_DETECT_ZEROES_ON,
    BLK_DETECT_ZEROES_UNMAP,
};
extern const struct opt_table blk_common_options_table;

/* The drivers this program was built with; cli/ hands the list over once, before the first node. */
MAIN_LOOP
void blk_drivers_set(const struct blk_driver *const *drivers, size_t count);
MAIN_LOOP
const struct blk_driver *blk_driver_find(const char *name);
MAIN_LOOP
void blk_driver_each(void (*each)(const struct blk_driver *driver, void *opaque), void *opaque);

/* Make a named node (and unnamed or named children given inline) from the options object of
 * blockdev-add. @flags: opt_parse_flags. The name holds a reference until blk_node_co_delete(). */
MAIN_LOOP CO_FN
int blk_node_co_add(json_t *options, unsigned flags, struct err **reterr);

/* Give up the name. -EBUSY names the users; -ENOENT: "Failed to find node with node-name='x'".
 * Closes the node, slowly, before it returns. */
MAIN_LOOP CO_FN
int blk_node_co_delete(const char *name, struct err **reterr);

MAIN_LOOP
struct blk_node *blk_node_find(const char *name); /* borrowed until the next yield; NULL: none */
MAIN_LOOP
void blk_node_ref(struct blk_node *node);
MAIN_LOOP CO_FN
void blk_node_co_unref(struct blk_node *node); /* the last one closes */
MAIN_LOOP
void blk_node_each(void (*each)(struct blk_node *node, void *opaque), void *opaque);

ANY_THREAD
const char *blk_node_name(const struct blk_node *node);
ANY_THREAD
const struct blk_driver *blk_node_driver(const struct blk_node *node);
ANY_THREAD
void *blk_node_state(const struct blk_node *node); /* the driver's */
ANY_THREAD
uint64_t blk_node_bytes(const struct blk_node *node);
ANY_THREAD
bool blk_node_is_read_only(const struct blk_node *node);
ANY_THREAD
const struct blk_common_options *blk_node_options(const struct blk_node *node);
MAIN_LOOP
json_t *blk_node_describe(struct blk_node *node); /* of query-named-block-nodes; new reference */

/* For drivers, while opening. */
MAIN_LOOP
void blk_node_set_bytes(struct blk_node *node, uint64_t bytes);
MAIN_LOOP
void blk_node_set_read_only(struct blk_node *node); /* auto-read-only */
MAIN_LOOP
struct blk_limits *blk_node_limits_rw(struct blk_node *node);
ANY_THREAD
const struct blk_limits *blk_node_limits(const struct blk_node *node);
ANY_THREAD
struct blk_edge *blk_node_child(const struct blk_node *node, size_t index); /* of the driver's */

/* Does not yield. Which permissions all parents together take and forbid right now; the driver of a
 * protocol node (file locks) is told before they grow. */
MAIN_LOOP
void blk_node_cumulative_perms(const struct blk_node *node, unsigned *ret_perm,
                               unsigned *ret_shared);

/* I/O across an edge, under the token raised at the root above. Ranges are the child's. */
ANY_THREAD
struct blk_node *blk_edge_node(const struct blk_edge *edge);
CO_FN GRAPH_RD
int blk_edge_co_preadv(struct blk_edge *edge, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags);
CO_FN GRAPH_RD
int blk_edge_co_pwritev(struct blk_edge *edge, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, unsigned flags);
CO_FN GRAPH_RD
int blk_edge_co_flush(struct blk_edge *edge);
CO_FN GRAPH_RD
int blk_edge_co_discard(struct blk_edge *edge, uint64_t offset, uint64_t bytes);
CO_FN GRAPH_RD
int blk_edge_co_write_zeroes(struct blk_edge *edge, uint64_t offset, uint64_t bytes,
                             unsigned flags);
CO_FN GRAPH_RD
int blk_edge_co_status(struct blk_edge *edge, uint64_t offset, uint64_t bytes, unsigned *ret_status,
                       uint64_t *ret_bytes);
