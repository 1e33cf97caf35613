/*
 * raw.c -- the bytes of the child as they are, or a window of them (offset, size).
 *
 * Nothing is ever probed: "raw" is what the operator said it is.
 */
#include "base/checked.h"
#include "block/drivers.h"
#include "block/node.h"
#include <errno.h>
#include <inttypes.h>

enum { CHILD_FILE, SECTOR_BYTES = 512 };

struct raw_options {
    struct blk_common_options common;
    json_t *file;
    uint64_t offset, bytes;
    bool has_bytes;
};

struct raw_state {
    struct blk_edge *file;
    uint64_t offset;
};

static const struct opt raw_opts[] = {
    {.name = "file", .type = OPT_JSON, .flags = OPT_REQUIRED, OPT_AT(struct raw_options, file),
     .since = "0.1", .help = "the node that holds the bytes: a name, or the options of a new node"},
    {.name = "offset", .type = OPT_SIZE, OPT_AT(struct raw_options, offset), .dflt = "0",
     .max = INT64_MAX, .since = "0.1", .help = "where the disk begins in the file"},
    {.name = "size", .type = OPT_SIZE, OPT_AT(struct raw_options, bytes),
     OPT_HAS(struct raw_options, has_bytes), .max = INT64_MAX, .since = "0.1",
     .help = "size of the disk; to the file's end without it"},
};

static const struct opt_table raw_options_table = {
    .name = "BlockdevOptionsRaw",
    .help = "the bytes of a file as they are, or a window of them",
    .base = &blk_common_options_table,
    .opts = raw_opts,
    .count = countof(raw_opts),
    .values_bytes = sizeof(struct raw_options),
};

static int check_window(const struct blk_node *node, const struct raw_options *options,
                        uint64_t file_bytes, struct err **reterr)
{
    if (options->offset > file_bytes) {
        return err_set(reterr, EINVAL,
                       "node '%s': Offset (%" PRIu64 ") cannot be greater than size of the "
                       "containing file (%" PRIu64 ")",
                       blk_node_name(node), options->offset, file_bytes);
    }
    if (!options->has_bytes) {
        return 0;
    }
    if (options->bytes % SECTOR_BYTES != 0) {
        return err_set(reterr, EINVAL,
                       "node '%s': Specified size is not multiple of %d: size=%" PRIu64,
                       blk_node_name(node), SECTOR_BYTES, options->bytes);
    }
    if (!range_is_inside(options->offset, options->bytes, file_bytes)) {
        return err_set(reterr, EINVAL,
                       "node '%s': The sum of offset (%" PRIu64 ") and size (%" PRIu64 ") has "
                       "to be smaller or equal to the actual size of the containing file "
                       "(%" PRIu64 ")",
                       blk_node_name(node), options->offset, options->bytes, file_bytes);
    }
    return 0;
}

/* The child's limits hold below; what is said here only saves it work where the window allows
 * it. */
static void set_limits(struct blk_limits *limits, const struct blk_limits *below, uint64_t offset)
{
    if (offset % below->discard_alignment == 0) {
        limits->discard_alignment = below->discard_alignment;
    }
    if (offset % below->write_zeroes_alignment == 0) {
        limits->write_zeroes_alignment = below->write_zeroes_alignment;
    }
}

MAIN_LOOP CO_FN
static int raw_co_open(struct blk_node *node, const void *values, struct err **reterr)
{
    const struct raw_options *options = values;
    struct raw_state *raw = blk_node_state(node);
    const struct blk_node *below;
    uint64_t file_bytes;
    int rc;

    raw->file = blk_node_child(node, CHILD_FILE);
    raw->offset = options->offset;
    below = blk_edge_node(raw->file);
    file_bytes = blk_node_bytes(below);
    rc = check_window(node, options, file_bytes, reterr);
    if (rc < 0) {
        return rc;
    }
    if (blk_node_is_read_only(below) && options->common.auto_read_only) {
        blk_node_set_read_only(node);
    }
    set_limits(blk_node_limits_rw(node), blk_node_limits(below), options->offset);
    blk_node_set_bytes(node,
                       options->has_bytes ? options->bytes : file_bytes - options->offset);
    return 0;
}

MAIN_LOOP
static const char *raw_filename(const struct blk_node *node)
{
    const struct raw_options *options = (const void *)blk_node_options(node);
    const struct blk_node *below = blk_edge_node(blk_node_child(node, CHILD_FILE));

    if (options->offset != 0 || options->has_bytes || blk_node_driver(below)->filename == NULL) {
        return NULL;
    }
    return blk_node_driver(below)->filename(below);
}

CO_FN GRAPH_RD
static int raw_co_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                         const struct iovec *iov, size_t count, unsigned flags)
{
    const struct raw_state *raw = blk_node_state(node);

    return blk_edge_co_preadv(raw->file, offset + raw->offset, bytes, iov, count, flags);
}

CO_FN GRAPH_RD
static int raw_co_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          const struct iovec *iov, size_t count, unsigned flags)
{
    const struct raw_state *raw = blk_node_state(node);

    return blk_edge_co_pwritev(raw->file, offset + raw->offset, bytes, iov, count, flags);
}

CO_FN GRAPH_RD
static int raw_co_flush(struct blk_node *node)
{
    const struct raw_state *raw = blk_node_state(node);

    return blk_edge_co_flush(raw->file);
}

CO_FN GRAPH_RD
static int raw_co_discard(struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    const struct raw_state *raw = blk_node_state(node);

    return blk_edge_co_discard(raw->file, offset + raw->offset, bytes);
}

/* The child writes by hand what its driver cannot. */
CO_FN GRAPH_RD
static int raw_co_write_zeroes(struct blk_node *node, uint64_t offset, uint64_t bytes,
                               unsigned flags)
{
    const struct raw_state *raw = blk_node_state(node);

    return blk_edge_co_write_zeroes(raw->file, offset + raw->offset, bytes, flags);
}

CO_FN GRAPH_RD
static int raw_co_status(struct blk_node *node, uint64_t offset, uint64_t bytes,
                         unsigned *ret_status, uint64_t *ret_bytes)
{
    const struct raw_state *raw = blk_node_state(node);

    return blk_edge_co_status(raw->file, offset + raw->offset, bytes, ret_status, ret_bytes);
}

const struct blk_driver blk_driver_raw = {
    .name = "raw",
    .options = &raw_options_table,
    .children = {{.name = "file", .perm = 0, .shared = BLK_PERM_ALL,
                  .flags = BLK_CHILD_PASSES_USERS}},
    .state_bytes = sizeof(struct raw_state),
    .since = "0.1",
    .co_open = raw_co_open,
    .filename = raw_filename,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_flush = raw_co_flush,
    .co_discard = raw_co_discard,
    .co_write_zeroes = raw_co_write_zeroes,
    .co_status = raw_co_status,
    .supports_fua = true,
};
