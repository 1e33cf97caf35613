/*
 * lu.c -- logical units and ports: what they are made of, and the unit attentions of a port.
 *
 * (U1) A pending unit attention is one bit of port->ua. Raising is an atomic or; taking is an
 *      atomic and-not, and only who saw its bit set in the old value has it. So of two commands
 *      that look at once one reports it, and one raised while another is taken is not lost.
 */
#include "scsi/lu_int.h"
#include "base/mem.h"
#include "sync/atomic.h"
#include <errno.h>

enum { PHYSICAL_EXPONENT_MAX = 15 }; /* READ CAPACITY(16) has four bits for it */

static int check_blocks(const struct scsi_lu_config *config, struct err **reterr)
{
    uint32_t logical = config->logical_block_bytes, physical = config->physical_block_bytes;

    if (!is_power_of_two(logical) || logical < 512 || logical > SCSI_BLOCK_BYTES_MAX) {
        return err_set(reterr, EINVAL,
                       "logical_block_size %u is not a power of two between 512 and 2097152",
                       logical);
    }
    if (!is_power_of_two(physical) || physical < 512 || physical > SCSI_BLOCK_BYTES_MAX) {
        return err_set(reterr, EINVAL,
                       "physical_block_size %u is not a power of two between 512 and 2097152",
                       physical);
    }
    if (physical < logical) {
        return err_set(reterr, EINVAL,
                       "logical_block_size %u is larger than physical_block_size %u", logical,
                       physical);
    }
    return 0;
}

/* @value must be whole blocks, and not more of them than the field of @blocks_max takes. */
static int check_multiple(const char *name, uint64_t value, uint32_t block, uint64_t blocks_max,
                          struct err **reterr)
{
    if (value % block != 0) {
        return err_set(reterr, EINVAL, "%s %llu is not a multiple of logical_block_size %u", name,
                       (unsigned long long)value, block);
    }
    if (value / block > blocks_max) {
        return err_set(reterr, EINVAL, "%s %llu is too large: at most %llu blocks of %u", name,
                       (unsigned long long)value, (unsigned long long)blocks_max, block);
    }
    return 0;
}

static int check_limits(const struct scsi_lu_config *config, struct err **reterr)
{
    uint32_t block = config->logical_block_bytes;
    int rc;

    if ((rc = check_multiple("min_io_size", config->min_io_bytes, block, UINT16_MAX, reterr)) < 0 ||
        (rc = check_multiple("opt_io_size", config->opt_io_bytes, block, UINT32_MAX, reterr)) < 0 ||
        (rc = check_multiple("discard_granularity", config->discard_granularity_bytes, block,
                             UINT32_MAX, reterr)) < 0) {
        return rc;
    }
    if (config->max_io_bytes != 0 && config->max_io_bytes < block) {
        return err_set(reterr, EINVAL, "max_io_size is smaller than logical_block_size %u", block);
    }
    if (config->max_unmap_bytes != 0 && config->max_unmap_bytes < block) {
        return err_set(reterr, EINVAL, "max_unmap_size is smaller than logical_block_size %u",
                       block);
    }
    if (config->scsi_version != 0 && (config->scsi_version < 3 || config->scsi_version > 7)) {
        return err_set(reterr, EINVAL, "scsi_version %u is not between 3 and 7",
                       config->scsi_version);
    }
    return 0;
}

static void set_limits(struct scsi_lu *lu)
{
    const struct scsi_lu_config *config = &lu->config;
    uint64_t transfer, unmap;

    lu->block_shift = (unsigned)__builtin_ctz(config->logical_block_bytes);
    transfer = config->max_io_bytes >> lu->block_shift;
    unmap = config->max_unmap_bytes >> lu->block_shift;
    lu->transfer_blocks_max = transfer > UINT32_MAX ? 0 : (uint32_t)transfer;
    lu->unmap_blocks_max = unmap == 0 || unmap > UINT32_MAX ? UINT32_MAX : (uint32_t)unmap;
    lu->write_same_blocks_max = unmap;
}

int scsi_lu_new(const struct scsi_lu_config *config, const struct scsi_medium_ops *ops,
                void *medium, struct scsi_lu **ret_lu, struct err **reterr)
{
    struct scsi_lu *lu;
    int rc;

    rc = check_blocks(config, reterr);
    if (rc == 0) {
        rc = check_limits(config, reterr);
    }
    if (rc < 0) {
        return rc;
    }
    lu = mem_new(struct scsi_lu);
    lu->config = *config;
    lu->ops = ops;
    lu->medium = medium;
    if (lu->config.scsi_version == 0) {
        lu->config.scsi_version = 5;
    }
    if (lu->config.discard_granularity_bytes == 0) {
        lu->config.discard_granularity_bytes = config->physical_block_bytes;
    }
    set_limits(lu);
    *ret_lu = lu;
    return 0;
}

void scsi_lu_free(struct scsi_lu *lu)
{
    assert(lu == NULL || lu->port_count == 0);
    mem_free(lu);
}

uint64_t scsi_lu_blocks(const struct scsi_lu *lu)
{
    return lu->ops->bytes(lu->medium) >> lu->block_shift;
}

bool scsi_lu_resolve(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint64_t lba, uint64_t blocks,
                     uint64_t *ret_offset, uint64_t *ret_bytes)
{
    if (unlikely(!range_is_inside(lba, blocks, scsi_lu_blocks(lu)))) {
        scsi_cmd_fail(cmd, SCSI_LBA_OUT_OF_RANGE);
        return false;
    }
    *ret_offset = lba << lu->block_shift; /* both fit: the medium's bytes are a uint64_t */
    *ret_bytes = blocks << lu->block_shift;
    return true;
}

struct scsi_port *scsi_port_new(struct scsi_lu *lu, uint8_t target, uint16_t lun)
{
    struct scsi_port *port = mem_new(struct scsi_port);

    port->lu = lu;
    port->target = target;
    port->lun = lun;
    lu->port_count++;
    scsi_port_raise_ua(port, SCSI_UA_POWER_ON);
    return port;
}

void scsi_port_free(struct scsi_port *port)
{
    if (port != NULL) {
        assert(port->lu->port_count > 0);
        port->lu->port_count--;
        mem_free(port);
    }
}

struct scsi_lu *scsi_port_lu(const struct scsi_port *port)
{
    return port->lu;
}

/* ---- unit attentions ---- */

static const struct scsi_sense ua_sense[SCSI_UA_MAX_] = {
    [SCSI_UA_POWER_ON] = {0x6, 0x29, 0x00},
    [SCSI_UA_BUS_DEVICE_RESET] = {0x6, 0x29, 0x03},
    [SCSI_UA_NEXUS_LOSS] = {0x6, 0x29, 0x07},
    [SCSI_UA_COMMANDS_CLEARED] = {0x6, 0x2f, 0x00},
    [SCSI_UA_REPORTED_LUNS_CHANGED] = {0x6, 0x3f, 0x0e},
    [SCSI_UA_CAPACITY_CHANGED] = {0x6, 0x2a, 0x09},
    [SCSI_UA_MODE_PARAMETERS_CHANGED] = {0x6, 0x2a, 0x01},
};
static_assert(SCSI_UA_MAX_ <= 32, "port->ua is a word of bits");

void scsi_port_raise_ua(struct scsi_port *port, enum scsi_ua ua)
{
    at_or(&port->ua, 1u << ua);
}

void scsi_port_clear_ua(struct scsi_port *port, enum scsi_ua ua)
{
    if ((at_load(&port->ua) & 1u << ua) != 0) { /* mostly not: then the line stays clean */
        at_and(&port->ua, ~(1u << ua));
    }
}

bool scsi_port_peek_ua(struct scsi_port *port, struct scsi_sense *ret_sense)
{
    uint32_t pending = at_load(&port->ua);

    if (likely(pending == 0)) {
        return false;
    }
    *ret_sense = ua_sense[__builtin_ctz(pending)];
    return true;
}

bool scsi_port_take_ua(struct scsi_port *port, struct scsi_sense *ret_sense)
{
    uint32_t pending;

    while (unlikely((pending = at_load(&port->ua)) != 0)) {
        unsigned ua = (unsigned)__builtin_ctz(pending);

        if ((at_and(&port->ua, ~(1u << ua)) & 1u << ua) != 0) { /* (U1): I cleared it */
            *ret_sense = ua_sense[ua];
            return true;
        }
    }
    return false;
}
