/*
 * bench_scsi.c -- the load of a vhost-user-scsi back end: find a disk as an initiator does, then
 * READ and WRITE it. (SAM-5, SPC-4, SBC-3; virtio 1.3, 5.6.)
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/bench_int.h"
#include "virtio/scsi_proto.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
    OP_TEST_UNIT_READY = 0x00,
    OP_INQUIRY = 0x12,
    OP_READ_10 = 0x28,
    OP_WRITE_10 = 0x2a,
    OP_READ_16 = 0x88,
    OP_WRITE_16 = 0x8a,
    OP_READ_CAPACITY_16 = 0x9e, /* SERVICE ACTION IN(16), action 10h */
    OP_REPORT_LUNS = 0xa0,
};
enum { STATUS_GOOD = 0, STATUS_CHECK_CONDITION = 2, STATUS_BUSY = 8, SENSE_UNIT_ATTENTION = 6 };
enum { ATTENTIONS_MAX = 16, LUNS_SHOWN_MAX = 12 };

struct command {
    int target, lun;
    const char *name;
    uint8_t cdb[16];
    uint32_t in_bytes; /* of data */
};

static void set_lun_field(uint8_t field[8], int target, int lun)
{
    memset(field, 0, 8);
    field[0] = 1; /* 5.6.6.1: the only format */
    field[1] = (uint8_t)target;
    field[2] = (uint8_t)(0x40 | lun >> 8); /* flat space addressing */
    field[3] = (uint8_t)lun;
}

static void fill_request(struct bench_slot *slot, const uint8_t lun_field[8], const uint8_t *cdb)
{
    struct virtio_scsi_cmd_req *req = (struct virtio_scsi_cmd_req *)(void *)slot->out;

    memset(req, 0, sizeof(*req));
    memcpy(req->lun, lun_field, sizeof(req->lun));
    le64_store(req->id, slot->head);
    memcpy(req->cdb, cdb, 16);
}

/* ---- answers ------------------------------------------------------------------------------- */

static const char *response_name(unsigned response)
{
    static const char *const names[] = {
        "OK", "OVERRUN", "ABORTED", "BAD_TARGET", "RESET", "BUSY", "TRANSPORT_FAILURE",
        "TARGET_FAILURE", "NEXUS_FAILURE", "FAILURE", "FUNCTION_SUCCEEDED", "FUNCTION_REJECTED",
        "INCORRECT_LUN",
    };
    return response < countof(names) ? names[response] : "an unknown response";
}

static unsigned sense_key(const struct virtio_scsi_cmd_resp *resp)
{
    bool is_descriptor = (resp->sense[0] & 0x7f) >= 0x72;

    return resp->sense[is_descriptor ? 1 : 2] & 0x0f;
}

static int explain(const struct virtio_scsi_cmd_resp *resp, const char *what, struct err **reterr)
{
    bool is_descriptor = (resp->sense[0] & 0x7f) >= 0x72;
    unsigned asc = resp->sense[is_descriptor ? 2 : 12], ascq = resp->sense[is_descriptor ? 3 : 13];

    if (resp->response != VIRTIO_SCSI_S_OK) {
        return err_set(reterr, EIO, "%s was answered %s", what, response_name(resp->response));
    }
    if (resp->status != STATUS_CHECK_CONDITION) {
        return err_set(reterr, EIO, "%s ended with status %02xh%s", what, resp->status,
                       resp->status == STATUS_BUSY ? " (BUSY)" : "");
    }
    return err_set(reterr, EIO, "%s failed: sense key %xh, asc %02xh, ascq %02xh", what,
                   sense_key(resp), asc, ascq);
}

ANY_THREAD
static int scsi_result(const struct bench_slot *slot, struct err **reterr)
{
    const struct virtio_scsi_cmd_resp *resp = (const void *)slot->in;

    if (likely(resp->response == VIRTIO_SCSI_S_OK && resp->status == STATUS_GOOD &&
               le32_load(&resp->residual) == 0)) {
        return 0;
    }
    if (resp->response == VIRTIO_SCSI_S_OK && resp->status == STATUS_GOOD) {
        return err_set(reterr, EIO, "%s moved too little: residual of %" PRIu32 " bytes",
                       slot->is_write ? "a WRITE" : "a READ", le32_load(&resp->residual));
    }
    return explain(resp, slot->is_write ? "a WRITE" : "a READ", reterr);
}

/* ---- the load ------------------------------------------------------------------------------ */

ANY_THREAD
static void scsi_build(struct bench *bench, struct bench_slot *slot, uint64_t offset,
                       uint32_t bytes)
{
    uint64_t lba = offset / bench->unit_bytes;
    uint32_t blocks = bytes / bench->unit_bytes;
    uint8_t cdb[16] = {0};

    if (lba <= UINT32_MAX && blocks <= UINT16_MAX) { /* as Linux chooses */
        cdb[0] = slot->is_write ? OP_WRITE_10 : OP_READ_10;
        be32_store(cdb + 2, (uint32_t)lba);
        be16_store(cdb + 7, (uint16_t)blocks);
    } else {
        cdb[0] = slot->is_write ? OP_WRITE_16 : OP_READ_16;
        be64_store(cdb + 2, lba);
        be32_store(cdb + 10, blocks);
    }
    fill_request(slot, bench->lun_field, cdb);
    bench_slot_build(slot, sizeof(struct virtio_scsi_cmd_req), sizeof(struct virtio_scsi_cmd_resp),
                     slot->is_write ? BENCH_DATA_OUT : BENCH_DATA_IN_AFTER, bytes);
}

/* ---- discovery ----------------------------------------------------------------------------- */

/* -ENODEV: no such target. Unit attentions are taken and the command repeated. */
BLOCKING
static int run_command(struct bench *bench, const struct command *command, struct err **reterr)
{
    struct bench_slot *slot = &bench->queues[0].slots[0];
    const struct virtio_scsi_cmd_resp *resp = (const void *)slot->in;
    uint8_t lun_field[8];

    set_lun_field(lun_field, command->target, command->lun);
    for (int attempt = 0; attempt < ATTENTIONS_MAX; attempt++) {
        uint32_t written;
        int rc;

        memset(slot->in, 0, sizeof(*resp));
        memset(slot->data, 0, BENCH_SYNC_BYTES);
        fill_request(slot, lun_field, command->cdb);
        bench_slot_build(slot, sizeof(struct virtio_scsi_cmd_req), sizeof(*resp),
                         BENCH_DATA_IN_AFTER, command->in_bytes);
        rc = bench_session_do(bench, &written, reterr);
        if (rc < 0) {
            return rc;
        }
        if (resp->response == VIRTIO_SCSI_S_BAD_TARGET) {
            return -ENODEV;
        }
        if (resp->response == VIRTIO_SCSI_S_OK && resp->status == STATUS_GOOD) {
            return 0;
        }
        if (resp->response != VIRTIO_SCSI_S_OK || resp->status != STATUS_CHECK_CONDITION ||
            sense_key(resp) != SENSE_UNIT_ATTENTION) {
            break;
        }
    }
    (void)explain(resp, command->name, reterr);
    err_prepend(reterr, "target %d lun %d: ", command->target, command->lun);
    return -EIO;
}

BLOCKING
static int report_luns(struct bench *bench, int target, struct err **reterr)
{
    struct command command = {.target = target, .name = "REPORT LUNS",
                              .in_bytes = BENCH_SYNC_BYTES};

    command.cdb[0] = OP_REPORT_LUNS;
    be32_store(command.cdb + 6, BENCH_SYNC_BYTES);
    return run_command(bench, &command, reterr);
}

/* The @i-th LUN of the report in the data of slot 0; -1: there are no more. */
static int reported_lun(const struct bench *bench, uint32_t i)
{
    const uint8_t *data = bench->queues[0].slots[0].data;
    uint32_t count = min_of(be32_load(data), (uint32_t)BENCH_SYNC_BYTES - 8) / 8;
    const uint8_t *field = data + 8 + 8 * (size_t)i;

    return i < count ? (field[0] & 0x3f) << 8 | field[1] : -1;
}

/* Without the blanks at the end. */
static int text_bytes(const uint8_t *text, int bytes)
{
    while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\0')) {
        bytes--;
    }
    return bytes;
}

/* Is it a disk, and which? */
BLOCKING
static int inquire(struct bench *bench, int target, int lun, bool *ret_is_disk,
                   struct err **reterr)
{
    const uint8_t *data = bench->queues[0].slots[0].data;
    struct command command = {.target = target, .lun = lun, .name = "INQUIRY", .in_bytes = 36};
    int rc;

    command.cdb[0] = OP_INQUIRY;
    command.cdb[4] = 36;
    rc = run_command(bench, &command, reterr);
    if (rc < 0) {
        return rc;
    }
    *ret_is_disk = data[0] == 0; /* peripheral qualifier 0, direct access */
    mem_free(bench->description);
    bench->description = str_format("target %d lun %d, %.*s %.*s", target, lun,
                                    text_bytes(data + 8, 8), (const char *)data + 8,
                                    text_bytes(data + 16, 16), (const char *)data + 16);
    return 0;
}

BLOCKING
static int find_first_disk(struct bench *bench, int *ret_target, int *ret_lun,
                           struct err **reterr)
{
    for (int target = 0; target < VIRTIO_SCSI_TARGETS_MAX; target++) {
        int rc = report_luns(bench, target, reterr);
        int luns[LUNS_SHOWN_MAX], count = 0;

        if (rc == -ENODEV) {
            continue;
        }
        for (int lun; rc == 0 && count < LUNS_SHOWN_MAX &&
                      (lun = reported_lun(bench, (uint32_t)count)) >= 0;) {
            luns[count++] = lun;
        }
        for (int i = 0; i < count && rc == 0; i++) {
            bool is_disk = false;

            rc = inquire(bench, target, luns[i], &is_disk, reterr);
            if (rc == 0 && is_disk) {
                *ret_target = target;
                *ret_lun = luns[i];
                return 0;
            }
        }
        if (rc < 0) {
            return rc;
        }
    }
    return err_set(reterr, ENODEV, "no target has a disk: plug one in, or name it with --lun");
}

BLOCKING
static int find_named(struct bench *bench, struct err **reterr)
{
    int target = bench->options.target, lun = bench->options.lun_number, seen;
    int rc = report_luns(bench, target, reterr);
    struct strbuf there = {0};
    bool is_disk = false;

    if (rc == -ENODEV) {
        return err_set(reterr, ENODEV, "--lun %d:%d: there is no target %d", target, lun, target);
    }
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; (seen = reported_lun(bench, i)) >= 0 && seen != lun; i++) {
        strbuf_addf(&there, "%s%d", i == 0 ? "" : ", ", seen);
    }
    if (seen < 0) {
        rc = err_set(reterr, ENODEV, "--lun %d:%d: target %d has no such LUN; it has: %s", target,
                     lun, target, there.bytes == 0 ? "none" : there.text);
    }
    strbuf_fini(&there);
    if (rc == 0) {
        rc = inquire(bench, target, lun, &is_disk, reterr);
    }
    if (rc == 0 && !is_disk) {
        rc = err_set(reterr, ENODEV, "--lun %d:%d is not a disk", target, lun);
    }
    return rc;
}

BLOCKING
static int read_capacity(struct bench *bench, int target, int lun, struct err **reterr)
{
    const uint8_t *data = bench->queues[0].slots[0].data;
    struct command ready = {.target = target, .lun = lun, .name = "TEST UNIT READY"};
    struct command capacity = {.target = target, .lun = lun, .name = "READ CAPACITY(16)",
                               .in_bytes = 32};
    uint64_t blocks;
    int rc = run_command(bench, &ready, reterr);

    capacity.cdb[0] = OP_READ_CAPACITY_16;
    capacity.cdb[1] = 0x10;
    be32_store(capacity.cdb + 10, 32);
    if (rc == 0) {
        rc = run_command(bench, &capacity, reterr);
    }
    if (rc < 0) {
        return rc;
    }
    blocks = be64_load(data) + 1;
    bench->unit_bytes = be32_load(data + 8);
    if (bench->unit_bytes == 0 ||
        mul_overflows(blocks, bench->unit_bytes, &bench->capacity_bytes)) {
        return err_set(reterr, EPROTO, "target %d lun %d: READ CAPACITY(16) says %" PRIu64
                       " blocks of %" PRIu32 " bytes", target, lun, blocks, bench->unit_bytes);
    }
    return 0;
}

BLOCKING
static int scsi_discover(struct bench *bench, struct err **reterr)
{
    int target = bench->options.target, lun = bench->options.lun_number;
    int rc = lun < 0 ? find_first_disk(bench, &target, &lun, reterr) : find_named(bench, reterr);

    if (rc == 0) {
        rc = read_capacity(bench, target, lun, reterr);
    }
    set_lun_field(bench->lun_field, target, max_of(lun, 0));
    return rc == -ENODEV && reterr != NULL && *reterr == NULL
               ? err_set(reterr, ENODEV, "target %d has gone", target)
               : rc;
}

const struct bench_target bench_scsi = {
    .name = "vhost-user-scsi",
    .features = UINT64_C(1) << VIRTIO_SCSI_F_HOTPLUG | UINT64_C(1) << VIRTIO_SCSI_F_CHANGE,
    .other_queues = VIRTIO_SCSI_REQUEST_QUEUE_FIRST,
    .discover = scsi_discover,
    .build = scsi_build,
    .result = scsi_result,
};
