/*
 * zero.c -- UNMAP and WRITE SAME: ranges without as much data.
 *
 * (Z1) All of a parameter list is checked before the first range is touched.
 * (Z2) A range is worked off in chunks, with a turn for the others on this loop after each.
 * (Z3) What a guest chooses the size of is bounded: the parameter list by
 *      SCSI_UNMAP_DESCRIPTORS_MAX, on the stack; the pattern of WRITE SAME by PATTERN_BYTES (or one
 *      block), which may not be to be had.
 */
#include "scsi/lu_int.h"
#include "base/iov.h"
#include "base/mem.h"
#include "co/co.h"
#include <errno.h>

enum {
    UNMAP_HEADER_BYTES = 8,
    UNMAP_DESCRIPTOR_BYTES = 16,
    UNMAP_LIST_BYTES_MAX = UNMAP_HEADER_BYTES + SCSI_UNMAP_DESCRIPTORS_MAX * UNMAP_DESCRIPTOR_BYTES,
    UNMAP_CHUNK_BYTES = 256 << 20, /* no data moves: a chunk is a call or two to a file system */
    ZERO_CHUNK_BYTES = 64 << 20,   /* the same, but storage that cannot must write them */
    PATTERN_BYTES = 64 << 10,
    PATTERN_PIECES = 16,           /* one call writes the buffer so often: 1 MiB */
};
static_assert(UNMAP_LIST_BYTES_MAX <= 4096, "lies on a coroutine's stack");

/* ---- UNMAP (SBC-3 5.28) ---- */

struct unmap_list {
    const uint8_t *descriptors;
    size_t count;
};

/* What the header in front of the descriptors says, held against what was sent. False: failed. */
static bool parse_unmap_list(struct scsi_cmd *cmd, const uint8_t *list, uint32_t length,
                             struct unmap_list *ret_list)
{
    /* The block descriptor data length; an incomplete last descriptor is ignored. */
    size_t count = be16_load(list + 2) / UNMAP_DESCRIPTOR_BYTES;

    if (count > SCSI_UNMAP_DESCRIPTORS_MAX) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_PARAMETERS);
        return false;
    }
    if (count * UNMAP_DESCRIPTOR_BYTES > length - UNMAP_HEADER_BYTES) {
        scsi_cmd_fail(cmd, SCSI_PARAMETER_LIST_LENGTH); /* the list was cut in a descriptor */
        return false;
    }
    *ret_list = (struct unmap_list){list + UNMAP_HEADER_BYTES, count};
    return true;
}

static void load_descriptor(const struct unmap_list *list, size_t i, uint64_t *ret_lba,
                            uint32_t *ret_blocks)
{
    const uint8_t *descriptor = list->descriptors + i * UNMAP_DESCRIPTOR_BYTES;

    *ret_lba = be64_load(descriptor);
    *ret_blocks = be32_load(descriptor + 8);
}

/* Each range inside the medium, and not more in all than the limit. False: failed. (Z1) */
static bool check_unmap_list(const struct scsi_lu *lu, struct scsi_cmd *cmd,
                             const struct unmap_list *list)
{
    uint64_t total = 0, lba, offset, bytes;
    uint32_t blocks;

    for (size_t i = 0; i < list->count; i++) {
        load_descriptor(list, i, &lba, &blocks);
        if (!scsi_lu_resolve(lu, cmd, lba, blocks, &offset, &bytes)) {
            return false;
        }
        total += blocks; /* 255 times 32 bits */
    }
    if (lu->unmap_blocks_max != UINT32_MAX && total > lu->unmap_blocks_max) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_PARAMETERS);
        return false;
    }
    return true;
}

CO_FN
static int discard_range(struct scsi_lu *lu, uint64_t offset, uint64_t bytes)
{
    while (bytes > 0) {
        uint64_t chunk = min_of(bytes, (uint64_t)UNMAP_CHUNK_BYTES);
        int rc = lu->ops->co_discard(lu->medium, offset, chunk);

        if (rc < 0 && rc != -ENOTSUP) { /* unmapping is a wish: blocks may stay as they are */
            return rc;
        }
        offset += chunk;
        bytes -= chunk;
        if (bytes > 0) {
            co_yield_turn(); /* (Z2) */
        }
    }
    return 0;
}

CO_FN
static int discard_list(struct scsi_lu *lu, const struct unmap_list *list)
{
    uint64_t lba;
    uint32_t blocks;
    int rc;

    for (size_t i = 0; i < list->count; i++) {
        load_descriptor(list, i, &lba, &blocks);
        if (i > 0) {
            co_yield_turn(); /* (Z2) */
        }
        rc = discard_range(lu, lba << lu->block_shift, (uint64_t)blocks << lu->block_shift);
        if (rc < 0) {
            return rc;
        }
    }
    /* Without a write cache what is answered is on the medium. */
    return lu->config.write_cache || list->count == 0 ? 0 : lu->ops->co_flush(lu->medium);
}

void scsi_co_unmap(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    uint8_t list[UNMAP_LIST_BYTES_MAX] = {0};
    struct unmap_list parsed;
    int rc;

    if (length == 0) {
        return; /* no parameter list: nothing to unmap, not an error */
    }
    if (length < UNMAP_HEADER_BYTES) {
        scsi_cmd_fail(cmd, SCSI_PARAMETER_LIST_LENGTH);
        return;
    }
    if (cmd->data_out_bytes < length) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return;
    }
    iov_copy_out(cmd->data_out, cmd->data_out_count, 0, list, min_of(sizeof(list), (size_t)length));
    if (!parse_unmap_list(cmd, list, length, &parsed) ||
        !check_unmap_list(port->lu, cmd, &parsed)) {
        return;
    }
    rc = discard_list(port->lu, &parsed);
    if (rc < 0) {
        scsi_cmd_fail_write(cmd, rc);
        return;
    }
    cmd->transferred = length;
}

/* ---- WRITE SAME (SBC-3 5.45, 5.46) ---- */

struct write_same {
    uint64_t offset, bytes;
    bool unmap, no_data_out;
};

/* False: @cmd has failed. */
static bool parse_write_same(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint64_t blocks,
                             struct write_same *ret_same)
{
    uint64_t lba = scsi_cdb_lba(cmd->cdb), total = scsi_lu_blocks(lu);

    ret_same->unmap = (cmd->cdb[1] & 0x08) != 0;
    ret_same->no_data_out = (cmd->cdb[1] & 0x01) != 0; /* WRITE SAME(10) does not let it through */
    if (ret_same->unmap && !lu->config.thin) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return false;
    }
    if (blocks == 0) { /* WSNZ is 0: to the end */
        if (lba >= total) {
            scsi_cmd_fail(cmd, SCSI_LBA_OUT_OF_RANGE);
            return false;
        }
        blocks = total - lba;
    }
    if (!scsi_lu_resolve(lu, cmd, lba, blocks, &ret_same->offset, &ret_same->bytes)) {
        return false;
    }
    if ((lu->write_same_blocks_max != 0 && blocks > lu->write_same_blocks_max) ||
        (!ret_same->no_data_out && cmd->data_out_bytes < lu->config.logical_block_bytes)) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return false;
    }
    return true;
}

static unsigned write_flags(const struct scsi_lu *lu)
{
    return lu->config.write_cache ? 0 : SCSI_MEDIUM_FUA;
}

CO_FN
static int write_zeroes(struct scsi_lu *lu, struct write_same same)
{
    unsigned flags = write_flags(lu) | (same.unmap ? SCSI_MEDIUM_MAY_UNMAP : 0);

    while (same.bytes > 0) {
        uint64_t chunk = min_of(same.bytes, (uint64_t)ZERO_CHUNK_BYTES);
        int rc = lu->ops->co_write_zeroes(lu->medium, same.offset, chunk, flags);

        if (rc < 0) {
            return rc;
        }
        same.offset += chunk;
        same.bytes -= chunk;
        if (same.bytes > 0) {
            co_yield_turn(); /* (Z2) */
        }
    }
    return 0;
}

/* The first @bytes of a list that repeats the buffer; its elements. */
static size_t repeat(uint8_t *buffer, size_t buffer_bytes, uint64_t bytes, struct iovec *to)
{
    size_t count = 0;

    for (; bytes > 0; count++) {
        assert(count < PATTERN_PIECES);
        to[count] = (struct iovec){buffer, (size_t)min_of(bytes, (uint64_t)buffer_bytes)};
        bytes -= to[count].iov_len;
    }
    return count;
}

/* @buffer: whole blocks of the pattern. */
CO_FN
static int write_pattern(struct scsi_lu *lu, struct write_same same, uint8_t *buffer,
                         size_t buffer_bytes)
{
    struct iovec iov[PATTERN_PIECES];
    uint64_t chunk_max = max_of((uint64_t)PATTERN_BYTES * PATTERN_PIECES, (uint64_t)buffer_bytes);

    while (same.bytes > 0) {
        uint64_t chunk = min_of(same.bytes, chunk_max);
        size_t count = repeat(buffer, buffer_bytes, chunk, iov);
        int rc = lu->ops->co_pwritev(lu->medium, same.offset, chunk, iov, count, write_flags(lu));

        if (rc < 0) {
            return rc;
        }
        same.offset += chunk;
        same.bytes -= chunk;
        if (same.bytes > 0) {
            co_yield_turn(); /* (Z2) */
        }
    }
    return 0;
}

static void fill_with_first_block(uint8_t *buffer, size_t buffer_bytes, size_t block)
{
    for (size_t filled = block; filled < buffer_bytes; filled += block) {
        memcpy(buffer + filled, buffer, block);
    }
}

/* The block is copied once, and that copy decides: the guest may be writing to its own. */
CO_FN
static int write_data_out(struct scsi_lu *lu, const struct scsi_cmd *cmd,
                          const struct write_same *same)
{
    size_t block = lu->config.logical_block_bytes;
    size_t bytes = max_of(block, (size_t)min_of(same->bytes, (uint64_t)PATTERN_BYTES));
    AUTO_MEM uint8_t *buffer = mem_try_alloc_aligned(4096, bytes);
    struct iovec first = {buffer, block};

    if (buffer == NULL) {
        return -ENOMEM;
    }
    iov_copy_out(cmd->data_out, cmd->data_out_count, 0, buffer, block);
    if (iov_is_zero(&first, 1)) {
        return write_zeroes(lu, *same);
    }
    fill_with_first_block(buffer, bytes, block);
    return write_pattern(lu, *same, buffer, bytes);
}

void scsi_co_write_same(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    struct scsi_lu *lu = port->lu;
    struct write_same same;
    int rc;

    if (!parse_write_same(lu, cmd, length, &same)) {
        return;
    }
    rc = same.no_data_out ? write_zeroes(lu, same) : write_data_out(lu, cmd, &same);
    if (rc < 0) {
        scsi_cmd_fail_write(cmd, rc);
        return;
    }
    cmd->transferred = same.no_data_out ? 0 : lu->config.logical_block_bytes;
}
