/* test_virtq_malformed.c -- every kind of chain that is none: each breaks its queue, with a text.
 */
#include "guest_twin.h"

struct malformed {
    const char *text; /* what the error says */
    void (*build)(struct guest *guest);
};

static void head_outside(struct guest *guest)
{
    offer(guest, SIZE);
}
static void index_jumps(struct guest *guest)
{
    guest->avail = (uint16_t)(guest->avail + SIZE);
    offer(guest, 0);
}
static void index_goes_back(struct guest *guest)
{
    guest->avail -= 2;
    offer(guest, 0);
}
static void next_outside(struct guest *guest)
{
    desc(guest, 0, DATA, 1, NEXT, SIZE);
    offer(guest, 0);
}
static void loop_of_one(struct guest *guest)
{
    desc(guest, 0, DATA, 1, NEXT, 0);
    offer(guest, 0);
}
static void loop_of_three(struct guest *guest)
{
    desc(guest, 0, DATA, 1, NEXT, 3);
    desc(guest, 3, DATA, 1, NEXT, 6);
    desc(guest, 6, DATA, 1, NEXT, 3);
    offer(guest, 0);
}
static void no_bytes(struct guest *guest)
{
    desc(guest, 0, DATA, 4, NEXT, 1);
    desc(guest, 1, DATA, 0, 0, 0);
    offer(guest, 0);
}
static void wrong_order(struct guest *guest)
{
    desc(guest, 0, DATA, 4, NEXT | WRITE, 1);
    desc(guest, 1, DATA, 4, 0, 0);
    offer(guest, 0);
}
static void outside_memory(struct guest *guest)
{
    desc(guest, 0, RAM_BYTES - 3, 4, 0, 0);
    offer(guest, 0);
}
static void wraps_around(struct guest *guest)
{
    desc(guest, 0, UINT64_MAX - 1, 4, 0, 0);
    offer(guest, 0);
}
static void longer_than_32_bits(struct guest *guest)
{
    /* The parts are inside memory; there are too many of them. */
    desc(guest, 0, INDIRECT, 0x8000, IND, 0);
    for (unsigned i = 0; i < 0x800; i++) {
        put_desc(guest, INDIRECT, i, 0, RAM_BYTES, NEXT, (uint16_t)(i + 1));
    }
    offer(guest, 0);
}
static void table_of_half_descriptors(struct guest *guest)
{
    desc(guest, 0, INDIRECT, 24, IND, 0);
    put_desc(guest, INDIRECT, 0, DATA, 1, 0, 0);
    offer(guest, 0);
}
static void empty_table(struct guest *guest)
{
    desc(guest, 0, INDIRECT, 0, IND, 0);
    offer(guest, 0);
}
static void table_in_a_table(struct guest *guest)
{
    desc(guest, 0, INDIRECT, 32, IND, 0);
    put_desc(guest, INDIRECT, 0, INDIRECT, 32, IND, 0);
    offer(guest, 0);
}
static void ring_as_its_own_table(struct guest *guest)
{
    desc(guest, 0, DESC, 32, IND, 0);
    offer(guest, 0);
}
static void table_with_a_next(struct guest *guest)
{
    desc(guest, 0, INDIRECT, 16, IND | NEXT, 1);
    put_desc(guest, INDIRECT, 0, DATA, 1, 0, 0);
    desc(guest, 1, DATA, 1, 0, 0);
    offer(guest, 0);
}
static void table_outside(struct guest *guest)
{
    desc(guest, 0, RAM_BYTES - 16, 32, IND, 0);
    put_desc(guest, RAM_BYTES - 16, 0, DATA, 1, NEXT, 1);
    offer(guest, 0);
}
static void table_next_outside(struct guest *guest)
{
    desc(guest, 0, INDIRECT, 32, IND, 0);
    put_desc(guest, INDIRECT, 0, DATA, 1, NEXT, 2);
    put_desc(guest, INDIRECT, 2, DATA, 1, 0, 0);
    offer(guest, 0);
}
static void table_loops(struct guest *guest)
{
    desc(guest, 0, INDIRECT, 48, IND, 0);
    put_desc(guest, INDIRECT, 0, DATA, 1, NEXT, 1);
    put_desc(guest, INDIRECT, 1, DATA, 1, NEXT, 0);
    offer(guest, 0);
}
static void too_many_pieces(struct guest *guest)
{
    desc(guest, 1, DATA, 1, NEXT, 0);
    desc(guest, 0, INDIRECT, VIRTQ_IOV_MAX * 16, IND, 0);
    for (unsigned i = 0; i < VIRTQ_IOV_MAX; i++) {
        put_desc(guest, INDIRECT, i, DATA, 1, NEXT, (uint16_t)(i + 1));
    }
    offer(guest, 1);
}

static const struct malformed malformed[] = {
    {"names descriptor 8, the table has 8", head_outside},
    {"the available index jumped from 40 to 49, the queue has 8 places", index_jumps},
    {"the available index jumped from 40 to 39", index_goes_back},
    {"descriptor 0: next is 8, the table has 8", next_outside},
    {"(a loop)", loop_of_one},
    {"(a loop)", loop_of_three},
    {"descriptor 1 has no bytes", no_bytes},
    {"descriptor 1 is readable but follows a writable one", wrong_order},
    {"descriptor 0: address 0xffffd of 4 bytes is outside guest memory", outside_memory},
    {"descriptor 0: address 0xfffffffffffffffe of 4 bytes is outside", wraps_around},
    {"more than 1024 pieces", longer_than_32_bits},
    {"an indirect table of 24 bytes is not a number of descriptors", table_of_half_descriptors},
    {"an indirect table of 0 bytes", empty_table},
    {"indirect descriptor 0 is indirect itself", table_in_a_table},
    {"indirect descriptor 0 is indirect itself", ring_as_its_own_table},
    {"descriptor 0 is indirect and has a next one", table_with_a_next},
    {"indirect table at 0xffff0 of 2 descriptors is outside guest memory", table_outside},
    {"indirect descriptor 0: next is 2, the table has 2", table_next_outside},
    {"longer than its table of 3 descriptors (a loop)", table_loops},
    {"more than 1024 pieces", too_many_pieces},
};

/* Each breaks the queue; what was answered before is shown, what is answered after ends without a
 * trace; a new start works. */
HOME_LOOP
static void malformed_chains_break_the_queue(void **state)
{
    for (size_t i = 0; i < countof(malformed); i++) {
        struct iovec iov[VIRTQ_IOV_MAX];
        struct virtq_elem before, elem;
        struct guest guest;

        guest_init(&guest, SIZE);
        start_at(&guest, INDIRECT_DESC | (i % 2 == 0 ? EVENT_IDX : 0), 38);
        desc(&guest, 7, DATA, 1, 0, 0);
        offer(&guest, 7);
        offer(&guest, 7);
        assert_int_equal(virtq_pop(guest.queue, &before, iov, NULL), 1);
        assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
        virtq_push(guest.queue, &before, 0);
        malformed[i].build(&guest);
        assert_breaks(&guest, malformed[i].text);
        assert_int_equal(virtq_base(guest.queue), 40);
        virtq_push(guest.queue, &elem, 0);
        assert_true(virtq_flush(guest.queue));
        assert_int_equal(used_idx(&guest), 39);
        assert_int_equal(virtq_out(guest.queue), 0);
        virtq_stop(guest.queue);

        memset(guest.ram, 0, DATA);
        start_at(&guest, 0, 0);
        assert_false(virtq_is_broken(guest.queue));
        desc(&guest, 7, DATA, 1, 0, 0);
        offer(&guest, 7);
        assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
        virtq_push(guest.queue, &elem, 0);
        assert_true(virtq_flush(guest.queue));
        guest_fini(&guest);
    }
}

HOME_LOOP
static void a_chain_has_at_most_32_bits_of_bytes(void **state)
{
    enum { BIG = 1 << 30 };
    struct guest_region_def def;
    struct guest guest;

    guest_init(&guest, SIZE);
    assert_int_equal(os_ftruncate(guest.fd, BIG), 0); /* sparse */
    guest_memory_unref(guest.memory);
    def = (struct guest_region_def){0, BIG, USER, 0, os_dup(guest.fd)};
    assert_int_equal(guest_memory_new(&def, 1, &guest.memory, NULL), 0);
    guest.ram = guest_memory_at(guest.memory, 0, BIG);
    start_at(&guest, 0, 0);
    for (unsigned i = 0; i < 4; i++) {
        desc(&guest, i, 0, BIG, i < 3 ? NEXT : 0, (uint16_t)(i + 1));
    }
    offer(&guest, 0);
    assert_breaks(&guest, "longer than 2^32 bytes");
    guest_fini(&guest);
}

HOME_LOOP
static void indirect_must_be_negotiated(void **state)
{
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, EVENT_IDX, 0);
    desc(&guest, 0, INDIRECT, 16, IND, 0);
    put_desc(&guest, INDIRECT, 0, DATA, 1, 0, 0);
    offer(&guest, 0);
    assert_breaks(&guest, "descriptor 0 is indirect, which was not negotiated");
    guest_fini(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_chains_break_the_queue),
        cmocka_unit_test(a_chain_has_at_most_32_bits_of_bytes),
        cmocka_unit_test(indirect_must_be_negotiated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
