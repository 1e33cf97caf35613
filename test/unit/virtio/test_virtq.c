/*
 * test_virtq.c -- the device side of split virtqueues against a driver's ring written down here
 * byte by byte: chains well and ill formed, notification decisions, indices that wrap, maps that
 * come and go.
 */
#include "guest_twin.h"

/* ---- chains --------------------------------------------------------------------------------- */

HOME_LOOP
static void chains_arrive_whole(void **state)
{
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;
    struct guest guest;
    char text[32] = {0};

    guest_init(&guest, SIZE);
    start_at(&guest, INDIRECT_DESC, 0);
    assert_false(virtq_has_work(guest.queue));
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 0);

    desc(&guest, 5, DATA, 3, NEXT, 2);
    desc(&guest, 2, DATA + 100, 4, NEXT, 7);
    desc(&guest, 7, DATA + 200, 10, NEXT | WRITE, 0);
    desc(&guest, 0, DATA + 300, 20, WRITE, 0);
    memcpy(guest.ram + DATA, "abc", 3);
    memcpy(guest.ram + DATA + 100, "defg", 4);
    offer(&guest, 5);
    assert_true(virtq_has_work(guest.queue));
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
    assert_int_equal(elem.head, 5);
    assert_int_equal(elem.out_count, 2);
    assert_int_equal(elem.in_count, 2);
    assert_int_equal(elem.out_bytes, 7);
    assert_int_equal(elem.in_bytes, 30);
    assert_ptr_equal(elem.memory, guest.memory);
    assert_int_equal(virtq_elem_read(&elem, 1, text, sizeof(text)), 6);
    assert_string_equal(text, "bcdefg");
    assert_int_equal(virtq_elem_write(guest.queue, &elem, 8, "12345", 5), 5);
    assert_memory_equal(guest.ram + DATA + 208, "12", 2);
    assert_memory_equal(guest.ram + DATA + 300, "345", 3);
    assert_int_equal(virtq_elem_write(guest.queue, &elem, 28, "12345", 5), 2);
    assert_int_equal(virtq_out(guest.queue), 1);
    assert_false(virtq_has_work(guest.queue));

    virtq_push(guest.queue, &elem, 13);
    assert_int_equal(used_idx(&guest), 0); /* not before the flush */
    assert_true(virtq_flush(guest.queue));
    assert_int_equal(used_idx(&guest), 1);
    assert_int_equal(le32_load(guest.ram + USED + 4), 5);
    assert_int_equal(le32_load(guest.ram + USED + 8), 13);
    assert_false(virtq_flush(guest.queue)); /* nothing new */
    guest_fini(&guest);
}

/* Direct buffers, then a table: of the longest chain too, longer than the queue. */
HOME_LOOP
static void indirect_tables_follow_direct_buffers(void **state)
{
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, INDIRECT_DESC, 0);
    desc(&guest, 1, DATA, 16, NEXT, 4);
    desc(&guest, 4, INDIRECT, 3 * 16, IND | WRITE, 0); /* WRITE is to be ignored here: 2.7.5.3.2 */
    put_desc(&guest, INDIRECT, 0, DATA + 16, 1, NEXT, 2);
    put_desc(&guest, INDIRECT, 2, DATA + 32, 2, NEXT | WRITE, 1);
    put_desc(&guest, INDIRECT, 1, DATA + 64, 3, WRITE, 0);
    offer(&guest, 1);
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
    assert_int_equal(elem.head, 1);
    assert_int_equal(elem.out_count, 2);
    assert_int_equal(elem.out_bytes, 17);
    assert_int_equal(elem.in_count, 2);
    assert_int_equal(elem.in_bytes, 5);
    assert_ptr_equal(iov[2].iov_base, guest.ram + DATA + 32);
    virtq_push(guest.queue, &elem, 5);

    desc(&guest, 0, INDIRECT, VIRTQ_IOV_MAX * 16, IND, 0);
    for (unsigned i = 0; i < VIRTQ_IOV_MAX; i++) {
        put_desc(&guest, INDIRECT, i, DATA + i, 1, i + 1 < VIRTQ_IOV_MAX ? NEXT : 0,
                 (uint16_t)(i + 1));
    }
    offer(&guest, 0);
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
    assert_int_equal(elem.out_count, VIRTQ_IOV_MAX);
    assert_int_equal(elem.in_count, 0);
    virtq_push(guest.queue, &elem, 0);
    (void)virtq_flush(guest.queue);
    guest_fini(&guest);
}

/* A table, and a buffer, that lie over the border of two abutting regions. */
HOME_LOOP
static void pieces_over_a_border(void **state)
{
    const uint64_t border = INDIRECT + 24;
    struct guest_region_def defs[2];
    struct iovec iov[VIRTQ_IOV_MAX];
    struct guest_memory *halves;
    struct virtq_elem elem;
    struct guest guest;

    guest_init(&guest, SIZE);
    defs[0] = (struct guest_region_def){0, border, USER, 0, os_dup(guest.fd)};
    defs[1] = (struct guest_region_def){border, RAM_BYTES - border, 0x7000000000, border,
                                        os_dup(guest.fd)};
    assert_int_equal(guest_memory_new(defs, 2, &halves, NULL), 0);
    start_at(&guest, INDIRECT_DESC, 0);
    assert_int_equal(virtq_set_memory(guest.queue, halves, NULL), 0);
    guest_memory_unref(halves);
    desc(&guest, 0, INDIRECT, 3 * 16, IND, 0);
    put_desc(&guest, INDIRECT, 0, DATA, 1, NEXT, 1);
    put_desc(&guest, INDIRECT, 1, DATA + 1, 1, NEXT, 2);
    put_desc(&guest, INDIRECT, 2, border - 4, 9, WRITE, 0);
    offer(&guest, 0);
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
    assert_int_equal(elem.out_count, 2);
    assert_int_equal(elem.in_count, 2);
    assert_int_equal(elem.in_bytes, 9);
    assert_int_equal(iov[2].iov_len, 4);
    virtq_push(guest.queue, &elem, 0);
    (void)virtq_flush(guest.queue);
    guest_fini(&guest);
}

/* ---- start ---------------------------------------------------------------------------------- */

HOME_LOOP
static void assert_no_start(struct guest *guest, const struct virtq_config *config,
                            struct guest_memory *memory, const char *text)
{
    AUTO(err) struct err *error = NULL;

    assert_int_equal(virtq_start(guest->queue, config, memory, &error), -EINVAL);
    if (strstr(error->text, text) == NULL || strstr(error->text, "queue 3: ") != error->text) {
        fail_msg("\"%s\" does not say \"%s\"", error->text, text);
    }
    assert_false(virtq_is_started(guest->queue));
}

HOME_LOOP
static void a_start_names_what_is_wrong(void **state)
{
    struct virtq_config good, bad;
    struct guest guest;

    guest_init(&guest, SIZE);
    good = config_of(&guest, EVENT_IDX, 0);
    assert_no_start(&guest, &good, NULL, "there is no memory table yet");
    bad = good;
    bad.features |= UINT64_C(1) << VIRTIO_F_RING_PACKED;
    assert_no_start(&guest, &bad, guest.memory, "packed virtqueues (feature bit 34)");
    for (unsigned size = 0; size < 65536; size = size * 2 + 3) {
        bad = good;
        bad.size = (uint16_t)size;
        assert_no_start(&guest, &bad, guest.memory, "is not a power of two up to 32768");
    }
    bad = good;
    bad.desc_user = USER + RAM_BYTES - SIZE * 16 + 16;
    assert_no_start(&guest, &bad, guest.memory, "the descriptor table at user address 0x");
    bad.desc_user = good.desc_user + 8;
    assert_no_start(&guest, &bad, guest.memory,
                    "the descriptor table at user address 0x10001008 is not aligned to 16");
    bad = good;
    bad.avail_user = USER + RAM_BYTES - (4 + 2 * SIZE); /* used_event does not fit */
    assert_no_start(&guest, &bad, guest.memory, "the available ring at user address 0x");
    bad.avail_user = good.avail_user + 1;
    assert_no_start(&guest, &bad, guest.memory, "is not aligned to 2");
    bad = good;
    bad.used_user = USER + RAM_BYTES - (4 + 8 * SIZE);
    assert_no_start(&guest, &bad, guest.memory, "the used ring at user address 0x");
    bad.used_user = good.used_user + 2;
    assert_no_start(&guest, &bad, guest.memory, "is not aligned to 4");
    bad.used_user = UINT64_MAX - 3;
    assert_no_start(&guest, &bad, guest.memory, "the used ring at user address 0x");
    guest_fini(&guest);
}

/* ---- notifications -------------------------------------------------------------------------- */

HOME_LOOP
static void answer(struct guest *guest, unsigned count)
{
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;

    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(virtq_pop(guest->queue, &elem, iov, NULL), 1);
        virtq_push(guest->queue, &elem, 0);
    }
}

/* Does some entry of the batch [@before, @before + @count) have the index @event? Modulo 2^16. */
static bool batch_hits(uint16_t before, unsigned count, uint16_t event)
{
    for (unsigned i = 0; i < count; i++) {
        if ((uint16_t)(before + i) == event) {
            return true;
        }
    }
    return false;
}

HOME_LOOP
static void interrupts_are_wanted_as_the_formula_says(void **state)
{
    static const uint16_t starts[] = {0, 1, 7, 1000, 32760, 32768, 65530, 65534, 65535};

    for (size_t i = 0; i < countof(starts); i++) {
        for (unsigned count = 1; count <= SIZE; count++) {
            for (int distance = -12; distance <= 12; distance++) {
                struct guest guest;
                uint16_t before = (uint16_t)(starts[i] + 1);
                uint16_t event = (uint16_t)(before + distance);

                guest_init(&guest, SIZE);
                start_at(&guest, EVENT_IDX, starts[i]);
                desc(&guest, 0, DATA, 1, 0, 0);
                offer(&guest, 0);
                answer(&guest, 1);
                assert_true(virtq_flush(guest.queue)); /* the first one is always told */
                for (unsigned k = 0; k < count; k++) {
                    offer(&guest, 0);
                }
                set_used_event(&guest, event);
                le16_store(guest.ram + AVAIL, 1); /* to be ignored with EVENT_IDX */
                answer(&guest, count);
                assert_int_equal(virtq_flush(guest.queue), batch_hits(before, count, event));
                assert_int_equal(used_idx(&guest), (uint16_t)(before + count));
                guest_fini(&guest);
            }
        }
    }
}

HOME_LOOP
static void interrupts_without_event_idx_follow_the_flag(void **state)
{
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, 0, 0);
    desc(&guest, 0, DATA, 1, 0, 0);
    for (unsigned i = 0; i < 6; i++) {
        offer(&guest, 0);
        le16_store(guest.ram + AVAIL, i % 2);
        set_used_event(&guest, used_idx(&guest)); /* to be ignored */
        answer(&guest, 1);
        assert_int_equal(virtq_flush(guest.queue), i == 0 || i % 2 == 0);
    }
    guest_fini(&guest);
}

HOME_LOOP
static void kicks_are_asked_for_and_not(void **state)
{
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, EVENT_IDX, 65534);
    desc(&guest, 0, DATA, 1, 0, 0);
    assert_int_equal(avail_event(&guest), 65534); /* on after the start */
    offer(&guest, 0);
    offer(&guest, 0);
    answer(&guest, 2);
    assert_int_equal(avail_event(&guest), 65534); /* no write per descriptor */
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 0);
    assert_int_equal(avail_event(&guest), 0); /* but when it runs dry, over the wrap */

    assert_false(virtq_set_kicks(guest.queue, false));
    offer(&guest, 0);
    answer(&guest, 1);
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 0);
    assert_int_equal(avail_event(&guest), 0); /* behind the driver: no kick */
    offer(&guest, 0);
    assert_true(virtq_set_kicks(guest.queue, true)); /* there was work already */
    assert_int_equal(avail_event(&guest), 1);
    answer(&guest, 1);
    assert_false(virtq_set_kicks(guest.queue, true));
    assert_int_equal(avail_event(&guest), 2);
    assert_int_equal(le16_load(guest.ram + USED), 0); /* flags stay 0: 2.7.10.2 */
    (void)virtq_flush(guest.queue);
    virtq_stop(guest.queue);

    start_at(&guest, 0, 0);
    assert_false(virtq_set_kicks(guest.queue, false));
    assert_int_equal(le16_load(guest.ram + USED), 1);
    offer(&guest, 0);
    assert_true(virtq_set_kicks(guest.queue, true));
    assert_int_equal(le16_load(guest.ram + USED), 0);
    guest_fini(&guest);
}

/* ---- many operations ------------------------------------------------------------------------ */

/* 70,000 chains in batches of random size, answered out of order: indices wrap, nothing is lost. */
HOME_LOOP
static void indices_wrap(void **state)
{
    enum { OPERATIONS = 70000, RING = 16 };
    struct virtq_elem elems[RING];
    struct iovec iov[RING][4];
    static struct iovec big[VIRTQ_IOV_MAX];
    uint16_t used_seen = 0;
    unsigned done = 0, seed = 3;
    struct guest guest;

    guest_init(&guest, RING);
    start_at(&guest, EVENT_IDX, 0);
    while (done < OPERATIONS) {
        unsigned batch = 1 + (unsigned)rand_r(&seed) % RING;
        bool answered[RING] = {false};

        for (unsigned i = 0; i < batch; i++) {
            desc(&guest, i, DATA + 64 * i, 8, 0, 0);
            le64_store(guest.ram + DATA + 64 * i, done + i);
            offer(&guest, (uint16_t)i);
        }
        for (unsigned i = 0; i < batch; i++) {
            uint64_t stamp = 0;

            assert_int_equal(virtq_pop(guest.queue, &elems[i], big, NULL), 1);
            memcpy(iov[i], big, sizeof(iov[i]));
            elems[i].iov = iov[i];
            assert_int_equal(virtq_elem_read(&elems[i], 0, &stamp, 8), 8);
            assert_int_equal(stamp, done + i);
        }
        assert_int_equal(virtq_pop(guest.queue, &elems[0], big, NULL), 0);
        for (unsigned i = 0; i < batch; i++) {
            virtq_push(guest.queue, &elems[batch - 1 - i], 0);
        }
        (void)virtq_flush(guest.queue);
        for (; used_seen != used_idx(&guest); used_seen++) {
            uint32_t id = le32_load(guest.ram + USED + 4 + 8 * (used_seen % RING));

            assert_true(id < batch);
            assert_false(answered[id]);
            answered[id] = true;
        }
        done += batch;
        assert_int_equal(used_seen, (uint16_t)done);
        for (unsigned i = 0; i < batch; i++) {
            assert_true(answered[i]);
        }
    }
    assert_int_equal(virtq_base(guest.queue), (uint16_t)done);
    guest_fini(&guest);
}

HOME_LOOP
static void what_was_popped_last_can_go_back(void **state)
{
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem, again;
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, EVENT_IDX, 65535);
    desc(&guest, 2, DATA, 1, 0, 0);
    offer(&guest, 2);
    offer(&guest, 2);
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
    assert_int_equal(virtq_pop(guest.queue, &again, iov, NULL), 1);
    assert_int_equal(virtq_base(guest.queue), 1);
    virtq_unpop(guest.queue, &again);
    virtq_unpop(guest.queue, &elem);
    assert_int_equal(virtq_base(guest.queue), 65535);
    assert_int_equal(virtq_out(guest.queue), 0);
    assert_true(virtq_has_work(guest.queue));
    answer(&guest, 2);
    assert_int_equal(virtq_base(guest.queue), 1);
    guest_fini(&guest);
}

/* ---- memory tables -------------------------------------------------------------------------- */

HOME_LOOP
static void old_tables_live_until_their_last_element(void **state)
{
    struct virtq_elem first, second, third;
    static struct iovec iov[3][VIRTQ_IOV_MAX];
    struct guest_memory *b, *a;
    struct guest guest;

    guest_init(&guest, SIZE);
    a = guest.memory;
    b = map_guest(&guest);
    start_at(&guest, EVENT_IDX, 0);
    desc(&guest, 0, DATA, 8, WRITE, 0);
    offer(&guest, 0);
    offer(&guest, 0);
    offer(&guest, 0);
    maps_freed = 0;

    assert_int_equal(virtq_pop(guest.queue, &first, iov[0], NULL), 1);
    assert_int_equal(virtq_set_memory(guest.queue, b, NULL), 0);
    assert_int_equal(virtq_pop(guest.queue, &second, iov[1], NULL), 1);
    assert_ptr_not_equal(iov[0][0].iov_base, iov[1][0].iov_base);
    assert_int_equal(virtq_set_memory(guest.queue, a, NULL), 0); /* back again: one use, not two */
    assert_int_equal(virtq_pop(guest.queue, &third, iov[2], NULL), 1);
    assert_int_equal(virtq_set_memory(guest.queue, b, NULL), 0);
    guest_memory_unref(a);
    guest.memory = b;
    guest.ram = guest_memory_at(b, 0, RAM_BYTES);

    virtq_push(guest.queue, &first, 0);
    assert_int_equal(maps_freed, 0);
    assert_int_equal(virtq_elem_write(guest.queue, &third, 0, "abcdefgh", 8), 8);
    virtq_push(guest.queue, &third, 8);
    assert_int_equal(maps_freed, 1);
    virtq_push(guest.queue, &second, 0);
    assert_true(virtq_flush(guest.queue));
    assert_int_equal(used_idx(&guest), 3); /* in the new mapping of the same memory */
    assert_memory_equal(guest.ram + DATA, "abcdefgh", 8);
    assert_int_equal(maps_freed, 1);
    guest_fini(&guest);
    assert_int_equal(maps_freed, 2);
}

HOME_LOOP
static void rings_outside_the_new_table_break_the_queue(void **state)
{
    struct guest_region_def def;
    AUTO(err) struct err *error = NULL;
    struct guest_memory *small;
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, 0, 0);
    def = (struct guest_region_def){0, USED, USER, 0, os_dup(guest.fd)};
    assert_int_equal(guest_memory_new(&def, 1, &small, NULL), 0);
    assert_int_equal(virtq_set_memory(guest.queue, small, &error), -EINVAL);
    assert_non_null(strstr(error->text, "queue 3: the used ring at user address"));
    assert_true(virtq_is_broken(guest.queue));
    guest_memory_unref(small);
    guest_fini(&guest);
}

/* Stopped with requests under way: they are answered in the ring, and only then memory is let
 * go. */
HOME_LOOP
static void a_stopped_queue_is_answered_to_the_end(void **state)
{
    static struct iovec iov[2][VIRTQ_IOV_MAX];
    struct virtq_elem elems[2], none;
    struct guest_memory *b;
    struct guest guest;

    guest_init(&guest, SIZE);
    b = map_guest(&guest);
    start_at(&guest, EVENT_IDX, 0);
    desc(&guest, 1, DATA, 8, WRITE, 0);
    for (int i = 0; i < 3; i++) {
        offer(&guest, 1);
    }
    assert_int_equal(virtq_pop(guest.queue, &elems[0], iov[0], NULL), 1);
    assert_int_equal(virtq_set_memory(guest.queue, b, NULL), 0);
    assert_int_equal(virtq_pop(guest.queue, &elems[1], iov[1], NULL), 1);
    virtq_stop(guest.queue);
    assert_int_equal(virtq_pop(guest.queue, &none, iov[0], NULL), 0);
    assert_false(virtq_has_work(guest.queue));
    guest_memory_unref(b);
    maps_freed = 0;
    virtq_push(guest.queue, &elems[1], 0); /* the rings are in b: it stays for the other one */
    assert_int_equal(maps_freed, 0);
    virtq_push(guest.queue, &elems[0], 0);
    assert_int_equal(maps_freed, 0);
    assert_true(virtq_flush(guest.queue));
    assert_int_equal(maps_freed, 1);
    assert_int_equal(used_idx(&guest), 2);
    assert_int_equal(virtq_base(guest.queue), 2);
    guest_fini(&guest);
}

/* The front end is gone: its requests end without touching a ring, and the memory goes with
 * them. */
HOME_LOOP
static void dropped_elements_leave_the_ring_alone(void **state)
{
    static struct iovec iov[2][VIRTQ_IOV_MAX];
    struct virtq_elem elems[2];
    struct guest guest;

    guest_init(&guest, SIZE);
    start_at(&guest, EVENT_IDX, 0);
    desc(&guest, 1, DATA, 8, WRITE, 0);
    offer(&guest, 1);
    offer(&guest, 1);
    assert_int_equal(virtq_pop(guest.queue, &elems[0], iov[0], NULL), 1);
    assert_int_equal(virtq_pop(guest.queue, &elems[1], iov[1], NULL), 1);
    virtq_stop(guest.queue);
    guest_memory_unref(guest.memory);
    maps_freed = 0;
    virtq_drop(guest.queue, &elems[0]);
    assert_int_equal(used_idx(&guest), 0);
    assert_int_equal(maps_freed, 0);
    virtq_drop(guest.queue, &elems[1]);
    assert_int_equal(virtq_out(guest.queue), 0);
    assert_int_equal(maps_freed, 1);
    guest.memory = NULL;
    guest_fini(&guest);
}

HOME_LOOP
static void memory_taken_away_breaks_the_queue(void **state)
{
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;
    struct guest guest;

    guest_init(&guest, SIZE);
    sigbus_to_guards();
    start_at(&guest, EVENT_IDX, 65535); /* so that zeroes in the ring look like an empty one */
    desc(&guest, 0, DATA, 8, WRITE, 0);
    offer(&guest, 0);
    assert_int_equal(virtq_pop(guest.queue, &elem, iov, NULL), 1);
    assert_int_equal(os_ftruncate(guest.fd, 0), 0);
    assert_int_equal(virtq_elem_write(guest.queue, &elem, 0, "abcdefgh", 8), 8);
    virtq_push(guest.queue, &elem, 8);
    (void)virtq_flush(guest.queue);
    assert_true(virtq_has_work(guest.queue)); /* to find out */
    assert_breaks(&guest, "took guest memory away");
    guest_fini(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_arrive_whole),
        cmocka_unit_test(indirect_tables_follow_direct_buffers),
        cmocka_unit_test(pieces_over_a_border),
        cmocka_unit_test(a_start_names_what_is_wrong),
        cmocka_unit_test(interrupts_are_wanted_as_the_formula_says),
        cmocka_unit_test(interrupts_without_event_idx_follow_the_flag),
        cmocka_unit_test(kicks_are_asked_for_and_not),
        cmocka_unit_test(indices_wrap),
        cmocka_unit_test(what_was_popped_last_can_go_back),
        cmocka_unit_test(old_tables_live_until_their_last_element),
        cmocka_unit_test(rings_outside_the_new_table_break_the_queue),
        cmocka_unit_test(a_stopped_queue_is_answered_to_the_end),
        cmocka_unit_test(dropped_elements_leave_the_ring_alone),
        cmocka_unit_test(memory_taken_away_breaks_the_queue),
    };
    sigbus_remember();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
