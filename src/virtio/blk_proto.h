/*
 * blk_proto.h -- what lies in guest memory and config space of a block device (virtio 1.3, 5.2).
 * All fields little-endian; read and written with base/bytes.h.
 */
#pragma once
#include "base/macros.h"

enum { VIRTIO_BLK_SECTOR_BYTES = 512, VIRTIO_BLK_ID_BYTES = 20 };

enum virtio_blk_feature { /* 5.2.3, bit numbers */
    VIRTIO_BLK_F_SIZE_MAX = 1,
    VIRTIO_BLK_F_SEG_MAX = 2,
    VIRTIO_BLK_F_GEOMETRY = 4,
    VIRTIO_BLK_F_RO = 5,
    VIRTIO_BLK_F_BLK_SIZE = 6,
    VIRTIO_BLK_F_FLUSH = 9,
    VIRTIO_BLK_F_TOPOLOGY = 10,
    VIRTIO_BLK_F_CONFIG_WCE = 11,
    VIRTIO_BLK_F_MQ = 12,
    VIRTIO_BLK_F_DISCARD = 13,
    VIRTIO_BLK_F_WRITE_ZEROES = 14,
};

struct virtio_blk_config { /* 5.2.4 */
    uint64_t capacity; /* in sectors of 512 bytes, whatever blk_size says */
    uint32_t size_max;
    uint32_t seg_max;
    struct {
        uint16_t cylinders;
        uint8_t heads;
        uint8_t sectors;
    } geometry;
    uint32_t blk_size;
    struct {
        uint8_t physical_block_exp;
        uint8_t alignment_offset;
        uint16_t min_io_size;
        uint32_t opt_io_size;
    } topology;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
} __attribute__((packed)); /* else its size would be rounded up to 64 */
static_assert(offsetof(struct virtio_blk_config, seg_max) == 12, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, geometry) == 16, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, blk_size) == 20, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, topology) == 24, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, writeback) == 32, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, num_queues) == 34, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, max_discard_sectors) == 36, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, write_zeroes_may_unmap) == 56, "5.2.4");
static_assert(sizeof(struct virtio_blk_config) == 60, "5.2.4");

enum virtio_blk_type { /* 5.2.6 */
    VIRTIO_BLK_T_IN = 0,
    VIRTIO_BLK_T_OUT = 1,
    VIRTIO_BLK_T_FLUSH = 4,
    VIRTIO_BLK_T_GET_ID = 8,
    VIRTIO_BLK_T_DISCARD = 11,
    VIRTIO_BLK_T_WRITE_ZEROES = 13,
};

struct virtio_blk_req { /* the readable head; data and one status byte follow */
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};
static_assert(offsetof(struct virtio_blk_req, sector) == 8, "5.2.6");
static_assert(sizeof(struct virtio_blk_req) == 16, "5.2.6");

enum virtio_blk_status {
    VIRTIO_BLK_S_OK = 0,
    VIRTIO_BLK_S_IOERR = 1,
    VIRTIO_BLK_S_UNSUPP = 2,
};
