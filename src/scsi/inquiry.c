/*
 * inquiry.c -- INQUIRY: standard data (SPC-4 6.4.2) and vital product data pages (SPC-4 7.8, SBC-3
 * 6.5).
 *
 * A page is a row of a table: a builder that fills a buffer that is zero already and returns how
 * many bytes the page has; 0: this logical unit does not have it. Page 00h lists what the others
 * say.
 */
#include "scsi/lu_int.h"

enum {
    STANDARD_BYTES = 96,
    PAGE_BYTES_MAX = 256,
    PAGE_HEADER_BYTES = 4,
    NO_LOGICAL_UNIT = 0x7f, /* qualifier 011b, type 1Fh */
};

struct vpd_page {
    uint8_t code;
    ANY_SLOT size_t (*build)(const struct scsi_lu *lu, uint8_t *page);
};

/* ---- standard data ---- */

/* The standards we claim (SPC-4 table 145): of the age that the version byte says. */
static void put_version_descriptors(uint8_t scsi_version, uint8_t *to)
{
    if (scsi_version >= 6) {
        be16_store(to, 0x00a0);     /* SAM-5 */
        be16_store(to + 2, 0x0460); /* SPC-4 */
    } else {
        be16_store(to, 0x0060);     /* SAM-3 */
        be16_store(to + 2, 0x0300); /* SPC-3 */
    }
    be16_store(to + 4, 0x04c0); /* SBC-3: the pages B0h to B2h come from there */
}

static void put_standard_header(uint8_t *data, uint8_t first_byte, uint8_t scsi_version)
{
    data[0] = first_byte;
    data[2] = scsi_version;
    data[3] = 0x10 | 0x02;             /* HISUP: LUNs are hierarchical; response data format 2 */
    data[4] = STANDARD_BYTES - 5;      /* as it is, not as much of it as is asked for */
    data[7] = 0x02;                    /* CMDQUE */
}

static void reply_standard(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t length)
{
    uint8_t data[STANDARD_BYTES] = {0};
    const struct scsi_lu_config *config = &lu->config;

    put_standard_header(data, 0x00, config->scsi_version);
    data[1] = config->removable ? 0x80 : 0x00;
    scsi_put_text(data + 8, 8, config->vendor);
    scsi_put_text(data + 16, 16, config->product);
    scsi_put_text(data + 32, 4, config->version);
    put_version_descriptors(config->scsi_version, data + 58);
    scsi_cmd_reply(cmd, data, sizeof(data), length);
}

/* ---- vital product data ---- */

/* 80h, unit serial number (SPC-4 7.8.15). */
ANY_THREAD
static size_t build_serial(const struct scsi_lu *lu, uint8_t *page)
{
    size_t bytes = strlen(lu->config.serial);

    if (bytes == 0) {
        return 0;
    }
    memcpy(page + PAGE_HEADER_BYTES, lu->config.serial, bytes);
    return PAGE_HEADER_BYTES + bytes;
}

/* One designation descriptor (SPC-4 7.8.6.1) with @bytes of designator to follow. */
static uint8_t *put_designator(uint8_t *to, uint8_t code_set, uint8_t association_and_type,
                               size_t bytes)
{
    to[0] = code_set;
    to[1] = association_and_type;
    to[3] = (uint8_t)bytes;
    return to + 4;
}

/* T10 vendor id based (SPC-4 7.8.6.4): vendor, then product and serial number as it recommends.
 * Without any id of its own the disk must not claim one: a host would take two such disks for two
 * paths to one. */
static uint8_t *put_t10_designator(const struct scsi_lu_config *config, uint8_t *to)
{
    const char *id = config->device_id[0] != '\0' ? config->device_id : config->serial;
    size_t bytes = strlen(id);

    if (bytes == 0) {
        return to;
    }
    to = put_designator(to, 0x02, 0x01, 8 + 16 + bytes);
    scsi_put_text(to, 8, config->vendor);
    scsi_put_text(to + 8, 16, config->product);
    memcpy(to + 24, id, bytes);
    return to + 24 + bytes;
}

/* 83h, device identification (SPC-4 7.8.6). */
ANY_THREAD
static size_t build_identification(const struct scsi_lu *lu, uint8_t *page)
{
    const struct scsi_lu_config *config = &lu->config;
    uint8_t *to = put_t10_designator(config, page + PAGE_HEADER_BYTES);

    if (config->wwn != 0) { /* logical unit, NAA, binary */
        to = put_designator(to, 0x01, 0x03, 8);
        be64_store(to, config->wwn);
        to += 8;
    }
    if (config->port_wwn != 0) { /* target port, NAA; SAS, so that the identifier has a protocol */
        to = put_designator(to, 0x61, 0x80 | 0x10 | 0x03, 8);
        be64_store(to, config->port_wwn);
        to += 8;
    }
    if (config->port_index != 0) { /* target port, relative target port identifier */
        to = put_designator(to, 0x61, 0x80 | 0x10 | 0x04, 4);
        be16_store(to + 2, config->port_index);
        to += 4;
    }
    return (size_t)(to - page);
}

/* B0h, block limits (SBC-3 6.5.3). WSNZ is 0: WRITE SAME of 0 blocks goes to the end. */
ANY_THREAD
static size_t build_block_limits(const struct scsi_lu *lu, uint8_t *page)
{
    const struct scsi_lu_config *config = &lu->config;
    unsigned shift = lu->block_shift;

    be16_store(page + 6, (uint16_t)(config->min_io_bytes >> shift));
    be32_store(page + 8, lu->transfer_blocks_max);
    be32_store(page + 12, config->opt_io_bytes >> shift);
    if (config->thin) {
        be32_store(page + 20, lu->unmap_blocks_max);
        be32_store(page + 24, SCSI_UNMAP_DESCRIPTORS_MAX);
        be32_store(page + 28, config->discard_granularity_bytes >> shift);
    }
    be64_store(page + 36, lu->write_same_blocks_max);
    return 64;
}

/* B1h, block device characteristics (SBC-3 6.5.2). */
ANY_THREAD
static size_t build_characteristics(const struct scsi_lu *lu, uint8_t *page)
{
    be16_store(page + 4, lu->config.rotation_rate);
    return 64;
}

/* B2h, logical block provisioning (SBC-3 6.5.4): LBPU, LBPWS, LBPWS10, LBPRZ; thin provisioned. */
ANY_THREAD
static size_t build_provisioning(const struct scsi_lu *lu, uint8_t *page)
{
    if (lu->config.thin) {
        page[5] = 0x80 | 0x40 | 0x20 | (lu->config.discard_reads_zero ? 0x04 : 0);
        page[6] = 0x02;
    }
    return 8;
}

static const struct vpd_page pages[] = {
    {0x80, build_serial},
    {0x83, build_identification},
    {0xb0, build_block_limits},
    {0xb1, build_characteristics},
    {0xb2, build_provisioning},
};

/* 00h, supported VPD pages (SPC-4 7.8.17): itself, then the table, which is in ascending order. */
static size_t list_supported_pages(const struct scsi_lu *lu, uint8_t *page)
{
    size_t bytes = PAGE_HEADER_BYTES;
    uint8_t scratch[PAGE_BYTES_MAX];

    page[bytes++] = 0x00;
    for (size_t i = 0; i < countof(pages); i++) {
        if (pages[i].build(lu, scratch) != 0) {
            page[bytes++] = pages[i].code;
        }
    }
    return bytes;
}

static void reply_page(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t length)
{
    uint8_t page[PAGE_BYTES_MAX] = {0};
    size_t bytes = cmd->cdb[2] == 0x00 ? list_supported_pages(lu, page) : 0;

    for (size_t i = 0; i < countof(pages) && bytes == 0; i++) {
        if (pages[i].code == cmd->cdb[2]) {
            bytes = pages[i].build(lu, page);
        }
    }
    if (bytes == 0) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return;
    }
    page[1] = cmd->cdb[2]; /* page[0]: connected, direct access */
    be16_store(page + 2, (uint16_t)(bytes - PAGE_HEADER_BYTES));
    scsi_cmd_reply(cmd, page, bytes, length);
}

void scsi_co_inquiry(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    if ((cmd->cdb[1] & 0x01) != 0) { /* EVPD */
        reply_page(port->lu, cmd, length);
    } else if (cmd->cdb[2] != 0) { /* a page code without EVPD */
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
    } else {
        reply_standard(port->lu, cmd, length);
    }
}

void scsi_inquiry_of_target(struct scsi_cmd *cmd, uint8_t first_byte, uint32_t length)
{
    uint8_t data[STANDARD_BYTES] = {0};

    if (cmd->cdb[2] != 0) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
    } else if ((cmd->cdb[1] & 0x01) != 0) {
        const uint8_t only_page_00[] = {first_byte, 0x00, 0x00, 0x01, 0x00};

        scsi_cmd_reply(cmd, only_page_00, sizeof(only_page_00), length);
    } else {
        put_standard_header(data, first_byte, 6);
        scsi_put_text(data + 8, 8, "CAISSON");
        scsi_put_text(data + 16, 16,
                      first_byte == NO_LOGICAL_UNIT ? "NO LOGICAL UNIT" : "REPORT LUNS");
        scsi_put_text(data + 32, 4, "1");
        put_version_descriptors(6, data + 58);
        scsi_cmd_reply(cmd, data, sizeof(data), length);
    }
}
