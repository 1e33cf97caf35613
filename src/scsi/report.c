/* report.c -- what a logical unit says of its state: TEST UNIT READY, REQUEST SENSE, READ CAPACITY.
 */
#include "scsi/lu_int.h"

enum {
    SHOWS_ASC_FIXED = 14, /* bytes of sense data up to and with ASCQ */
    SHOWS_ASC_DESCRIPTOR = 4,
};

void scsi_co_test_unit_ready(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
}

static bool wants_descriptor_format(const struct scsi_cmd *cmd)
{
    return (cmd->cdb[1] & 0x01) != 0; /* DESC */
}

void scsi_reply_sense(struct scsi_cmd *cmd, struct scsi_sense sense, uint32_t length)
{
    uint8_t data[SCSI_SENSE_FIXED_BYTES];
    size_t bytes = wants_descriptor_format(cmd) ? scsi_sense_descriptor(sense, data)
                                                : scsi_sense_fixed(sense, data);

    scsi_cmd_reply(cmd, data, bytes, length);
}

/* A pending unit attention is returned as parameter data and is over (SPC-4 6.39) -- unless the
 * room is so small that the initiator would not see which: then it stays, for none may be lost. */
void scsi_co_request_sense(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    size_t room = min_of((size_t)length, cmd->data_in_bytes);
    size_t enough = wants_descriptor_format(cmd) ? SHOWS_ASC_DESCRIPTOR : SHOWS_ASC_FIXED;
    struct scsi_sense sense = SCSI_NO_SENSE;

    if (room >= enough) {
        scsi_port_take_ua(port, &sense);
    } else {
        scsi_port_peek_ua(port, &sense);
    }
    scsi_reply_sense(cmd, sense, length);
}

/* The last LBA. False: @cmd has failed. PMI is obsolete since SBC-3: with it any LBA may be given,
 * and no delay ever comes before the end; without it the LBA must be 0. */
static bool last_lba(const struct scsi_lu *lu, struct scsi_cmd *cmd, bool pmi, uint64_t *ret_lba)
{
    uint64_t blocks = scsi_lu_blocks(lu);

    if (!pmi && scsi_cdb_lba(cmd->cdb) != 0) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return false;
    }
    if (blocks == 0) {
        scsi_cmd_fail(cmd, SCSI_NOT_READY); /* there is no last block to name */
        return false;
    }
    *ret_lba = blocks - 1;
    return true;
}

void scsi_co_read_capacity_10(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    const struct scsi_lu *lu = port->lu;
    uint8_t data[8];
    uint64_t last;

    if (last_lba(lu, cmd, (cmd->cdb[8] & 0x01) != 0, &last)) {
        be32_store(data, (uint32_t)min_of(last, (uint64_t)UINT32_MAX)); /* SBC-3 5.15.2 */
        be32_store(data + 4, lu->config.logical_block_bytes);
        scsi_cmd_reply(cmd, data, sizeof(data), sizeof(data));
    }
}

void scsi_co_read_capacity_16(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    const struct scsi_lu_config *config = &port->lu->config;
    uint8_t data[32] = {0};
    uint64_t last;

    if (last_lba(port->lu, cmd, (cmd->cdb[14] & 0x01) != 0, &last)) {
        be64_store(data, last);
        be32_store(data + 8, config->logical_block_bytes);
        data[13] = (uint8_t)__builtin_ctz(config->physical_block_bytes >> port->lu->block_shift);
        if (config->thin) { /* LBPME, LBPRZ */
            data[14] = (uint8_t)(0x80 | (config->discard_reads_zero ? 0x40 : 0));
        }
        scsi_cmd_reply(cmd, data, sizeof(data), length);
    }
}
