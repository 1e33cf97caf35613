/* test_park.c -- requests of a drained LUN: parked in order, restarted, purged, limited. */
#include "block/drain.h"
#include "rig.h"

static struct guest *guest;
static struct blk_section *section;

MAIN_LOOP CO_FN
static void section_begin_co(void *opaque)
{
    expect(blk_section_co_begin(blk_node_find(opaque), "test", 0, &section, NULL) == 0);
}

MAIN_LOOP CO_FN
static void section_end_co(void *opaque)
{
    blk_section_end(section);
}

/* ---- a home that stops in a lookup ---- */

static uint32_t pause_lookups; /* atomic: of target 1 */
static uint32_t paused;        /* atomic */

struct scsi_slot *__real_scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun);
struct scsi_slot *__wrap_scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun);
struct scsi_slot *__wrap_scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun)
{
    if (target == 1 && at_load(&pause_lookups)) {
        at_store(&paused, 1);
        while (at_load(&pause_lookups)) {
            rig_sleep_ms(1);
        }
        at_store(&paused, 0);
    }
    return __real_scsi_table_find(table, target, lun);
}

static int setup(void **state)
{
    rig_hold(false);
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'h',"
                          "'addr':{'type':'unix','path':'pk.sock'},"
                          "'num-queues':2,'iothread':['io0','io1']}") == 0);
    expect(rig_blockdev_add("{'driver':'hold','node-name':'n'}") == 0);
    expect(rig_blockdev_add("{'driver':'null-co','node-name':'other'}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'d','bus':'h.0','drive':'n'}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'o','bus':'h.0','drive':'other'}") == 0);
    guest = guest_new("pk.sock");
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    guest_settle(guest, 1, 0);
    rig_call(section_begin_co, "n");
    return 0;
}

static int teardown(void **state)
{
    unsigned before = rig_events("BLOCK_EXPORT_DELETED", "h");

    rig_hold(false);
    guest_free(guest);
    expect(rig_export_del("h", true) == 0);
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "h") > before, 5));
    expect(rig_blockdev_del("n") == 0);
    expect(rig_blockdev_del("other") == 0);
    return 0;
}

static int teardown_in_section(void **state)
{
    rig_call(section_end_co, NULL);
    return teardown(state);
}

static void a_drained_lun_delays_itself_alone(void **state)
{
    unsigned chain = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    struct guest_answer answer;

    /* what needs no medium is answered, another LUN on the same queue works */
    answer = guest_command(guest, 2, 0, 0, CDB(0x12, 0, 0, 0, 36, 0), 36);
    assert_int_equal(answer.status, SCSI_GOOD);
    answer = guest_command(guest, 2, 1, 0, READ_10(0, 1), 512);
    assert_int_equal(answer.status, SCSI_GOOD);
    assert_false(guest_wait(guest, 2, chain, 20));
    rig_call(section_end_co, NULL);
    assert_true(guest_wait(guest, 2, chain, 2000));
    assert_int_equal(guest_answer_of(guest, 2, chain).status, SCSI_GOOD);
}

static void many_sections_lose_nothing(void **state)
{
    rig_call(section_end_co, NULL);
    for (int i = 0; i < 300; i++) {
        unsigned a = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
        unsigned b = guest_submit(guest, 3, 0, 0, 2, READ_10(0, 1), 0, 512);
        unsigned c, d, e;

        rig_call(section_begin_co, "n");
        c = guest_submit(guest, 2, 0, 0, 3, READ_10(0, 1), 0, 512);
        d = guest_submit(guest, 3, 0, 0, 4, READ_10(0, 1), 0, 512);
        loop_co_spawn(loop_main(), section_end_co, NULL, "section end");
        for (volatile int spin = i * 1000; spin > 0; spin--) {
        }
        e = guest_submit(guest, 2, 0, 0, 5, READ_10(0, 1), 0, 512); /* while the gate opens */
        assert_true(guest_wait(guest, 2, a, 2000));
        assert_true(guest_wait(guest, 3, b, 2000));
        assert_true(guest_wait(guest, 2, c, 2000));
        assert_true(guest_wait(guest, 3, d, 2000));
        assert_true(guest_wait(guest, 2, e, 2000));
    }
}

static void a_quarter_of_the_ring_and_no_more(void **state)
{
    unsigned chains[GUEST_RING_SIZE / 4 + 2];
    struct guest_answer answer;

    for (size_t i = 0; i < countof(chains); i++) {
        chains[i] = guest_submit(guest, 2, 0, 0, i, READ_10(0, 1), 0, 512);
    }
    for (size_t i = GUEST_RING_SIZE / 4; i < countof(chains); i++) {
        assert_true(guest_wait(guest, 2, chains[i], 2000));
        assert_int_equal(guest_answer_of(guest, 2, chains[i]).status, SCSI_TASK_SET_FULL);
    }
    assert_false(guest_wait(guest, 2, chains[0], 10));
    answer = guest_command(guest, 2, 1, 0, READ_10(0, 1), 512);
    assert_int_equal(answer.status, SCSI_GOOD);
    rig_call(section_end_co, NULL);
    for (size_t i = 0; i < GUEST_RING_SIZE / 4; i++) {
        assert_true(guest_wait(guest, 2, chains[i], 2000));
        assert_int_equal(guest_answer_of(guest, 2, chains[i]).status, SCSI_GOOD);
    }
}

static void unplug_answers_parked_requests_with_sense(void **state)
{
    unsigned before = rig_events("DEVICE_DELETED", "d");
    unsigned a = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    unsigned b = guest_submit(guest, 3, 0, 0, 2, READ_10(0, 1), 0, 512);
    struct guest_answer answer;

    rig_sleep_ms(20);
    assert_int_equal(rig_device_del("d"), 0);
    assert_true(guest_wait(guest, 2, a, 2000)); /* although the section has not ended */
    assert_true(guest_wait(guest, 3, b, 2000));
    answer = guest_answer_of(guest, 2, a);
    assert_int_equal(answer.status, SCSI_CHECK_CONDITION);
    assert_int_equal(answer.sense[12], 0x25);
    assert_true(rig_wait_for(rig_events("DEVICE_DELETED", "d") > before, 2));
}

static void lun_reset_takes_parked_requests_away(void **state)
{
    unsigned a = guest_submit(guest, 3, 0, 0, 1, READ_10(0, 1), 0, 512);
    unsigned tmf;

    rig_sleep_ms(20);
    tmf = guest_tmf(guest, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 0, 0, 0);
    assert_true(guest_wait(guest, 0, tmf, 2000));
    assert_true(guest_wait(guest, 3, a, 0)); /* before the function itself */
    assert_int_equal(guest_answer_of(guest, 3, a).response, VIRTIO_SCSI_S_RESET);
}

static void stopping_a_ring_answers_busy(void **state)
{
    unsigned a = guest_submit(guest, 3, 0, 0, 1, READ_10(0, 1), 0, 512);
    uint32_t base = 0;

    rig_sleep_ms(20);
    assert_int_equal(vu_front_ring_stop(guest->front, 3, &base, NULL), 0);
    assert_int_equal(base, guest->rings[3].next_avail);
    assert_true(guest_wait(guest, 3, a, 0));
    assert_int_equal(guest_answer_of(guest, 3, a).response, VIRTIO_SCSI_S_BUSY);
}

/* A request that waits behind a parked one of its LUN is not overtaken by a later one. */
static void order_is_kept_behind_a_gate(void **state)
{
    unsigned chains[10];

    rig_hold(true);
    for (unsigned i = 0; i < countof(chains); i++) {
        chains[i] = guest_submit(guest, 2, 0, 0, i, READ_10(i, 1), 0, 512);
    }
    rig_sleep_ms(20);
    assert_int_equal(rig_held(), 0);
    rig_call(section_end_co, NULL);
    assert_true(rig_wait_for(rig_held() == countof(chains), 2));
    for (unsigned i = 0; i < countof(chains); i++) {
        assert_int_equal(rig_held_offset(i), i * 512);
    }
    rig_hold(false);
    for (unsigned i = 0; i < countof(chains); i++) {
        assert_true(guest_wait(guest, 2, chains[i], 2000));
    }
}

/* The gate is open, the home has not been told: what comes now goes behind the parked. */
static void nobody_overtakes_when_the_gate_opens(void **state)
{
    unsigned a, b, c;

    rig_hold(true);
    a = guest_submit(guest, 2, 0, 0, 1, READ_10(1, 1), 0, 512);
    rig_sleep_ms(20);
    at_store(&pause_lookups, 1);
    b = guest_submit(guest, 2, 1, 0, 2, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(at_load(&paused) == 1, 2));
    rig_call(section_end_co, NULL);
    c = guest_submit(guest, 2, 0, 0, 3, READ_10(2, 1), 0, 512);
    at_store(&pause_lookups, 0);
    assert_true(rig_wait_for(rig_held() == 2, 2));
    assert_int_equal(rig_held_offset(0), 512);
    assert_int_equal(rig_held_offset(1), 1024);
    rig_hold(false);
    assert_true(guest_wait(guest, 2, a, 2000));
    assert_true(guest_wait(guest, 2, b, 2000));
    assert_true(guest_wait(guest, 2, c, 2000));
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_drained_lun_delays_itself_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(many_sections_lose_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_quarter_of_the_ring_and_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(unplug_answers_parked_requests_with_sense, setup,
                                        teardown_in_section),
        cmocka_unit_test_setup_teardown(lun_reset_takes_parked_requests_away, setup,
                                        teardown_in_section),
        cmocka_unit_test_setup_teardown(stopping_a_ring_answers_busy, setup, teardown_in_section),
        cmocka_unit_test_setup_teardown(order_is_kept_behind_a_gate, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_overtakes_when_the_gate_opens, setup, teardown),
    };

    rig_iothread_add("io0");
    rig_iothread_add("io1");
    return cmocka_run_group_tests_name("hba park", tests, NULL, NULL);
}

int main(void)
{
    return rig_main(run);
}
