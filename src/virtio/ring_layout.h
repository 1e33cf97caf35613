/*
 * ring_layout.h -- a split virtqueue as it lies in memory (virtio 1.3, 2.7): the device side
 * (virtq_split.c) and the driver side (ring_driver.c) read and write the same bytes. Little-endian.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

enum ring_desc_flags { RING_DESC_F_NEXT = 1, RING_DESC_F_WRITE = 2, RING_DESC_F_INDIRECT = 4 };
enum { RING_USED_F_NO_NOTIFY = 1, RING_AVAIL_F_NO_INTERRUPT = 1 };

struct ring_desc { /* 2.7.5 */
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};
static_assert(sizeof(struct ring_desc) == 16, "2.7.5");

struct ring_avail { /* 2.7.6; used_event is ring[size] */
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[];
};

struct ring_used_elem {
    uint32_t id;
    uint32_t len;
};
struct ring_used { /* 2.7.8; avail_event follows ring[size - 1] */
    uint16_t flags;
    uint16_t idx;
    struct ring_used_elem ring[];
};
static_assert(offsetof(struct ring_used, ring) == 4, "2.7.8");

CTX_ANY_BEGIN

/* 2.7: bytes of each part for a ring of @size descriptors, event indices included. */
static inline uint64_t ring_desc_bytes(uint16_t size)
{
    return (uint64_t)size * sizeof(struct ring_desc);
}
static inline uint64_t ring_avail_bytes(uint16_t size)
{
    return 6 + 2 * (uint64_t)size;
}
static inline uint64_t ring_used_bytes(uint16_t size)
{
    return 6 + 8 * (uint64_t)size;
}

static inline uint16_t *ring_used_event(struct ring_avail *avail, uint16_t size)
{
    return &avail->ring[size];
}
static inline uint16_t *ring_avail_event(struct ring_used *used, uint16_t size)
{
    return (uint16_t *)(void *)&used->ring[size];
}

/* 2.7.7, 2.7.10: has the index passed @event on its way from @before to @now? Modulo 2^16. */
static inline bool ring_event_passed(uint16_t event, uint16_t now, uint16_t before)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

CTX_ANY_END
