/*
 * virtq.c -- a virtqueue: its states, its elements and the memory tables they live in.
 *
 * new -> started -> stopped -> started …; broken is a mark on a started queue and goes with the
 * next start.
 *
 * (Q1) Each element out is counted once, in the map_use of the table it was popped under. A table's
 *      reference is dropped when its count is back at 0 and the rings are not in it.
 * (Q2) The rings' own table is kept until the queue is stopped, nothing is out and everything
 *      pushed is flushed: a push after the stop still writes to the used ring.
 * (Q3) A broken queue pops nothing, and pushes only end the count. What was pushed before it broke
 *      is still published: those requests were carried out.
 */
#include "virtio/virtq_int.h"
#include "base/checked.h"
#include "base/iov.h"
#include "base/mem.h"
#include "base/str.h"
#include <errno.h>
#include <inttypes.h>

struct virtq *virtq_new(unsigned index)
{
    struct virtq *queue = mem_new(struct virtq);

    queue->index = index;
    list_init(&queue->old_maps);
    return queue;
}

/* ---- maps ---------------------------------------------------------------------------------- */

static struct map_use *find_old_map(struct virtq *queue, const struct guest_memory *memory)
{
    struct map_use *use;

    list_for_each(use, &queue->old_maps, link) {
        if (use->memory == memory) {
            return use;
        }
    }
    return NULL;
}

/* The rings move into @memory. A table that comes back while elements of it are out is the same
 * use. */
static void adopt_map(struct virtq *queue, struct guest_memory *memory)
{
    struct map_use *use = find_old_map(queue, memory);

    assert(queue->map == NULL);
    if (use != NULL) {
        list_remove(&use->link);
    } else {
        use = mem_new(struct map_use);
        use->memory = guest_memory_ref(memory);
        list_init(&use->link);
    }
    queue->map = use;
    queue->hint = 0;
}

static void map_use_free(struct map_use *use)
{
    list_remove(&use->link);
    guest_memory_unref(use->memory);
    mem_free(use);
}

/* The rings have left the current map. */
static void retire_map(struct virtq *queue)
{
    struct map_use *use = take(&queue->map);

    if (use == NULL) {
        return;
    }
    if (use->out == 0) {
        map_use_free(use);
    } else {
        list_add_tail(&queue->old_maps, &use->link);
    }
}

static struct map_use *find_map(struct virtq *queue, const struct guest_memory *memory)
{
    struct map_use *use;

    if (likely(queue->map->memory == memory)) {
        return queue->map;
    }
    use = find_old_map(queue, memory);
    if (use == NULL) {
        panic("virtqueue %u: an element of no known memory table", queue->index);
    }
    return use;
}

static void count_out(struct virtq *queue, struct virtq_elem *elem)
{
    elem->memory = queue->map->memory;
    queue->map->out++;
    queue->out++;
}

static void count_back(struct virtq *queue, struct virtq_elem *elem)
{
    struct map_use *use = find_map(queue, elem->memory);

    assert(use->out > 0);
    use->out--;
    queue->out--;
    elem->memory = NULL;
    if (unlikely(use != queue->map) && use->out == 0) {
        map_use_free(use);
    }
}

/* (Q2) */
static void release_if_idle(struct virtq *queue)
{
    if (unlikely(!queue->started) && queue->out == 0) {
        retire_map(queue);
    }
}

void virtq_free(struct virtq *queue)
{
    if (queue == NULL) {
        return;
    }
    assert(!queue->started);
    assert(queue->out == 0);
    retire_map(queue);
    assert(list_is_empty(&queue->old_maps));
    mem_free(queue);
}

/* ---- start, stop --------------------------------------------------------------------------- */

int virtq_break(struct virtq *queue, struct err **reterr, const char *format, ...)
{
    AUTO_MEM char *text = NULL;
    va_list args;

    va_start(args, format);
    text = str_vformat(format, args);
    va_end(args);
    queue->broken = true;
    return err_set(reterr, EPROTO, "queue %u: %s", queue->index, text);
}

static bool has_feature(const struct virtq_config *config, unsigned bit)
{
    return (config->features >> bit & 1) != 0;
}

int virtq_start(struct virtq *queue, const struct virtq_config *config, struct guest_memory *memory,
                struct err **reterr)
{
    int rc;

    assert(!queue->started);
    assert(queue->out == 0);
    if (memory == NULL) {
        return err_set(reterr, EINVAL, "queue %u: there is no memory table yet", queue->index);
    }
    if (has_feature(config, VIRTIO_F_RING_PACKED)) {
        return err_set(reterr, EINVAL, "queue %u: packed virtqueues (feature bit %d) are not "
                       "offered", queue->index, VIRTIO_F_RING_PACKED);
    }
    if (!is_power_of_two(config->size) || config->size > VIRTQ_SIZE_MAX) {
        return err_set(reterr, EINVAL, "queue %u: size %u is not a power of two up to %d",
                       queue->index, config->size, VIRTQ_SIZE_MAX);
    }
    queue->config = *config;
    queue->size = config->size;
    rc = virtq_split.translate(queue, memory, reterr);
    if (rc < 0) {
        return rc;
    }
    retire_map(queue); /* of the former run, if nothing was flushed after its stop */
    adopt_map(queue, memory);
    queue->format = &virtq_split;
    queue->event_idx = has_feature(config, VIRTIO_RING_F_EVENT_IDX);
    queue->indirect = has_feature(config, VIRTIO_RING_F_INDIRECT_DESC);
    queue->never_flushed = true;
    queue->broken = false;
    queue->started = true;
    queue->kicks = true;
    queue->format->begin(queue);
    queue->format->set_kicks(queue, true);
    return 0;
}

int virtq_set_memory(struct virtq *queue, struct guest_memory *memory, struct err **reterr)
{
    int rc;

    if (!queue->started || queue->map->memory == memory) {
        return 0;
    }
    rc = queue->format->translate(queue, memory, reterr);
    if (rc < 0) {
        queue->broken = true;
        return rc;
    }
    retire_map(queue);
    adopt_map(queue, memory);
    return 0;
}

void virtq_stop(struct virtq *queue)
{
    queue->started = false;
    release_if_idle(queue);
}

bool virtq_is_started(const struct virtq *queue)
{
    return queue->started;
}

uint32_t virtq_base(const struct virtq *queue)
{
    return queue->format == NULL ? 0 : queue->format->base(queue);
}

unsigned virtq_index(const struct virtq *queue)
{
    return queue->index;
}

uint16_t virtq_size(const struct virtq *queue)
{
    return queue->size;
}

bool virtq_is_broken(const struct virtq *queue)
{
    return queue->broken;
}

unsigned virtq_out(const struct virtq *queue)
{
    return queue->out;
}

/* ---- elements ------------------------------------------------------------------------------ */

int virtq_pop(struct virtq *queue, struct virtq_elem *elem, struct iovec *iov, struct err **reterr)
{
    int rc;

    if (unlikely(!queue->started || queue->broken)) {
        return 0;
    }
    if (unlikely(guest_memory_is_broken(queue->map->memory))) {
        return virtq_break(queue, reterr, "the front end took guest memory away while it was in "
                           "use");
    }
    rc = queue->format->pop(queue, elem, iov, reterr);
    if (likely(rc > 0)) {
        count_out(queue, elem);
    }
    return rc;
}

void virtq_unpop(struct virtq *queue, struct virtq_elem *elem)
{
    queue->format->unpop(queue, elem);
    count_back(queue, elem);
    release_if_idle(queue);
}

void virtq_push(struct virtq *queue, struct virtq_elem *elem, uint32_t written)
{
    assert(written <= elem->in_bytes);
    if (likely(!queue->broken)) {
        queue->format->push(queue, elem, written);
    }
    count_back(queue, elem);
}

void virtq_drop(struct virtq *queue, struct virtq_elem *elem)
{
    count_back(queue, elem);
    release_if_idle(queue);
}

bool virtq_flush(struct virtq *queue)
{
    bool wants_call = false;

    if (likely(queue->map != NULL)) {
        wants_call = queue->format->flush(queue);
    }
    release_if_idle(queue);
    return wants_call;
}

bool virtq_has_work(const struct virtq *queue)
{
    if (unlikely(!queue->started || queue->broken)) {
        return false;
    }
    return queue->format->has_work(queue) || guest_memory_is_broken(queue->map->memory);
}

bool virtq_set_kicks(struct virtq *queue, bool wanted)
{
    if (unlikely(!queue->started || queue->broken)) {
        return false;
    }
    queue->kicks = wanted;
    queue->format->set_kicks(queue, wanted);
    return wanted && virtq_has_work(queue);
}

size_t virtq_elem_write(struct virtq *queue, struct virtq_elem *elem, size_t offset,
                        const void *from, size_t bytes)
{
    (void)queue; /* whose record of dirty pages it is */
    return iov_copy_in(elem->iov + elem->out_count, elem->in_count, offset, from, bytes);
}

size_t virtq_elem_read(const struct virtq_elem *elem, size_t offset, void *to, size_t bytes)
{
    return iov_copy_out(elem->iov, elem->out_count, offset, to, bytes);
}
