/*
 * rw.c -- READ, WRITE, SYNCHRONIZE CACHE.
 *
 * The path of every I/O: no lock, no allocation, no copy. The initiator's buffers go to the medium
 * as they are; only one that is longer than the transfer gets a shortened list, and that list alone
 * is allocated.
 */
#include "scsi/lu_int.h"
#include "base/iov.h"
#include "base/mem.h"
#include <errno.h>

struct transfer {
    uint64_t offset, bytes; /* on the medium, as the CDB says */
    bool fua;
};

/* What the CDB asks for, checked. False: @cmd has failed. */
static bool parse(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t blocks,
                  struct transfer *ret_transfer)
{
    uint8_t bits = scsi_cdb_bytes(cmd->cdb[0]) == 6 ? 0 : cmd->cdb[1];
    bool too_long = lu->transfer_blocks_max != 0 && blocks > lu->transfer_blocks_max;

    /* DPO, FUA, FUA_NV without DPOFUA in the mode data: not supported (SBC-3 6.4.1). */
    if (unlikely((bits != 0 && !lu->config.dpofua) || too_long)) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return false;
    }
    ret_transfer->fua = (bits & (0x08 | 0x02)) != 0;
    return scsi_lu_resolve(lu, cmd, scsi_cdb_lba(cmd->cdb), blocks, &ret_transfer->offset,
                           &ret_transfer->bytes);
}

/* The first @bytes of a list that has more of them, in fresh memory. NULL: not to be had. */
static struct iovec *shorten(const struct iovec *iov, size_t count, uint64_t bytes,
                             size_t *ret_count)
{
    struct iovec *to = mem_try_alloc(count * sizeof(*to));

    if (to != NULL) {
        int used = iov_slice(iov, count, 0, (size_t)bytes, to, count);

        assert(used > 0); /* it has that many bytes, and no more elements than it came with */
        *ret_count = (size_t)used;
    }
    return to;
}

CO_FN
static int medium_read(struct scsi_lu *lu, const struct scsi_cmd *cmd,
                       const struct transfer *transfer, uint64_t bytes)
{
    AUTO_MEM struct iovec *shorter = NULL;
    const struct iovec *iov = cmd->data_in;
    size_t count = cmd->data_in_count;
    int rc;

    if (unlikely(cmd->data_in_bytes > bytes)) {
        iov = shorter = shorten(iov, count, bytes, &count);
        if (shorter == NULL) {
            return -ENOMEM;
        }
    }
    if (transfer->fua) { /* what a cache holds of these blocks goes to the medium first */
        rc = lu->ops->co_flush(lu->medium);
        if (rc < 0) {
            return rc;
        }
    }
    return lu->ops->co_preadv(lu->medium, transfer->offset, bytes, iov, count);
}

void scsi_co_read(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    struct transfer transfer;
    uint64_t bytes;
    int rc;

    if (!parse(port->lu, cmd, length, &transfer)) {
        return;
    }
    bytes = min_of(transfer.bytes, (uint64_t)cmd->data_in_bytes);
    if (bytes == 0) {
        return;
    }
    rc = medium_read(port->lu, cmd, &transfer, bytes);
    if (unlikely(rc < 0)) {
        scsi_cmd_fail_read(cmd, rc);
        return;
    }
    cmd->transferred = (size_t)bytes;
}

CO_FN
static int medium_write(struct scsi_lu *lu, const struct scsi_cmd *cmd,
                        const struct transfer *transfer)
{
    AUTO_MEM struct iovec *shorter = NULL;
    const struct iovec *iov = cmd->data_out;
    size_t count = cmd->data_out_count;
    unsigned flags = transfer->fua || !lu->config.write_cache ? SCSI_MEDIUM_FUA : 0;

    if (unlikely(cmd->data_out_bytes > transfer->bytes)) {
        iov = shorter = shorten(iov, count, transfer->bytes, &count);
        if (shorter == NULL) {
            return -ENOMEM;
        }
    }
    return lu->ops->co_pwritev(lu->medium, transfer->offset, transfer->bytes, iov, count, flags);
}

void scsi_co_write(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    struct transfer transfer;
    int rc;

    if (!parse(port->lu, cmd, length, &transfer) || transfer.bytes == 0) {
        return;
    }
    if (unlikely(cmd->data_out_bytes < transfer.bytes)) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB); /* nothing is written of what is not there */
        return;
    }
    rc = medium_write(port->lu, cmd, &transfer);
    if (unlikely(rc < 0)) {
        scsi_cmd_fail_write(cmd, rc);
        return;
    }
    cmd->transferred = (size_t)transfer.bytes;
}

/* The whole cache is flushed whatever the range, and IMMED waits all the same: the initiator then
 * learns of an error from this very command. 0 blocks: to the end. */
void scsi_co_synchronize_cache(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    struct scsi_lu *lu = port->lu;
    uint64_t offset, bytes;
    int rc;

    if (!scsi_lu_resolve(lu, cmd, scsi_cdb_lba(cmd->cdb), length, &offset, &bytes)) {
        return;
    }
    rc = lu->ops->co_flush(lu->medium);
    if (rc < 0) {
        scsi_cmd_fail_write(cmd, rc);
    }
}
