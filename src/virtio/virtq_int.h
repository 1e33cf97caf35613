/*
 * virtq_int.h -- what virtq.c and the ring formats share.
 *
 * virtq.c keeps state, maps and elements; a format (virtq_split.c) reads and writes the ring.
 */
#pragma once
#include "base/list.h"
#include "virtio/ring_layout.h"
#include "virtio/virtq.h"

/* One memory table that the queue has elements out of, or its rings in. */
struct map_use {
    struct guest_memory *memory; /* one reference */
    unsigned out;
    struct list link;
};

struct split_ring {
    struct ring_desc *desc;
    struct ring_avail *avail;
    struct ring_used *used;
    uint16_t next_avail;   /* the next pop */
    uint16_t avail_seen;   /* the driver's index when last looked at */
    uint16_t next_used;    /* the next push */
    uint16_t used_flushed; /* published */
    uint16_t armed_at;     /* EVENT_IDX: avail_event as last written */
};

struct virtq {
    unsigned index; /* constant */

    /* Home loop only. */
    const struct virtq_format *format;
    struct virtq_config config;
    uint16_t size;
    bool started, broken;
    bool kicks;             /* wanted by the device */
    bool event_idx;         /* negotiated */
    bool indirect;          /* negotiated */
    bool never_flushed;     /* the first batch is always told */
    unsigned out;           /* popped and not pushed, over all maps */
    unsigned hint;          /* region found last */
    struct map_use *map;    /* where the rings are; NULL: never started, or stopped and idle */
    struct list old_maps;   /* struct map_use: with elements out */
    struct split_ring split;
};

/* A ring format. Elements' maps and counts are virtq.c's business. */
struct virtq_format {
    /* Find the rings in @memory and set the pointers; changes nothing on failure. */
    HOME_SLOT int (*translate)(struct virtq *queue, struct guest_memory *memory,
                               struct err **reterr);
    HOME_SLOT void (*begin)(struct virtq *queue); /* indices from config; translated */
    HOME_SLOT int (*pop)(struct virtq *queue, struct virtq_elem *elem, struct iovec *iov,
                         struct err **reterr);
    HOME_SLOT void (*unpop)(struct virtq *queue, struct virtq_elem *elem);
    HOME_SLOT void (*push)(struct virtq *queue, struct virtq_elem *elem, uint32_t written);
    HOME_SLOT bool (*flush)(struct virtq *queue);
    HOME_SLOT bool (*has_work)(const struct virtq *queue);
    HOME_SLOT void (*set_kicks)(struct virtq *queue, bool wanted);
    HOME_SLOT uint32_t (*base)(const struct virtq *queue);
};
extern const struct virtq_format virtq_split;

/* Mark the queue broken, leave a text. Returns -EPROTO. */
HOME_LOOP printf_like(3, 4)
int virtq_break(struct virtq *queue, struct err **reterr, const char *format, ...);
