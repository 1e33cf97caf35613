/*
 * null.c -- a disk that keeps nothing: for measuring everything above it.
 *
 * Without read-zeroes a read leaves the buffer as it is; whoever hands buffers to a guest has
 * filled or zeroed them.
 */
#include "base/iov.h"
#include "block/drivers.h"
#include "block/node.h"
#include "loop/loop.h"

struct null_options {
    struct blk_common_options common;
    uint64_t bytes;
    uint64_t latency_ns;
    bool read_zeroes;
};

struct null_state {
    uint64_t latency_ns;
    bool read_zeroes;
};

static const struct opt null_opts[] = {
    {.name = "size", .type = OPT_SIZE, OPT_AT(struct null_options, bytes), .dflt = "1G",
     .max = INT64_MAX, .since = "0.1", .help = "size of the disk"},
    {.name = "latency-ns", .type = OPT_U64, OPT_AT(struct null_options, latency_ns), .dflt = "0",
     .max = 3600000000000, .since = "0.1", .help = "time each request takes, in nanoseconds"},
    {.name = "read-zeroes", .type = OPT_BOOL, OPT_AT(struct null_options, read_zeroes),
     .dflt = "off", .since = "0.1", .help = "reads fill the buffer with zeroes"},
};

static const struct opt_table null_options_table = {
    .name = "BlockdevOptionsNull",
    .help = "a disk that keeps nothing",
    .base = &blk_common_options_table,
    .opts = null_opts,
    .count = countof(null_opts),
    .values_bytes = sizeof(struct null_options),
};

MAIN_LOOP CO_FN
static int null_co_open(struct blk_node *node, const void *values, struct err **reterr)
{
    const struct null_options *options = values;
    struct null_state *null = blk_node_state(node);

    null->latency_ns = options->latency_ns;
    null->read_zeroes = options->read_zeroes;
    blk_node_set_bytes(node, options->bytes);
    return 0;
}

CO_FN
static inline int wait_latency(const struct null_state *null)
{
    if (null->latency_ns != 0) {
        loop_co_sleep(null->latency_ns);
    }
    return 0;
}

CO_FN GRAPH_RD
static int null_co_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          const struct iovec *iov, size_t count, unsigned flags)
{
    const struct null_state *null = blk_node_state(node);

    if (null->read_zeroes) {
        iov_fill(iov, count, 0, 0, (size_t)bytes);
    }
    return wait_latency(null);
}

CO_FN GRAPH_RD
static int null_co_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                           const struct iovec *iov, size_t count, unsigned flags)
{
    return wait_latency(blk_node_state(node));
}

CO_FN GRAPH_RD
static int null_co_flush(struct blk_node *node)
{
    return wait_latency(blk_node_state(node));
}

CO_FN GRAPH_RD
static int null_co_discard(struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    return wait_latency(blk_node_state(node));
}

CO_FN GRAPH_RD
static int null_co_write_zeroes(struct blk_node *node, uint64_t offset, uint64_t bytes,
                                unsigned flags)
{
    return wait_latency(blk_node_state(node));
}

CO_FN GRAPH_RD
static int null_co_status(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          unsigned *ret_status, uint64_t *ret_bytes)
{
    const struct null_state *null = blk_node_state(node);

    *ret_status = BLK_STATUS_DATA | (null->read_zeroes ? (unsigned)BLK_STATUS_ZERO : 0U);
    *ret_bytes = bytes;
    return 0;
}

const struct blk_driver blk_driver_null_co = {
    .name = "null-co",
    .options = &null_options_table,
    .state_bytes = sizeof(struct null_state),
    .since = "0.1",
    .co_open = null_co_open,
    .co_preadv = null_co_preadv,
    .co_pwritev = null_co_pwritev,
    .co_flush = null_co_flush,
    .co_discard = null_co_discard,
    .co_write_zeroes = null_co_write_zeroes,
    .co_status = null_co_status,
    .supports_fua = true,
};
