/*
 * mode.c -- MODE SENSE(6) and (10): header, block descriptor, pages (SPC-4 6.11, 7.5; SBC-3 6.4).
 *
 * Nothing can be changed (there is no MODE SELECT), so the changeable values are pages of zeroes
 * and the default values are the current ones.
 */
#include "scsi/lu_int.h"

enum page_control { PC_CURRENT, PC_CHANGEABLE, PC_DEFAULT, PC_SAVED };
enum {
    ALL_PAGES = 0x3f,
    ALL_SUBPAGES = 0xff,
    MODE_BYTES_MAX = 128, /* header 8, descriptor 16, pages 12 + 20 + 12 */
};

struct mode_page {
    uint8_t code;
    uint8_t bytes; /* with the two of its header */
    ANY_SLOT void (*fill)(const struct scsi_lu *lu, uint8_t *page);
};

/* 01h, read-write error recovery (SBC-3 6.4.8): AWRE, what stores our blocks looks after them. */
ANY_THREAD
static void fill_error_recovery(const struct scsi_lu *lu, uint8_t *page)
{
    page[2] = 0x80;
}

/* 08h, caching (SBC-3 6.4.5): WCE. */
ANY_THREAD
static void fill_caching(const struct scsi_lu *lu, uint8_t *page)
{
    page[2] = lu->config.write_cache ? 0x04 : 0x00;
}

/* 0Ah, control (SPC-4 7.5.8): TST 001b, a task set for each nexus; GLTSD, no log is ever saved;
 * queue algorithm modifier 1, commands are executed in any order. */
ANY_THREAD
static void fill_control(const struct scsi_lu *lu, uint8_t *page)
{
    page[2] = 0x20 | 0x02;
    page[3] = 0x10;
}

static const struct mode_page pages[] = { /* ascending: so SPC-4 6.11.1 wants them */
    {0x01, 12, fill_error_recovery},
    {0x08, 20, fill_caching},
    {0x0a, 12, fill_control},
};

struct mode_request { /* a MODE SENSE CDB as values */
    bool ten, long_lba, no_descriptors;
    enum page_control control;
    uint8_t page, subpage;
};

static struct mode_request parse(const uint8_t *cdb)
{
    return (struct mode_request){
        .ten = cdb[0] == 0x5a,
        .long_lba = (cdb[1] & 0x10) != 0,
        .no_descriptors = (cdb[1] & 0x08) != 0,
        .control = (enum page_control)(cdb[2] >> 6),
        .page = cdb[2] & 0x3f,
        .subpage = cdb[3],
    };
}

/* The block descriptor, short or long LBA (SBC-3 6.4.2); its bytes. */
static size_t put_descriptor(const struct scsi_lu *lu, bool long_lba, uint8_t *to)
{
    uint64_t blocks = scsi_lu_blocks(lu);

    if (long_lba) {
        be64_store(to, blocks);
        be32_store(to + 12, lu->config.logical_block_bytes);
        return 16;
    }
    be32_store(to, (uint32_t)min_of(blocks, (uint64_t)UINT32_MAX));
    be24_store(to + 5, lu->config.logical_block_bytes);
    return 8;
}

/* The pages asked for; their bytes, 0 when there are none: not supported. */
static size_t put_pages(const struct scsi_lu *lu, const struct mode_request *request, uint8_t *to)
{
    size_t bytes = 0;

    if (request->subpage != 0 && request->subpage != ALL_SUBPAGES) {
        return 0; /* no page has subpages: all of them is page_0 format alone */
    }
    for (size_t i = 0; i < countof(pages); i++) {
        const struct mode_page *page = &pages[i];

        if (request->page != ALL_PAGES && request->page != page->code) {
            continue;
        }
        to[bytes] = page->code; /* PS is 0: nothing is saved */
        to[bytes + 1] = (uint8_t)(page->bytes - 2);
        if (request->control != PC_CHANGEABLE) {
            page->fill(lu, to + bytes);
        }
        bytes += page->bytes;
    }
    return bytes;
}

static uint8_t device_specific_parameter(const struct scsi_lu *lu)
{
    return (uint8_t)((lu->config.read_only ? 0x80 : 0) | (lu->config.dpofua ? 0x10 : 0));
}

static void put_header(const struct scsi_lu *lu, const struct mode_request *request,
                       size_t descriptor_bytes, size_t total_bytes, uint8_t *to)
{
    if (request->ten) {
        be16_store(to, (uint16_t)(total_bytes - 2));
        to[3] = device_specific_parameter(lu);
        to[4] = request->long_lba && descriptor_bytes != 0 ? 0x01 : 0x00; /* LONGLBA */
        be16_store(to + 6, (uint16_t)descriptor_bytes);
    } else {
        to[0] = (uint8_t)(total_bytes - 1);
        to[2] = device_specific_parameter(lu);
        to[3] = (uint8_t)descriptor_bytes;
    }
}

static void mode_sense(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t length)
{
    struct mode_request request = parse(cmd->cdb);
    uint8_t data[MODE_BYTES_MAX] = {0};
    size_t header_bytes = request.ten ? 8 : 4, descriptor_bytes = 0, page_bytes;

    if (request.control == PC_SAVED) {
        scsi_cmd_fail(cmd, SCSI_SAVING_NOT_SUPPORTED);
        return;
    }
    if (!request.no_descriptors) {
        descriptor_bytes = put_descriptor(lu, request.long_lba, data + header_bytes);
    }
    page_bytes = put_pages(lu, &request, data + header_bytes + descriptor_bytes);
    if (page_bytes == 0) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return;
    }
    put_header(lu, &request, descriptor_bytes, header_bytes + descriptor_bytes + page_bytes, data);
    scsi_cmd_reply(cmd, data, header_bytes + descriptor_bytes + page_bytes, length);
}

void scsi_co_mode_sense_6(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    mode_sense(port->lu, cmd, length);
}

void scsi_co_mode_sense_10(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)
{
    mode_sense(port->lu, cmd, length);
}
