/*
 * bench_blk.c -- the load of a vhost-user-blk back end (virtio 1.3, 5.2).
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/bench_int.h"
#include "virtio/blk_proto.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

ANY_THREAD
static void blk_build(struct bench *bench, struct bench_slot *slot, uint64_t offset,
                      uint32_t bytes)
{
    struct virtio_blk_req *req = (struct virtio_blk_req *)(void *)slot->out;

    (void)bench;
    le32_store(&req->type, slot->is_write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
    le32_store(&req->reserved, 0);
    le64_store(&req->sector, offset / VIRTIO_BLK_SECTOR_BYTES);
    slot->in[0] = 0xff; /* not a status */
    bench_slot_build(slot, sizeof(*req), 1,
                     slot->is_write ? BENCH_DATA_OUT : BENCH_DATA_IN_BEFORE, bytes);
}

ANY_THREAD
static int blk_result(const struct bench_slot *slot, struct err **reterr)
{
    if (likely(slot->in[0] == VIRTIO_BLK_S_OK)) {
        return 0;
    }
    return err_set(reterr, EIO, "a %s was answered with status %u%s",
                   slot->is_write ? "write" : "read", slot->in[0],
                   slot->in[0] == VIRTIO_BLK_S_IOERR    ? " (IOERR)"
                   : slot->in[0] == VIRTIO_BLK_S_UNSUPP ? " (UNSUPP)"
                                                        : "");
}

BLOCKING
static int blk_discover(struct bench *bench, struct err **reterr)
{
    enum { CONFIG_BYTES = offsetof(struct virtio_blk_config, writeback) };
    uint8_t raw[CONFIG_BYTES];
    uint64_t sectors;
    int rc = vu_front_get_config(bench->front, 0, CONFIG_BYTES, raw, reterr);

    if (rc < 0) {
        return rc;
    }
    sectors = le64_load(raw + offsetof(struct virtio_blk_config, capacity));
    if (mul_overflows(sectors, (uint64_t)VIRTIO_BLK_SECTOR_BYTES, &bench->capacity_bytes)) {
        return err_set(reterr, EPROTO, "the device says it has %" PRIu64 " sectors", sectors);
    }
    bench->unit_bytes = VIRTIO_BLK_SECTOR_BYTES;
    if ((bench->features >> VIRTIO_BLK_F_BLK_SIZE & 1) != 0) {
        bench->unit_bytes = max_of(le32_load(raw + offsetof(struct virtio_blk_config, blk_size)),
                                   (uint32_t)VIRTIO_BLK_SECTOR_BYTES);
    }
    bench->is_read_only = (bench->features >> VIRTIO_BLK_F_RO & 1) != 0;
    bench->description = str_format("block device%s", bench->is_read_only ? ", read-only" : "");
    return 0;
}

const struct bench_target bench_blk = {
    .name = "vhost-user-blk",
    .features = UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX | UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE |
                UINT64_C(1) << VIRTIO_BLK_F_RO | UINT64_C(1) << VIRTIO_BLK_F_FLUSH |
                UINT64_C(1) << VIRTIO_BLK_F_MQ,
    .discover = blk_discover,
    .build = blk_build,
    .result = blk_result,
};
