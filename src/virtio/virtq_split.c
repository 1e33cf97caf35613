/*
 * virtq_split.c -- the device side of a split virtqueue (virtio 1.3, section 2.7).
 *
 * The driver writes descriptors and the available ring, we write the used ring; each side publishes
 * with an index that runs modulo 2^16. Everything read here is foreign and may change while it is
 * read:
 *
 * (S1) A descriptor is copied once; what was checked is what is used.
 * (S2) A walk visits at most as many descriptors as its table holds, so a loop ends as an error.
 *      (An indirect table may be longer than the queue: 2.7.5.3.1 forbids drivers that, but some do
 *      it, and VIRTQ_IOV_MAX bounds the chain.)
 * (S3) Publishing the used index releases what was written before; a full fence stands between it
 *      and the look at what the driver wants to be told (and likewise between asking for kicks and
 *      the look at the available index). The driver does the mirror image, so one of us sees the
 *      other.
 */
#include "virtio/virtq_int.h"
#include "base/checked.h"
#include "base/iov.h"
#include "sync/atomic.h"
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- finding the rings --------------------------------------------------------------------- */

HOME_LOOP
static int find_part(const struct virtq *queue, const struct guest_memory *memory,
                     const char *what, uint64_t user_address, uint64_t bytes, unsigned alignment,
                     void **ret_part, struct err **reterr)
{
    void *part = guest_memory_at_user(memory, user_address, bytes);

    if (part == NULL) {
        return err_set(reterr, EINVAL, "queue %u: %s at user address 0x%" PRIx64 " of %" PRIu64
                       " bytes is not inside the memory table", queue->index, what, user_address,
                       bytes);
    }
    if (((uintptr_t)part | user_address) % alignment != 0) {
        return err_set(reterr, EINVAL, "queue %u: %s at user address 0x%" PRIx64
                       " is not aligned to %u bytes", queue->index, what, user_address, alignment);
    }
    *ret_part = part;
    return 0;
}

HOME_LOOP
static int split_translate(struct virtq *queue, struct guest_memory *memory, struct err **reterr)
{
    const struct virtq_config *config = &queue->config;
    void *desc = NULL, *avail = NULL, *used = NULL;
    int rc;

    rc = find_part(queue, memory, "the descriptor table", config->desc_user,
                   ring_desc_bytes(config->size), 16, &desc, reterr);
    if (rc == 0) {
        rc = find_part(queue, memory, "the available ring", config->avail_user,
                       ring_avail_bytes(config->size), 2, &avail, reterr);
    }
    if (rc == 0) {
        rc = find_part(queue, memory, "the used ring", config->used_user,
                       ring_used_bytes(config->size), 4, &used, reterr);
    }
    if (rc == 0) {
        queue->split.desc = desc;
        queue->split.avail = avail;
        queue->split.used = used;
    }
    return rc;
}

HOME_LOOP
static void split_begin(struct virtq *queue)
{
    struct split_ring *ring = &queue->split;

    ring->next_avail = ring->avail_seen = queue->config.next_avail;
    ring->next_used = ring->used_flushed = le16toh(at_load_relaxed(&ring->used->idx)); /* ours */
}

/* ---- taking a chain ------------------------------------------------------------------------ */

struct table {
    const uint8_t *host; /* NULL: not in one piece, look up each descriptor */
    uint64_t guest_address;
    uint32_t count;
    bool is_indirect;
};

static const char *desc_name(const struct table *table)
{
    return table->is_indirect ? "indirect descriptor" : "descriptor";
}

/* A chain as it grows. */
struct chain {
    struct iovec *iov;
    int pieces;
    uint16_t out_count;
    uint64_t out_bytes, in_bytes;
};

/* (S1) */
HOME_LOOP
static int read_desc(struct virtq *queue, const struct table *table, uint32_t i,
                     struct ring_desc *ret_desc, struct err **reterr)
{
    struct ring_desc raw;

    if (likely(table->host != NULL)) {
        memcpy(&raw, table->host + i * sizeof(raw), sizeof(raw));
    } else {
        struct iovec iov[2];
        int count = guest_memory_pieces_hint(queue->map->memory,
                                             table->guest_address + i * sizeof(raw), sizeof(raw),
                                             iov, countof(iov), &queue->hint);

        if (count < 0) {
            (void)virtq_break(queue, reterr, "indirect table at 0x%" PRIx64 " of %" PRIu32
                              " descriptors is outside guest memory", table->guest_address,
                              table->count);
            return -EPROTO;
        }
        (void)iov_copy_out(iov, (size_t)count, 0, &raw, sizeof(raw));
    }
    at_compiler_fence(); /* the guest may still be writing: nothing is read again below */
    *ret_desc = (struct ring_desc){
        .addr = le64toh(raw.addr),
        .len = le32toh(raw.len),
        .flags = le16toh(raw.flags),
        .next = le16toh(raw.next),
    };
    return 0;
}

HOME_LOOP
static int add_buffer(struct virtq *queue, struct chain *chain, const struct table *table,
                      uint32_t i, const struct ring_desc *desc, struct err **reterr)
{
    const char *what = desc_name(table);
    bool writable = (desc->flags & RING_DESC_F_WRITE) != 0;
    uint64_t *bytes = writable ? &chain->in_bytes : &chain->out_bytes;
    int count;

    if (unlikely(desc->len == 0)) {
        return virtq_break(queue, reterr, "%s %" PRIu32 " has no bytes", what, i);
    }
    if (unlikely(!writable && chain->pieces > chain->out_count)) {
        return virtq_break(queue, reterr, "%s %" PRIu32 " is readable but follows a writable one",
                           what, i);
    }
    count = guest_memory_pieces_hint(queue->map->memory, desc->addr, desc->len,
                                     chain->iov + chain->pieces, VIRTQ_IOV_MAX - chain->pieces,
                                     &queue->hint);
    if (unlikely(count < 0)) {
        return count == -E2BIG
                   ? virtq_break(queue, reterr, "a chain has more than %d pieces", VIRTQ_IOV_MAX)
                   : virtq_break(queue, reterr, "%s %" PRIu32 ": address 0x%" PRIx64 " of %" PRIu32
                                 " bytes is outside guest memory", what, i, desc->addr, desc->len);
    }
    *bytes += desc->len;
    if (unlikely(chain->in_bytes + chain->out_bytes > UINT32_MAX)) {
        return virtq_break(queue, reterr, "a chain is longer than 2^32 bytes");
    }
    chain->pieces += count;
    if (!writable) {
        chain->out_count = (uint16_t)(chain->out_count + count);
    }
    return 0;
}

/* A descriptor that names a table: what the table is. It is the last of its chain. */
HOME_LOOP
static int enter_indirect(struct virtq *queue, const struct table *from, uint32_t i,
                          const struct ring_desc *desc, struct table *ret_table,
                          struct err **reterr)
{
    if (!queue->indirect) {
        return virtq_break(queue, reterr, "descriptor %" PRIu32 " is indirect, which was not "
                           "negotiated", i);
    }
    if (from->is_indirect) {
        return virtq_break(queue, reterr, "indirect descriptor %" PRIu32 " is indirect itself", i);
    }
    if ((desc->flags & RING_DESC_F_NEXT) != 0) {
        return virtq_break(queue, reterr, "descriptor %" PRIu32 " is indirect and has a next one",
                           i);
    }
    if (desc->len == 0 || desc->len % sizeof(struct ring_desc) != 0) {
        return virtq_break(queue, reterr, "descriptor %" PRIu32 ": an indirect table of %" PRIu32
                           " bytes is not a number of descriptors", i, desc->len);
    }
    *ret_table = (struct table){
        .host = guest_memory_at_hint(queue->map->memory, desc->addr, desc->len, &queue->hint),
        .guest_address = desc->addr,
        .count = desc->len / (uint32_t)sizeof(struct ring_desc),
        .is_indirect = true,
    };
    return 0;
}

/* Follow the chain from @i of @table to its end, or to a descriptor that names another table: 1. */
HOME_LOOP
static int walk_table(struct virtq *queue, const struct table *table, uint32_t i,
                      struct chain *chain, struct table *ret_next, struct err **reterr)
{
    for (uint32_t seen = 0; seen < table->count; seen++) { /* (S2) */
        struct ring_desc desc;
        int rc = read_desc(queue, table, i, &desc, reterr);

        if (likely(rc == 0) && (desc.flags & RING_DESC_F_INDIRECT) != 0) {
            rc = enter_indirect(queue, table, i, &desc, ret_next, reterr);
            return rc < 0 ? rc : 1;
        }
        if (likely(rc == 0)) {
            rc = add_buffer(queue, chain, table, i, &desc, reterr);
        }
        if (rc < 0 || (desc.flags & RING_DESC_F_NEXT) == 0) {
            return rc;
        }
        if (unlikely(desc.next >= table->count)) {
            return virtq_break(queue, reterr, "%s %" PRIu32 ": next is %u, the table has %" PRIu32,
                               desc_name(table), i, desc.next, table->count);
        }
        i = desc.next;
    }
    return virtq_break(queue, reterr, "a chain is longer than its table of %" PRIu32
                       " descriptors (a loop)", table->count);
}

/* The one place where a chain is taken. */
HOME_LOOP
static int take_chain(struct virtq *queue, uint16_t head, struct virtq_elem *elem,
                      struct iovec *iov, struct err **reterr)
{
    struct chain chain = {.iov = iov};
    struct table direct = {.host = (const uint8_t *)queue->split.desc, .count = queue->size};
    struct table indirect;
    int rc = walk_table(queue, &direct, head, &chain, &indirect, reterr);

    if (rc == 1) {
        struct table none;

        rc = walk_table(queue, &indirect, 0, &chain, &none, reterr);
    }
    if (unlikely(rc < 0)) {
        return rc;
    }
    elem->head = head;
    elem->descs = 1;
    elem->out_count = chain.out_count;
    elem->in_count = (uint16_t)(chain.pieces - chain.out_count);
    elem->out_bytes = (uint32_t)chain.out_bytes;
    elem->in_bytes = (uint32_t)chain.in_bytes;
    elem->iov = iov;
    return 0;
}

HOME_LOOP
static uint16_t load_avail(const struct virtq *queue)
{
    return le16toh(at_load_acquire(&queue->split.avail->idx)); /* pairs with the driver's release */
}

/* (S3) */
HOME_LOOP
static void arm_kick(struct virtq *queue)
{
    struct split_ring *ring = &queue->split;

    at_store16_buffered(ring_avail_event(ring->used, queue->size), htole16(ring->next_avail));
    ring->armed_at = ring->next_avail;
    at_fence();
}

/* Is there something at next_avail? Looks at the driver's index only if what it last said is used
 * up. */
HOME_LOOP
static bool look(struct virtq *queue)
{
    struct split_ring *ring = &queue->split;

    if (ring->avail_seen != ring->next_avail) {
        return true;
    }
    ring->avail_seen = load_avail(queue);
    if (ring->avail_seen == ring->next_avail && queue->kicks && queue->event_idx &&
        ring->armed_at != ring->next_avail) {
        arm_kick(queue);
        ring->avail_seen = load_avail(queue);
    }
    return ring->avail_seen != ring->next_avail;
}

HOME_LOOP
static int split_pop(struct virtq *queue, struct virtq_elem *elem, struct iovec *iov,
                     struct err **reterr)
{
    struct split_ring *ring = &queue->split;
    uint16_t pending, head;
    int rc;

    if (!look(queue)) {
        return 0;
    }
    pending = (uint16_t)(ring->avail_seen - ring->next_avail);
    if (unlikely(pending > queue->size)) {
        return virtq_break(queue, reterr, "the available index jumped from %u to %u, the queue has "
                           "%u places", ring->next_avail, ring->avail_seen, queue->size);
    }
    head = le16toh(at_load_relaxed(&ring->avail->ring[ring->next_avail & (queue->size - 1)]));
    if (unlikely(head >= queue->size)) {
        return virtq_break(queue, reterr, "available entry %u names descriptor %u, the table has "
                           "%u", ring->next_avail & (queue->size - 1), head, queue->size);
    }
    rc = take_chain(queue, head, elem, iov, reterr);
    if (unlikely(rc < 0)) {
        return rc;
    }
    ring->next_avail++;
    return 1;
}

HOME_LOOP
static void split_unpop(struct virtq *queue, struct virtq_elem *elem)
{
    (void)elem;
    queue->split.next_avail--;
}

/* ---- giving it back ------------------------------------------------------------------------ */

/* The one place where a used element is written. */
HOME_LOOP
static void split_push(struct virtq *queue, struct virtq_elem *elem, uint32_t written)
{
    struct split_ring *ring = &queue->split;
    struct ring_used_elem *used = &ring->used->ring[ring->next_used & (queue->size - 1)];

    used->id = htole32(elem->head);
    used->len = htole32(written);
    ring->next_used++;
}

HOME_LOOP
static bool wants_call(struct virtq *queue, uint16_t before)
{
    const struct split_ring *ring = &queue->split;

    if (queue->event_idx) {
        uint16_t event = le16toh(at_load_relaxed(ring_used_event(ring->avail, queue->size)));

        return ring_event_passed(event, ring->next_used, before);
    }
    return (le16toh(at_load_relaxed(&ring->avail->flags)) & RING_AVAIL_F_NO_INTERRUPT) == 0;
}

HOME_LOOP
static bool split_flush(struct virtq *queue)
{
    struct split_ring *ring = &queue->split;
    uint16_t before = ring->used_flushed;

    if (ring->next_used == before) {
        return false;
    }
    /* pairs with the driver's acquire */
    at_store16_release_buffered(&ring->used->idx, htole16(ring->next_used));
    ring->used_flushed = ring->next_used;
    at_fence(); /* (S3) */
    if (unlikely(queue->never_flushed)) {
        queue->never_flushed = false; /* what the driver last saw is not known: tell it */
        return true;
    }
    return wants_call(queue, before);
}

HOME_LOOP
static bool split_has_work(const struct virtq *queue)
{
    return queue->split.avail_seen != queue->split.next_avail ||
           load_avail(queue) != queue->split.next_avail;
}

HOME_LOOP
static void split_set_kicks(struct virtq *queue, bool wanted)
{
    struct ring_used *used = queue->split.used;

    if (queue->event_idx) {
        at_store_relaxed(&used->flags, 0); /* 2.7.10.2: 0 with EVENT_IDX */
        if (wanted) {
            arm_kick(queue);
        }
        return; /* not wanted: avail_event stays behind, and the driver's index has passed it */
    }
    at_store16_buffered(&used->flags, htole16(wanted ? 0 : RING_USED_F_NO_NOTIFY));
    at_fence();
}

HOME_LOOP
static uint32_t split_base(const struct virtq *queue)
{
    return queue->split.next_avail;
}

const struct virtq_format virtq_split = {
    .translate = split_translate,
    .begin = split_begin,
    .pop = split_pop,
    .unpop = split_unpop,
    .push = split_push,
    .flush = split_flush,
    .has_work = split_has_work,
    .set_kicks = split_set_kicks,
    .base = split_base,
};
