/*
 * virtq.h -- the device side of a virtqueue, split or packed, whatever the front end negotiated.
 *
 * A virtqueue belongs to its home loop: nobody else calls anything here. The one function each
 * through which a descriptor is popped, a used one pushed and guest memory written is where the
 * in-flight record and the dirty log hook in. Descriptors are foreign bytes: each is copied once
 * and checked; what is wrong makes the queue broken, with a text, and it stays so until it is
 * started anew.
 */
#pragma once
#include "base/ctx.h"
#include "base/err.h"
#include "virtio/memory.h"

enum {
    VIRTQ_SIZE_MAX = 32768,   /* virtio 1.2, 2.7 */
    VIRTQ_IOV_MAX = 1024,     /* pieces of one chain, both directions */
};

enum virtio_feature_bits {
    VIRTIO_RING_F_INDIRECT_DESC = 28, VIRTIO_RING_F_EVENT_IDX = 29,
    VHOST_F_LOG_ALL = 26, VHOST_USER_F_PROTOCOL_FEATURES = 30,
    VIRTIO_F_VERSION_1 = 32, VIRTIO_F_ACCESS_PLATFORM = 33, VIRTIO_F_RING_PACKED = 34,
};

/* A chain taken from the queue. Embedded in a request; filled by virtq_pop(). Buffers point into
 * guest memory of `memory`, which the element keeps alive until it is pushed. */
struct virtq_elem {
    uint16_t head;             /* descriptor index (split) or buffer id (packed) */
    uint16_t descs;            /* ring slots used; packed */
    uint16_t out_count, in_count;
    uint32_t out_bytes, in_bytes;
    struct guest_memory *memory;
    struct iovec *iov;         /* out_count readable pieces, then in_count writable ones */
};

struct virtq_config {
    uint16_t size;
    uint64_t features;                 /* negotiated */
    uint64_t desc_user, avail_user, used_user; /* the front end's process's, as vhost-user says */
    uint16_t next_avail;               /* split: SET_VRING_BASE */
    bool avail_wrap, used_wrap;        /* packed */
    uint16_t next_used;                /* packed */
};

struct virtq;

ANY_THREAD
struct virtq *virtq_new(unsigned index);
ANY_THREAD
void virtq_free(struct virtq *queue); /* stopped; no element out */

/* Translate the rings and begin. -EINVAL names what is missing or outside memory. */
HOME_LOOP
int virtq_start(struct virtq *queue, const struct virtq_config *config, struct guest_memory *memory,
                struct err **reterr);
/* A new memory table: translate the rings anew; elements out keep the old one. -EINVAL: the rings
 * are not in it; the queue is broken then. Not started: nothing to do. */
HOME_LOOP
int virtq_set_memory(struct virtq *queue, struct guest_memory *memory, struct err **reterr);
/* Nothing is popped any more; elements out may still be pushed and flushed. The queue's hold on its
 * memory ends with the flush after the last of them. */
HOME_LOOP
void virtq_stop(struct virtq *queue);
HOME_LOOP
bool virtq_is_started(const struct virtq *queue);
/* Where the next pop would be: the answer to GET_VRING_BASE (packed: with both wrap counters). */
HOME_LOOP
uint32_t virtq_base(const struct virtq *queue);
ANY_THREAD
unsigned virtq_index(const struct virtq *queue);
HOME_LOOP
uint16_t virtq_size(const struct virtq *queue);

/* 1: @elem is filled (@iov: VIRTQ_IOV_MAX places that live as long as the element); 0: empty;
 * -EPROTO: the queue is broken now and *@reterr says by what. */
HOME_LOOP
int virtq_pop(struct virtq *queue, struct virtq_elem *elem, struct iovec *iov, struct err **reterr);
/* Give back unanswered what was popped last (LIFO). */
HOME_LOOP
void virtq_unpop(struct virtq *queue, struct virtq_elem *elem);
/* Answer: @written bytes of the writable part were filled. Visible to the guest at the next
 * flush. */
HOME_LOOP
void virtq_push(struct virtq *queue, struct virtq_elem *elem, uint32_t written);
/* Forget @elem unanswered, in any order; no byte of the ring is written. For a ring whose front end
 * is gone; allowed after virtq_stop(). The element's memory is let go. */
HOME_LOOP
void virtq_drop(struct virtq *queue, struct virtq_elem *elem);
/* Publish what was pushed; true: the guest wants an interrupt. Once per batch. A broken queue takes
 * pushes (they end the requests) but shows the guest no more than what was pushed before it
 * broke. */
HOME_LOOP
bool virtq_flush(struct virtq *queue);

/* In memory, cheap: is something to pop (or to find out: memory taken away)? */
HOME_LOOP
bool virtq_has_work(const struct virtq *queue);
/* Ask for kicks, or no longer. Switching them on returns true if work is there already. They are on
 * after virtq_start(). While on, a pop that finds the queue empty asks for the next kick. */
HOME_LOOP
bool virtq_set_kicks(struct virtq *queue, bool wanted);

HOME_LOOP
bool virtq_is_broken(const struct virtq *queue);
HOME_LOOP
unsigned virtq_out(const struct virtq *queue); /* elements popped and not pushed */

/* The one way to write what is not a ring: into the writable part of an element. Bytes written. */
HOME_LOOP
size_t virtq_elem_write(struct virtq *queue, struct virtq_elem *elem, size_t offset,
                        const void *from, size_t bytes);
/* The readable part, copied once. Bytes read. */
HOME_LOOP
size_t virtq_elem_read(const struct virtq_elem *elem, size_t offset, void *to, size_t bytes);
