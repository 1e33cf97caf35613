/*
 * graph_int.h -- nodes, edges and roots as the files of this directory see them.
 *
 * Fields are grouped by who may touch them. What a request reads is constant while the node can be
 * reached by one: it is set while the node is opened, or behind closed gates.
 */
#pragma once
#include "base/list.h"
#include "block/drain.h"
#include "block/root.h"
#include "block/token.h"
#include "co/lock.h"
#include "loop/loop.h"
#include "sync/atomic.h"

enum { BLK_BOUNCE_BYTES_MAX = 1 << 20 }; /* one piece of a request that needs a buffer of ours */

/* ---- edges ----------------------------------------------------------------------------------- */

struct blk_edge {
    struct blk_node *lower; /* NULL: not attached; requests read it under a token */

    /* main loop */
    struct blk_node *upper; /* NULL: @root has it */
    struct blk_root *root;
    const struct blk_child_def *def; /* NULL with @root */
    unsigned perm, shared;
    struct list in_parents; /* of lower->parents */
};

/* ---- nodes ----------------------------------------------------------------------------------- */

enum blk_node_state {
    BLK_NODE_OPENING, /* has its name, cannot be found */
    BLK_NODE_OPEN,
    BLK_NODE_CLOSING,
};

/* Permissions somebody is about to take: the driver is told before the graph is changed. */
struct blk_perm_claim {
    struct list link;
    unsigned perm, unshared;
};

struct blk_tracker; /* track_int.h */

struct blk_node {
    /* constant after open */
    const struct blk_driver *driver;
    void *state;
    struct blk_limits limits; /* as the driver set them; zeroes replaced */
    uint64_t transfer_bytes_max;
    uint64_t request_mask;    /* request_alignment - 1 */
    uint64_t memory_mask;
    struct blk_tracker *tracker; /* NULL: no request is ever widened here */
    bool read_only;
    bool simple_writes; /* no tracker, no zero detection, writable: straight down */
    bool has_fua;       /* FUA needs no thought: the driver heeds it, or flushes are ignored */
    bool ignores_flush;
    bool unmaps;      /* discard=unmap */
    bool tells_perms; /* the driver has co_set_perms */
    enum blk_detect_zeroes_option detect_zeroes;
    struct blk_common_options *options; /* the driver's options struct */
    json_t *options_json;               /* as given, for people */
    char name[BLK_NODE_NAME_BYTES_MAX + 1];

    uint64_t bytes; /* atomic; changed by the main loop */

    struct blk_edge child[BLK_DRIVER_CHILDREN_MAX]; /* (lower) as edges say */

    /* main loop */
    enum blk_node_state node_state;
    bool is_named; /* holds the reference of its name */
    bool has_driver_open;
    unsigned refs;
    unsigned depth; /* nodes on the longest path downward, this one included; never shrinks */
    struct blk_node *hash_next;
    struct list in_all;
    struct list parents;                    /* struct blk_edge */
    unsigned takers[BLK_PERM_BITS];         /* parents that take the permission */
    unsigned refusers[BLK_PERM_BITS];       /* parents that do not share it */
    struct co_mutex lock_mutex;             /* one co_set_perms() at a time */
    struct list claims;                     /* struct blk_perm_claim */
    unsigned locked_perm, locked_unshared;  /* what the driver was told last */
    unsigned quiet; /* own sections + child edges to a quiet node; > 0: drained or on the way */
    unsigned attaching;     /* attempts under way to become a parent */
    struct co_wait *closed; /* told when the node is gone; NULL: nobody waits */
    struct list dead;       /* of those that are closed together */
    struct list work;       /* of a walk between two yields */
};


/* Registry (registry.c). A name is taken from blk_registry_add() to blk_registry_remove(). */
MAIN_LOOP
bool blk_registry_has(const char *name);
MAIN_LOOP
void blk_registry_add(struct blk_node *node);
MAIN_LOOP
void blk_registry_remove(struct blk_node *node);
MAIN_LOOP
struct blk_node *blk_registry_find(const char *name); /* in any state */
MAIN_LOOP
void blk_registry_generate_name(char *to, size_t bytes_max);

/* Drop a reference where one cannot yield; a coroutine closes the node if it was the last. */
MAIN_LOOP
void blk_node_unref_later(struct blk_node *node);

/* An empty node in state OPENING with one reference, its name taken. */
MAIN_LOOP
struct blk_node *blk_node_new(const struct blk_driver *driver, const char *name);

/* "node 'a' as 'file'" or what the root's user says of itself; the caller frees it. */
MAIN_LOOP
char *blk_edge_user(const struct blk_edge *edge);

/* ---- edges and permissions (edge.c, perm.c) -------------------------------------------------- */

/*
 * Attach @edge (upper or root, def, set; lower NULL) to @lower with @perm and @shared. Yields while
 * drivers below take their locks; then checks and commits in one step. Takes a reference on @lower,
 * inherits its sections (D3). -EPERM: a conflict, both users named; the graph is as before.
 */
MAIN_LOOP CO_FN
int blk_edge_co_attach(struct blk_edge *edge, struct blk_node *lower, unsigned perm,
                       unsigned shared, struct err **reterr);

/* The upper end is drained or has no I/O. Cannot fail. The reference goes to the caller, who then
 * calls blk_perms_co_settle() and drops it. */
MAIN_LOOP
struct blk_node *blk_edge_detach(struct blk_edge *edge);

/* Tell drivers at and below @node that permissions have shrunk. */
MAIN_LOOP CO_FN
void blk_perms_co_settle(struct blk_node *node);

/* What @def of a node with these users takes and shares. */
MAIN_LOOP
void blk_child_perms(const struct blk_node *node, const struct blk_child_def *def,
                     unsigned *ret_perm, unsigned *ret_shared);

/* ---- roots ----------------------------------------------------------------------------------- */

struct blk_root {
    struct blk_edge edge;      /* lower: constant while a token is out */
    struct blk_tokens *tokens; /* constant */
    const struct blk_root_ops *ops;
    void *opaque;

    /* main loop */
    unsigned gate; /* closed this often: its own closings, and one for a quiet node below */
    bool is_idle;  /* seen idle since the gate was last closed */
    struct list waits; /* struct blk_wait: sections that wait for this root */
    struct list work;  /* of roots whose gate is about to be closed or opened */
};

MAIN_LOOP
const char *blk_root_user(const struct blk_root *root);

/* ---- drain ----------------------------------------------------------------------------------- */

/* @edge has just got its lower end, or is about to lose it: count its sections upward. The gates
 * this closes are closed and fenced on return; those it opens are opened, restarts done. */
MAIN_LOOP
void blk_quiet_attached(struct blk_edge *edge);
MAIN_LOOP
void blk_quiet_detaching(struct blk_edge *edge);

/* ---- requests (request.c) -------------------------------------------------------------------- */

/* On @node itself, whoever asks. */
CO_FN GRAPH_RD
int blk_node_co_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags);
CO_FN GRAPH_RD
int blk_node_co_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, unsigned flags);
CO_FN GRAPH_RD
int blk_node_co_flush(struct blk_node *node);
CO_FN GRAPH_RD
int blk_node_co_discard(struct blk_node *node, uint64_t offset, uint64_t bytes);
CO_FN GRAPH_RD
int blk_node_co_write_zeroes(struct blk_node *node, uint64_t offset, uint64_t bytes,
                             unsigned flags);
CO_FN GRAPH_RD
int blk_node_co_status(struct blk_node *node, uint64_t offset, uint64_t bytes,
                       unsigned *ret_status, uint64_t *ret_bytes);
