/*
 * request.c -- what every read and write of a node goes through before its driver sees it.
 *
 * (Q1) A driver sees no range outside its node, none above its limits, none misaligned in offset,
 *      length or memory. What is right already goes straight down: no lock, no allocation, no frame
 *      kept.
 * (Q2) Time of check: ranges are checked here, under the token that submits.
 * (Q3) A request that must be cut or moved into a buffer of ours is served in pieces of at most 1
 *      MiB.
 * (Q4) An unaligned write is a read-modify-write and serialised against others (track_int.h).
 * (Q5) FUA that the driver does not heed is a flush after the write. With cache.no-flush there is
 *      neither.
 * (Q6) Writing zeroes: by the driver where it can, by hand otherwise. A discard is advice: blocks
 *      that it covers in part, and drivers that cannot, do nothing.
 */
#include "base/checked.h"
#include "base/iov.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/graph_int.h"
#include "block/track_int.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { ZERO_BYTES = 64 << 10 };

/* Zeroes to write from: as much as a piece. Aligned for any O_DIRECT; never written to. */
static _Alignas(4096) uint8_t zero_block[ZERO_BYTES];
#define ZERO_ELEMENT {zero_block, ZERO_BYTES}
#define ZERO_ELEMENTS_4 ZERO_ELEMENT, ZERO_ELEMENT, ZERO_ELEMENT, ZERO_ELEMENT
static const struct iovec zero_iov[] = {ZERO_ELEMENTS_4, ZERO_ELEMENTS_4, ZERO_ELEMENTS_4,
                                        ZERO_ELEMENTS_4};
static_assert(countof(zero_iov) * ZERO_BYTES >= BLK_BOUNCE_BYTES_MAX, "enough for a piece");

static inline bool range_ok(const struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    /* Pairs with blk_node_set_bytes(). */
    return range_is_inside(offset, bytes, at_load_relaxed(&node->bytes));
}

static inline bool memory_ok(const struct blk_node *node, const struct iovec *iov, size_t count)
{
    uintptr_t bases = 0;
    size_t lengths = 0;

    if (node->memory_mask == 0 && node->request_mask == 0) {
        return count <= IOV_MAX_ELEMENTS;
    }
    for (size_t i = 0; i < count; i++) {
        bases |= (uintptr_t)iov[i].iov_base;
        lengths |= iov[i].iov_len;
    }
    return (bases & node->memory_mask) == 0 && (lengths & node->request_mask) == 0 &&
           count <= IOV_MAX_ELEMENTS;
}

static inline bool fits(const struct blk_node *node, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count)
{
    return ((offset | bytes) & node->request_mask) == 0 && bytes <= node->transfer_bytes_max &&
           memory_ok(node, iov, count);
}

/* ---- pieces (Q3) ----------------------------------------------------------------------------- */

/* A buffer of ours for what covers [offset, offset + bytes) in whole blocks. */
static int bounce_alloc(const struct blk_node *node, uint64_t bytes, uint8_t **ret_buffer)
{
    *ret_buffer = mem_try_alloc_aligned((size_t)node->memory_mask + 1, (size_t)bytes);
    return *ret_buffer == NULL ? -ENOMEM : 0;
}

CO_FN GRAPH_RD
static int read_bounced(struct blk_node *node, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, size_t place)
{
    uint64_t start = offset & ~node->request_mask;
    uint64_t end = align_up(offset + bytes, node->request_mask + 1);
    AUTO_MEM uint8_t *buffer = NULL;
    struct iovec whole;
    int rc = bounce_alloc(node, end - start, &buffer);

    if (rc < 0) {
        return rc;
    }
    whole = (struct iovec){buffer, (size_t)(end - start)};
    rc = node->driver->co_preadv(node, start, end - start, &whole, 1, 0);
    if (rc == 0) {
        iov_copy_in(iov, count, place, buffer + (offset - start), (size_t)bytes);
    }
    return rc;
}

/* [@offset, @offset + @bytes) is aligned and within limits; of @iov it is what follows @place.
 * Straight if the memory allows, else through a buffer. */
CO_FN GRAPH_RD
static int read_piece(struct blk_node *node, uint64_t offset, uint64_t bytes,
                      const struct iovec *iov, size_t count, size_t place)
{
    AUTO_MEM struct iovec *part = mem_try_alloc(count * sizeof(*part));
    int parts = part == NULL ? -1 : iov_slice(iov, count, place, (size_t)bytes, part, count);

    if (parts > 0 && fits(node, offset, bytes, part, (size_t)parts)) {
        return node->driver->co_preadv(node, offset, bytes, part, (size_t)parts, 0);
    }
    return read_bounced(node, offset, bytes, iov, count, place);
}

/* The next piece from @offset: up to a boundary of blocks, within the limits. */
static uint64_t piece_bytes(const struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    uint64_t max = min_of(node->transfer_bytes_max, (uint64_t)BLK_BOUNCE_BYTES_MAX);
    uint64_t into_block = offset & node->request_mask;

    return min_of(bytes, max - into_block);
}

no_inline CO_FN GRAPH_RD
static int read_in_pieces(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          const struct iovec *iov, size_t count)
{
    size_t place = 0;

    while (bytes > 0) {
        uint64_t piece = piece_bytes(node, offset, bytes);
        int rc = read_piece(node, offset, piece, iov, count, place);

        if (rc < 0) {
            return rc;
        }
        offset += piece;
        bytes -= piece;
        place += (size_t)piece;
        if (bytes > 0) {
            co_yield_turn();
        }
    }
    return 0;
}

int blk_node_co_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags)
{
    TRACE(blk_read, "node '%s' offset %" PRIu64 " bytes %" PRIu64, node->name, offset, bytes);
    if (unlikely(!range_ok(node, offset, bytes))) {
        return -EIO;
    }
    if (likely(fits(node, offset, bytes, iov, count))) {
        return node->driver->co_preadv(node, offset, bytes, iov, count, flags);
    }
    return read_in_pieces(node, offset, bytes, iov, count);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Aligned; flags are the driver's own. */
CO_FN GRAPH_RD
static int write_bounced(struct blk_node *node, uint64_t offset, uint64_t bytes,
                         const struct iovec *iov, size_t count, size_t place)
{
    AUTO_MEM uint8_t *buffer = NULL;
    struct iovec whole;
    int rc = bounce_alloc(node, bytes, &buffer);

    if (rc < 0) {
        return rc;
    }
    iov_copy_out(iov, count, place, buffer, (size_t)bytes);
    whole = (struct iovec){buffer, (size_t)bytes};
    return node->driver->co_pwritev(node, offset, bytes, &whole, 1, 0);
}

CO_FN GRAPH_RD
static int write_piece(struct blk_node *node, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, size_t place)
{
    AUTO_MEM struct iovec *part = mem_try_alloc(count * sizeof(*part));
    int parts = part == NULL ? -1 : iov_slice(iov, count, place, (size_t)bytes, part, count);

    if (parts > 0 && fits(node, offset, bytes, part, (size_t)parts)) {
        return node->driver->co_pwritev(node, offset, bytes, part, (size_t)parts, 0);
    }
    return write_bounced(node, offset, bytes, iov, count, place);
}

/* Part of one block: read it, change it, write it back. The range is serialised already. */
CO_FN GRAPH_RD
static int modify_block(struct blk_node *node, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, size_t place)
{
    uint64_t block_bytes = node->request_mask + 1;
    uint64_t start = offset & ~node->request_mask;
    AUTO_MEM uint8_t *buffer = NULL;
    struct iovec whole;
    int rc = bounce_alloc(node, block_bytes, &buffer);

    if (rc < 0) {
        return rc;
    }
    whole = (struct iovec){buffer, (size_t)block_bytes};
    rc = node->driver->co_preadv(node, start, block_bytes, &whole, 1, 0);
    if (rc < 0) {
        return rc;
    }
    iov_copy_out(iov, count, place, buffer + (offset - start), (size_t)bytes);
    return node->driver->co_pwritev(node, start, block_bytes, &whole, 1, 0);
}

/* Whole blocks as pieces within the limits; a head or tail that covers a block in part is
 * modified. */
no_inline CO_FN GRAPH_RD
static int write_in_pieces(struct blk_node *node, uint64_t offset, uint64_t bytes,
                           const struct iovec *iov, size_t count)
{
    uint64_t block_bytes = node->request_mask + 1;
    size_t place = 0;

    while (bytes > 0) {
        uint64_t into_block = offset & node->request_mask;
        uint64_t piece = piece_bytes(node, offset, bytes);
        int rc;

        if (into_block != 0 || bytes < block_bytes) {
            piece = min_of(bytes, block_bytes - into_block);
            rc = modify_block(node, offset, piece, iov, count, place);
        } else {
            piece &= ~node->request_mask;
            rc = write_piece(node, offset, piece, iov, count, place);
        }
        if (rc < 0) {
            return rc;
        }
        offset += piece;
        bytes -= piece;
        place += (size_t)piece;
        if (bytes > 0) {
            co_yield_turn();
        }
    }
    return 0;
}

static bool is_block_aligned(const struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    return ((offset | bytes) & node->request_mask) == 0;
}

/* Enter the tracker as what the range is: whole blocks, or a read-modify-write (Q4). */
CO_FN
static void track_enter(struct blk_node *node, struct blk_tracked *write, uint64_t offset,
                        uint64_t bytes)
{
    uint64_t start = offset & ~node->request_mask;
    uint64_t end = align_up(offset + bytes, node->request_mask + 1);

    if (node->tracker == NULL) {
        return;
    }
    if (is_block_aligned(node, offset, bytes)) {
        blk_tracked_co_enter(node->tracker, write, offset, bytes);
    } else {
        blk_tracked_co_enter_serialising(node->tracker, write, start, end - start);
    }
}

CO_FN
static void track_leave(struct blk_node *node, struct blk_tracked *write)
{
    if (node->tracker != NULL) {
        blk_tracked_co_leave(node->tracker, write);
    }
}

/* Tracked, in one go or in pieces; FUA only in one go. */
CO_FN GRAPH_RD
static int write_tracked(struct blk_node *node, uint64_t offset, uint64_t bytes,
                         const struct iovec *iov, size_t count, unsigned flags)
{
    struct blk_tracked write;
    int rc;

    track_enter(node, &write, offset, bytes);
    if (likely(fits(node, offset, bytes, iov, count))) {
        rc = node->driver->co_pwritev(node, offset, bytes, iov, count, flags);
    } else {
        rc = write_in_pieces(node, offset, bytes, iov, count);
    }
    track_leave(node, &write);
    return rc;
}

CO_FN GRAPH_RD
static int write_checked(struct blk_node *node, uint64_t offset, uint64_t bytes,
                         const struct iovec *iov, size_t count, unsigned flags)
{
    bool fua = (flags & BLK_REQ_FUA) != 0 && !node->ignores_flush;
    bool fua_below = fua && node->driver->supports_fua && fits(node, offset, bytes, iov, count);
    int rc = write_tracked(node, offset, bytes, iov, count, fua_below ? BLK_REQ_FUA : 0);

    if (rc == 0 && fua && !fua_below) {
        rc = blk_node_co_flush(node); /* (Q5) */
    }
    return rc;
}

/* Everything that is not the plain case. */
no_inline CO_FN GRAPH_RD
static int write_otherwise(struct blk_node *node, uint64_t offset, uint64_t bytes,
                           const struct iovec *iov, size_t count, unsigned flags)
{
    if (node->read_only) {
        return -EPERM;
    }
    if (node->detect_zeroes != BLK_DETECT_ZEROES_OFF && bytes > 0 && iov_is_zero(iov, count)) {
        if (node->detect_zeroes == BLK_DETECT_ZEROES_UNMAP) {
            flags |= BLK_REQ_MAY_UNMAP;
        }
        return blk_node_co_write_zeroes(node, offset, bytes, flags);
    }
    return write_checked(node, offset, bytes, iov, count, flags);
}

int blk_node_co_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, unsigned flags)
{
    TRACE(blk_write, "node '%s' offset %" PRIu64 " bytes %" PRIu64 " flags %u", node->name, offset,
          bytes, flags);
    if (unlikely(!range_ok(node, offset, bytes))) {
        return -EIO;
    }
    if (likely(node->simple_writes && fits(node, offset, bytes, iov, count) &&
               (!(flags & BLK_REQ_FUA) || node->has_fua))) {
        return node->driver->co_pwritev(node, offset, bytes, iov, count, flags);
    }
    return write_otherwise(node, offset, bytes, iov, count, flags);
}

int blk_node_co_flush(struct blk_node *node)
{
    TRACE(blk_flush, "node '%s'", node->name);
    if (node->driver->co_flush == NULL || node->ignores_flush) {
        return 0;
    }
    return node->driver->co_flush(node);
}

/* ---- zeroes (Q6) ----------------------------------------------------------------------------- */

/* By hand; any alignment; the range is tracked. */
CO_FN GRAPH_RD
static int write_zero_buffers(struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    while (bytes > 0) {
        uint64_t piece = min_of(bytes, (uint64_t)BLK_BOUNCE_BYTES_MAX);
        int rc = write_in_pieces(node, offset, piece, zero_iov, countof(zero_iov));

        if (rc < 0) {
            return rc;
        }
        offset += piece;
        bytes -= piece;
    }
    return 0;
}

/* Whole units of the driver's in the middle of the range, in calls within its limits. What it
 * cannot do is written by hand unless that is forbidden. */
CO_FN GRAPH_RD
static int zero_one_call(struct blk_node *node, uint64_t offset, uint64_t bytes, unsigned flags)
{
    int rc = -ENOTSUP;

    if (node->driver->co_write_zeroes != NULL) {
        rc = node->driver->co_write_zeroes(node, offset, bytes, flags & ~(unsigned)BLK_REQ_FUA);
    }
    if (rc == -ENOTSUP && !(flags & BLK_REQ_NO_FALLBACK)) {
        rc = write_zero_buffers(node, offset, bytes);
    }
    return rc;
}

CO_FN GRAPH_RD
static int zero_tracked(struct blk_node *node, uint64_t offset, uint64_t bytes, unsigned flags)
{
    uint64_t unit = max_of((uint64_t)node->limits.write_zeroes_alignment, node->request_mask + 1);

    while (bytes > 0) {
        uint64_t into_unit = offset & (unit - 1);
        uint64_t piece = min_of(bytes, node->limits.write_zeroes_bytes_max);
        int rc;

        if (into_unit != 0 || bytes < unit) {
            piece = min_of(bytes, unit - into_unit);
            rc = (flags & BLK_REQ_NO_FALLBACK) ? -ENOTSUP
                                               : write_zero_buffers(node, offset, piece);
        } else {
            piece = align_down(piece, unit);
            rc = zero_one_call(node, offset, piece, flags);
        }
        if (rc < 0) {
            return rc;
        }
        offset += piece;
        bytes -= piece;
        if (bytes > 0) {
            co_yield_turn();
        }
    }
    return 0;
}

int blk_node_co_write_zeroes(struct blk_node *node, uint64_t offset, uint64_t bytes,
                             unsigned flags)
{
    struct blk_tracked write;
    int rc;

    TRACE(blk_write_zeroes, "node '%s' offset %" PRIu64 " bytes %" PRIu64 " flags %u", node->name,
          offset, bytes, flags);
    if (!range_ok(node, offset, bytes)) {
        return -EIO;
    }
    if (node->read_only) {
        return -EPERM;
    }
    if (!node->unmaps) {
        flags &= ~(unsigned)BLK_REQ_MAY_UNMAP;
    }
    track_enter(node, &write, offset, bytes);
    rc = zero_tracked(node, offset, bytes, flags);
    track_leave(node, &write);
    if (rc == 0 && (flags & BLK_REQ_FUA)) {
        rc = blk_node_co_flush(node);
    }
    return rc;
}

/* ---- discard --------------------------------------------------------------------------------- */

CO_FN GRAPH_RD
static int discard_units(struct blk_node *node, uint64_t offset, uint64_t end, uint64_t unit)
{
    while (offset < end) {
        uint64_t piece = min_of(end - offset, align_down(node->limits.discard_bytes_max, unit));
        int rc = node->driver->co_discard(node, offset, piece);

        if (rc == -ENOTSUP) {
            return 0;
        }
        if (rc < 0) {
            return rc;
        }
        offset += piece;
        if (offset < end) {
            co_yield_turn();
        }
    }
    return 0;
}

int blk_node_co_discard(struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    uint64_t unit = max_of((uint64_t)node->limits.discard_alignment, node->request_mask + 1);
    uint64_t end = offset + bytes;
    struct blk_tracked write;
    int rc;

    TRACE(blk_discard, "node '%s' offset %" PRIu64 " bytes %" PRIu64, node->name, offset, bytes);
    if (!range_ok(node, offset, bytes)) {
        return -EIO;
    }
    if (node->read_only) {
        return -EPERM;
    }
    if (end != at_load_relaxed(&node->bytes)) { /* the node's end need not be that of a unit */
        end = align_down(end, unit);
    }
    offset = align_up(offset, unit);
    if (!node->unmaps || node->driver->co_discard == NULL || offset >= end) {
        return 0;
    }
    track_enter(node, &write, offset, align_up(end, node->request_mask + 1) - offset);
    rc = discard_units(node, offset, end, unit);
    track_leave(node, &write);
    return rc;
}

/* ---- status ---------------------------------------------------------------------------------- */

int blk_node_co_status(struct blk_node *node, uint64_t offset, uint64_t bytes,
                       unsigned *ret_status, uint64_t *ret_bytes)
{
    uint64_t run;
    int rc;

    if (!range_ok(node, offset, bytes) || bytes == 0) {
        return -EIO;
    }
    if (node->driver->co_status == NULL) {
        *ret_status = BLK_STATUS_DATA;
        *ret_bytes = bytes;
        return 0;
    }
    rc = node->driver->co_status(node, offset, bytes, ret_status, &run);
    if (rc == 0) {
        assert(run > 0);
        *ret_bytes = min_of(run, bytes);
    }
    return rc;
}

/* ---- across an edge -------------------------------------------------------------------------- */

/* (T6): in a coroutine that carries a token. O(1), also in release. */
static inline struct blk_node *cross(const struct blk_edge *edge)
{
    void **local = co_local_here();

    if (unlikely(local == NULL || *local == NULL)) {
        panic("edge to node '%s' crossed without a token", edge->lower->name);
    }
    return edge->lower;
}

int blk_edge_co_preadv(struct blk_edge *edge, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags)
{
    return blk_node_co_preadv(cross(edge), offset, bytes, iov, count, flags);
}

int blk_edge_co_pwritev(struct blk_edge *edge, uint64_t offset, uint64_t bytes,
                        const struct iovec *iov, size_t count, unsigned flags)
{
    return blk_node_co_pwritev(cross(edge), offset, bytes, iov, count, flags);
}

int blk_edge_co_flush(struct blk_edge *edge)
{
    return blk_node_co_flush(cross(edge));
}

int blk_edge_co_discard(struct blk_edge *edge, uint64_t offset, uint64_t bytes)
{
    return blk_node_co_discard(cross(edge), offset, bytes);
}

int blk_edge_co_write_zeroes(struct blk_edge *edge, uint64_t offset, uint64_t bytes, unsigned flags)
{
    return blk_node_co_write_zeroes(cross(edge), offset, bytes, flags);
}

int blk_edge_co_status(struct blk_edge *edge, uint64_t offset, uint64_t bytes,
                       unsigned *ret_status, uint64_t *ret_bytes)
{
    return blk_node_co_status(cross(edge), offset, bytes, ret_status, ret_bytes);
}
