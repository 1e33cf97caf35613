/*
 * fuzz_virtq_split.c -- any bytes as a driver's ring: chains, indices, memory that moves, in any
 * order with what a device does.
 *
 * An input is a set-up (features, size, first index, where the rings are), a few descriptors for
 * the table and the indirect table in a short code, and then steps. Asserted: exactly the chains
 * are taken that the standard allows, with the sums that a second walk gives; a chain lies in guest
 * memory, its pieces are bounded; a queue that refused something is broken and says why; the count
 * of elements out is exact; nothing but guest memory is written (the sanitizer's part).
 */
#include "fuzz.h"
#include "base/bytes.h"
#include "base/iov.h"
#include "loop/io.h"
#include "os/file.h"
#include "virtio/ring_layout.h"
#include "virtio/virtq.h"

enum {
    REGION_BYTES = 32 << 10, /* two regions that abut, then nothing */
    RAM_BYTES = 2 * REGION_BYTES,
    USER_A = 0x10000000,
    USER_B = 0x30000000,
    DESC = 0x0000, AVAIL = 0x2000, USED = 0x3000, INDIRECT = 0x7f80, /* that table crosses */
    DESCS = 16, OUT_MAX = 12, STEPS_MAX = 80,
};

struct live {
    struct virtq_elem elem;
    struct iovec iov[VIRTQ_IOV_MAX];
    unsigned serial; /* unpop takes the last one popped only */
};

static struct guest_memory *tables[2]; /* the same memory twice: a table may replace the other */
static uint8_t *ram_a, *ram_b;
static struct live *live[OUT_MAX], places[OUT_MAX];
static unsigned live_count, serial;

BLOCKING
static int64_t run_now(pool_fn *fn, void *opaque)
{
    return fn(opaque);
}

/* Stands in for the loop's: unmapping happens at once. */
void pool_run(pool_fn *fn, void *opaque)
{
    int64_t (*run)(pool_fn *, void *) = run_now;

    run(fn, opaque);
}

BLOCKING
static void make_tables(void)
{
    int fd = os_memfd("fuzz", RAM_BYTES);

    for (size_t i = 0; i < countof(tables); i++) {
        struct guest_region_def defs[2] = {
            {0, REGION_BYTES, USER_A, 0, os_dup(fd)},
            {REGION_BYTES, REGION_BYTES, USER_B, REGION_BYTES, os_dup(fd)},
        };

        if (guest_memory_new(defs, 2, &tables[i], NULL) < 0) {
            panic("no memory for the guest");
        }
    }
    ram_a = guest_memory_at(tables[0], 0, REGION_BYTES);
    ram_b = guest_memory_at(tables[0], REGION_BYTES, REGION_BYTES);
}

/* Through the same pages as the device, whichever table it uses. */
static void guest_write(uint64_t address, const void *from, size_t bytes)
{
    const uint8_t *at = from;

    for (; bytes > 0 && address < RAM_BYTES; bytes--, address++, at++) {
        *(address < REGION_BYTES ? ram_a + address : ram_b + (address - REGION_BYTES)) = *at;
    }
}

/* ---- the driver's half ---- */

/* A descriptor in short code: a byte of flags and two choices, then address, length, next. */
static void put_desc(struct fuzz_input *input, uint64_t table, unsigned i)
{
    uint8_t code = fuzz_u8(input);
    struct ring_desc desc = {.flags = code & 7};

    if ((code & 0x80) != 0) {
        fuzz_take(input, &desc, sizeof(desc)); /* all of it, raw */
    } else {
        desc.addr = (code & 0x40) != 0 ? INDIRECT : fuzz_u16(input);
        desc.len = (code & 0x20) != 0 ? 16u * (fuzz_u8(input) % 64) : fuzz_u16(input);
        desc.next = fuzz_u8(input); /* near, or far beyond any table */
        desc.next = desc.next < 240 ? desc.next % (DESCS + 2) : (uint16_t)(0xff00 | desc.next);
    }
    guest_write(table + i * sizeof(desc), &desc, sizeof(desc));
}

static struct virtq_config take_config(struct fuzz_input *input)
{
    uint8_t bits = fuzz_u8(input), size = fuzz_u8(input);
    struct virtq_config config = {
        .size = (uint16_t)(size < 16 ? 1u << size : size),
        .features = (uint64_t)(bits & 1) << VIRTIO_RING_F_EVENT_IDX |
                    (uint64_t)(bits >> 1 & 1) << VIRTIO_RING_F_INDIRECT_DESC |
                    (uint64_t)(bits >> 2 & 1) << VIRTIO_F_RING_PACKED,
        .next_avail = fuzz_u16(input),
        .desc_user = USER_A + DESC, .avail_user = USER_A + AVAIL, .used_user = USER_A + USED,
    };

    if ((bits & 8) != 0) { /* somewhere else, perhaps at an edge or nowhere */
        config.desc_user = ((bits & 16) != 0 ? USER_B : USER_A) + (uint64_t)fuzz_u16(input);
        config.avail_user = ((bits & 32) != 0 ? USER_B : USER_A) + (uint64_t)fuzz_u16(input);
        fuzz_take(input, &config.used_user, (bits & 64) != 0 ? 8 : 2);
        config.used_user += (bits & 64) != 0 ? 0 : USER_A;
    }
    return config;
}

static void put_ring(struct fuzz_input *input, uint16_t first_avail)
{
    uint16_t index = (uint16_t)(first_avail + fuzz_u8(input) % 20);
    uint8_t heads[32];

    guest_write(AVAIL + 2, &index, sizeof(index));
    fuzz_take(input, heads, sizeof(heads) / 2);
    for (unsigned i = 0; i < countof(heads) / 2; i++) {
        uint16_t head = heads[i] & 0x9f;

        guest_write(AVAIL + 4 + 2 * i, &head, sizeof(head));
    }
    for (unsigned i = 0; i < DESCS; i++) {
        put_desc(input, DESC, i);
    }
    for (unsigned i = 0; i < DESCS; i++) {
        put_desc(input, INDIRECT, i);
    }
}

/* ---- the chain as the standard has it (virtio 1.3, 2.7.5), written down once more ---- */

struct expected {
    bool is_good;
    bool jumps; /* the driver's index, now: the queue may have looked before */
    uint16_t head;
    uint64_t out_bytes, in_bytes;
};

/* Guest address of a ring address of the front end. */
static uint64_t guest_of(uint64_t user)
{
    return user >= USER_B ? user - USER_B + REGION_BYTES : user - USER_A;
}

static bool guest_read(uint64_t address, void *to, size_t bytes)
{
    uint8_t *at = to;

    if (address > RAM_BYTES || bytes > RAM_BYTES - address) {
        return false;
    }
    for (; bytes > 0; bytes--, address++, at++) {
        *at = *(address < REGION_BYTES ? ram_a + address : ram_b + (address - REGION_BYTES));
    }
    return true;
}

static bool model_buffer(struct expected *chain, const struct ring_desc *desc, unsigned *pieces)
{
    bool writable = (desc->flags & RING_DESC_F_WRITE) != 0;
    uint64_t end = desc->addr + desc->len;

    if (desc->len == 0 || desc->addr > RAM_BYTES || desc->len > RAM_BYTES - desc->addr ||
        (!writable && chain->in_bytes > 0)) {
        return false;
    }
    *pieces += desc->addr < REGION_BYTES && end > REGION_BYTES ? 2 : 1;
    *(writable ? &chain->in_bytes : &chain->out_bytes) += desc->len;
    return *pieces <= VIRTQ_IOV_MAX;
}

static bool model_enters(const struct ring_desc *desc, bool may, bool is_indirect)
{
    return may && !is_indirect && (desc->flags & RING_DESC_F_NEXT) == 0 && desc->len != 0 &&
           desc->len % sizeof(*desc) == 0;
}

static bool model_walk(const struct virtq_config *config, struct expected *chain)
{
    uint64_t table = guest_of(config->desc_user);
    uint32_t count = config->size, i = chain->head, seen = 0;
    bool may = (config->features >> VIRTIO_RING_F_INDIRECT_DESC & 1) != 0, is_indirect = false;
    unsigned pieces = 0;
    struct ring_desc desc;

    for (;;) {
        if (i >= count || seen++ >= count || !guest_read(table + i * 16ull, &desc, sizeof(desc))) {
            return false;
        }
        if ((desc.flags & RING_DESC_F_INDIRECT) != 0) {
            if (!model_enters(&desc, may, is_indirect)) {
                return false;
            }
            is_indirect = true;
            table = desc.addr;
            count = desc.len / 16;
            i = seen = 0;
            continue;
        }
        if (!model_buffer(chain, &desc, &pieces)) {
            return false;
        }
        if ((desc.flags & RING_DESC_F_NEXT) == 0) {
            return true;
        }
        i = desc.next;
    }
}

/* What the next pop will find, if it finds anything. */
HOME_LOOP
static struct expected expect_chain(const struct virtq *queue, const struct virtq_config *config)
{
    uint64_t avail = guest_of(config->avail_user);
    uint16_t base = (uint16_t)virtq_base(queue), index = 0;
    struct expected chain = {.is_good = false};

    guest_read(avail + 2, &index, sizeof(index));
    guest_read(avail + 4 + 2 * (base & (config->size - 1u)), &chain.head, sizeof(chain.head));
    chain.jumps = (uint16_t)(index - base) > config->size;
    chain.is_good = chain.head < config->size && model_walk(config, &chain);
    return chain;
}

/* ---- the device's half ---- */

static struct virtq_config current; /* as last started */

static bool in_ram(const struct iovec *iov)
{
    const uint8_t *at = iov->iov_base;

    for (size_t i = 0; i < countof(tables); i++) {
        const uint8_t *a = guest_memory_at(tables[i], 0, REGION_BYTES);
        const uint8_t *b = guest_memory_at(tables[i], REGION_BYTES, REGION_BYTES);

        if ((at >= a && at < a + REGION_BYTES && iov->iov_len <= (size_t)(a + REGION_BYTES - at)) ||
            (at >= b && at < b + REGION_BYTES && iov->iov_len <= (size_t)(b + REGION_BYTES - at))) {
            return true;
        }
    }
    return false;
}

HOME_LOOP
static void check_elem(const struct virtq *queue, const struct virtq_elem *elem)
{
    unsigned count = (unsigned)elem->out_count + elem->in_count;

    assert(elem->head < virtq_size(queue));
    assert(count > 0);
    assert(count <= VIRTQ_IOV_MAX);
    assert(elem->memory == tables[0] || elem->memory == tables[1]);
    for (unsigned i = 0; i < count; i++) {
        assert(elem->iov[i].iov_len > 0);
        assert(in_ram(&elem->iov[i]));
    }
    assert(iov_bytes(elem->iov, elem->out_count) == elem->out_bytes);
    assert(iov_bytes(elem->iov + elem->out_count, elem->in_count) == elem->in_bytes);
}

HOME_LOOP
static void step_pop(struct virtq *queue)
{
    struct err *err = NULL;
    bool was_broken = virtq_is_broken(queue);
    unsigned out = virtq_out(queue);
    struct live *place = &places[0];
    struct expected expected;
    int rc;

    if (live_count == OUT_MAX) {
        return;
    }
    expected = virtq_is_started(queue) ? expect_chain(queue, &current) : (struct expected){0};
    for (unsigned i = 0; i < live_count; i++) { /* the first place that is free */
        if (live[i] == place) {
            place++;
            i = (unsigned)-1;
        }
    }
    rc = virtq_pop(queue, &place->elem, place->iov, &err);
    if (rc < 0) {
        assert(!was_broken);
        assert(virtq_is_broken(queue));
        assert(err != NULL && err->text[0] != '\0');
        assert(!expected.is_good || expected.jumps);
        err_free(err);
        return;
    }
    assert(err == NULL);
    assert(virtq_out(queue) == out + (unsigned)rc);
    if (rc == 1) {
        assert(expected.head == place->elem.head);
        assert(expected.is_good);
        assert(place->elem.out_bytes == expected.out_bytes);
        assert(place->elem.in_bytes == expected.in_bytes);
        place->serial = ++serial;
        live[live_count++] = place;
        check_elem(queue, &place->elem);
    }
}

static struct live *forget(unsigned i)
{
    struct live *place = live[i];

    live[i] = live[--live_count];
    return place;
}

HOME_LOOP
static void step_give_back(struct virtq *queue, uint8_t how, uint8_t which)
{
    static const uint8_t filling[64] = {1, 2, 3};
    struct live *place;

    if (live_count == 0) {
        return;
    }
    place = live[which % live_count];
    if (how == 0 && place->serial == serial) {
        forget(which % live_count);
        serial--;
        virtq_unpop(queue, &place->elem);
    } else if (how == 1) {
        forget(which % live_count);
        virtq_drop(queue, &place->elem);
    } else {
        uint32_t written = (uint32_t)virtq_elem_write(queue, &place->elem, which, filling, 64);
        uint8_t read[64];

        assert(virtq_elem_read(&place->elem, which, read, 64) <= place->elem.out_bytes);
        forget(which % live_count);
        virtq_push(queue, &place->elem, min_of(written, place->elem.in_bytes));
    }
    assert(virtq_out(queue) == live_count);
}

HOME_LOOP
static void restart(struct virtq *queue, struct fuzz_input *input, uint8_t argument)
{
    struct virtq_config config;
    struct err *err = NULL;

    if (virtq_is_started(queue)) {
        virtq_stop(queue);
    }
    while (live_count > 0) {
        step_give_back(queue, argument & 3, 0);
        argument |= 1; /* unpop only while it may */
    }
    virtq_flush(queue);
    config = take_config(input);
    if (virtq_start(queue, &config, tables[argument >> 7], &err) < 0) {
        assert(err != NULL);
        assert(!virtq_is_started(queue));
        err_free(err);
    } else {
        current = config;
        put_ring(input, config.next_avail);
    }
}

HOME_LOOP
static void step(struct virtq *queue, struct fuzz_input *input)
{
    uint8_t op = fuzz_u8(input), argument = fuzz_u8(input);
    struct err *err = NULL;
    uint16_t index;

    switch (op % 12) {
    case 0: case 1: case 2: case 3:
        step_pop(queue);
        break;
    case 4: case 5: case 6:
        step_give_back(queue, op % 12 - 4, argument);
        break;
    case 7:
        virtq_flush(queue);
        break;
    case 8:
        virtq_set_kicks(queue, (argument & 1) != 0);
        virtq_has_work(queue);
        break;
    case 9: /* the driver offers more, or jumps */
        index = (uint16_t)(virtq_base(queue) + argument);
        guest_write(AVAIL + 2, &index, sizeof(index));
        put_desc(input, DESC, argument % DESCS);
        break;
    case 10:
        if (virtq_set_memory(queue, tables[argument & 1], &err) < 0) {
            assert(virtq_is_broken(queue));
            err_free(err);
        }
        break;
    default:
        restart(queue, input, argument);
    }
}

HOME_LOOP
static void run_all(struct fuzz_input *input)
{
    struct virtq *queue = virtq_new(1);

    memset(ram_a, 0, REGION_BYTES);
    memset(ram_b, 0, REGION_BYTES);
    live_count = serial = 0;
    restart(queue, input, 0);
    for (int i = 0; i < STEPS_MAX && input->left > 0; i++) {
        step(queue, input);
    }
    if (virtq_is_started(queue)) {
        virtq_stop(queue);
    }
    while (live_count > 0) {
        step_give_back(queue, 1 + live_count % 2, 0);
    }
    virtq_flush(queue);
    virtq_free(queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    void (*make)(void) = make_tables; /* this thread is whatever it has to be */
    void (*run)(struct fuzz_input *) = run_all;
    struct fuzz_input input = {data, bytes};

    if (ram_a == NULL) {
        make();
    }
    run(&input);
    return 0;
}
