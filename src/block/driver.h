/*
 * driver.h -- what a driver of a node provides. The core keeps the rules, so a driver never sees a
 * range outside the node, a request above its limits or a misaligned one.
 */
#pragma once
#include "base/opt.h"
#include "block/perm.h"
#include "co/co.h"
#include <sys/uio.h>

struct blk_node;

enum blk_req_flags {
    BLK_REQ_FUA = 1 << 0,
    BLK_REQ_MAY_UNMAP = 1 << 1,   /* write_zeroes: a hole is as good */
    BLK_REQ_NO_FALLBACK = 1 << 2, /* write_zeroes: fail rather than write zeroes by hand */
};

/* Set by open; the core splits and aligns to them. Zero means: no limit / 1. Alignments are powers
 * of two; maxima are multiples of the alignments. */
struct blk_limits {
    uint32_t request_alignment; /* offset and length of reads and writes */
    uint32_t memory_alignment;  /* of buffers */
    uint32_t transfer_bytes_max;
    uint32_t discard_alignment;
    uint64_t discard_bytes_max;
    uint32_t write_zeroes_alignment;
    uint64_t write_zeroes_bytes_max;
};

enum blk_status { BLK_STATUS_DATA = 1 << 0, BLK_STATUS_ZERO = 1 << 1, BLK_STATUS_HOLE = 1 << 2 };

enum { BLK_DRIVER_CHILDREN_MAX = 4 };

enum blk_child_flags {
    /* The child takes besides what the node's own users take, and shares no more than they do: for
     * drivers that pass requests on as they are (raw, filters). */
    BLK_CHILD_PASSES_USERS = 1 << 0,
};

/* An option that names a child: "file". Its value is an object (an inline child) or a node's name.
 * The driver's table has it as OPT_JSON; the core reads it. */
struct blk_child_def {
    const char *name;
    unsigned perm;        /* taken always */
    unsigned perm_writer; /* taken besides when the node is writable */
    unsigned shared;      /* what others may still do */
    unsigned flags;       /* enum blk_child_flags */
};

struct blk_driver {
    const char *name;                   /* "file" */
    const struct opt_table *options;    /* base: &blk_common_options_table */
    struct blk_child_def children[BLK_DRIVER_CHILDREN_MAX];
    size_t state_bytes;                 /* zeroed memory for the driver: blk_node_state() */
    const char *since;

    /* Mandatory. Open what the options name; children are attached already. Slow things go through
     * pool_co_call(). On failure everything of the driver's is undone by itself. */
    CO_SLOT MAIN_SLOT int (*co_open)(struct blk_node *node, const void *options,
                                     struct err **reterr);
    CO_SLOT MAIN_SLOT void (*co_close)(struct blk_node *node); /* optional */

    /* Optional, for protocol drivers that keep locks outside this process: all users of @node
     * together (those that are about to be added too) take @perm and allow others @shared. Called
     * one at a time a node, before it grows and after it shrinks. On failure the former state
     * stays; shrinking does not fail. */
    CO_SLOT MAIN_SLOT int (*co_set_perms)(struct blk_node *node, unsigned perm, unsigned shared,
                                          struct err **reterr);
    /* Optional: the name people know the image by ("/path/disk.img"), borrowed. Without it: the
     * first child's, or the options as "json:{…}". NULL: the same. */
    MAIN_SLOT const char *(*filename)(const struct blk_node *node);

    /* Mandatory. 0 or -errno. When the node's length is no multiple of the request alignment, its
     * last block is shown in full: what lies beyond the end reads as zeroes. */
    CO_SLOT RD_SLOT int (*co_preadv)(struct blk_node *node, uint64_t offset, uint64_t bytes,
                                     const struct iovec *iov, size_t count, unsigned flags);
    CO_SLOT RD_SLOT int (*co_pwritev)(struct blk_node *node, uint64_t offset, uint64_t bytes,
                                      const struct iovec *iov, size_t count, unsigned flags);
    /* Optional; without it: nothing to flush. */
    CO_SLOT RD_SLOT int (*co_flush)(struct blk_node *node);
    /* Optional; without it: success, nothing discarded (a discard is advice). */
    CO_SLOT RD_SLOT int (*co_discard)(struct blk_node *node, uint64_t offset, uint64_t bytes);
    /* Optional; without it, or after -ENOTSUP: the core writes zeroes. */
    CO_SLOT RD_SLOT int (*co_write_zeroes)(struct blk_node *node, uint64_t offset, uint64_t bytes,
                                           unsigned flags);
    /* Optional; without it: everything is data. Sets the length of one run of equal status. */
    CO_SLOT RD_SLOT int (*co_status)(struct blk_node *node, uint64_t offset, uint64_t bytes,
                                     unsigned *ret_status, uint64_t *ret_bytes);
    bool supports_fua; /* co_pwritev heeds BLK_REQ_FUA; else the core flushes after */
};
