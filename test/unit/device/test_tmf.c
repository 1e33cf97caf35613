/* test_tmf.c -- task management and the rest of the control queue; queues that move. */
#include "base/bytes.h"
#include "loop/iothread.h"
#include "rig.h"

static struct guest *guest;

static int setup(void **state)
{
    rig_hold(false);
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'h',"
                          "'addr':{'type':'unix','path':'tm.sock'},"
                          "'num-queues':2,'iothread':['io0','io1']}") == 0);
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'g',"
                          "'addr':{'type':'unix','path':'tg.sock'}}") == 0);
    expect(rig_blockdev_add("{'driver':'hold','node-name':'n'}") == 0);
    expect(rig_blockdev_add("{'driver':'null-co','node-name':'other'}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'d','bus':'h.0','drive':'n',"
                          "'share-rw':true}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'o','bus':'h.0','drive':'other',"
                          "'scsi-id':0}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'d2','bus':'g.0','drive':'n','share-rw':true,"
                          "'scsi-id':4,'lun':4}") == 0);
    guest = guest_new("tm.sock");
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    guest_settle(guest, 0, 1);
    return 0;
}

static int teardown(void **state)
{
    unsigned before = rig_events("BLOCK_EXPORT_DELETED", "h");
    unsigned before_g = rig_events("BLOCK_EXPORT_DELETED", "g");

    rig_hold(false);
    guest_free(guest);
    expect(rig_export_del("h", true) == 0);
    expect(rig_export_del("g", true) == 0);
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "h") > before, 5));
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "g") > before_g, 5));
    expect(rig_blockdev_del("n") == 0);
    expect(rig_blockdev_del("other") == 0);
    return 0;
}

static uint8_t run_tmf(uint32_t subtype, uint8_t target, uint16_t lun, uint64_t tag)
{
    unsigned chain = guest_tmf(guest, subtype, target, lun, tag);

    expect(guest_wait(guest, 0, chain, 2000));
    expect(guest_written(guest, 0, chain) == 1);
    return guest_in(guest, 0, chain)[0];
}

/* RACES 49: the function waits for the requests that it affects, on whichever loop they are. */
static void lun_reset_completes_after_its_requests(void **state)
{
    unsigned a, b, other, tmf;
    struct guest_answer answer;

    rig_hold(true);
    a = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    b = guest_submit(guest, 3, 0, 0, 2, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 2, 2));
    tmf = guest_tmf(guest, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 0, 0, 0);
    assert_false(guest_wait(guest, 0, tmf, 30));
    /* nobody else waits: another LUN, another function */
    other = guest_submit(guest, 2, 0, 1, 3, READ_10(0, 1), 0, 512);
    assert_true(guest_wait(guest, 2, other, 2000));
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 0, 1, 0), VIRTIO_SCSI_S_OK);
    assert_non_null(strstr(rig_query_devices(), "\"plugged\""));
    rig_hold(false);
    assert_true(guest_wait(guest, 0, tmf, 2000));
    assert_int_equal(guest_in(guest, 0, tmf)[0], VIRTIO_SCSI_S_OK);
    assert_true(guest_wait(guest, 2, a, 0)); /* they were there before the function was */
    assert_true(guest_wait(guest, 3, b, 0));
    assert_int_equal(guest_answer_of(guest, 2, a).response, VIRTIO_SCSI_S_RESET);
    assert_int_equal(guest_answer_of(guest, 3, b).response, VIRTIO_SCSI_S_RESET);
    answer = guest_command(guest, 2, 0, 0, TEST_UNIT_READY, 0);
    assert_int_equal(answer.status, SCSI_CHECK_CONDITION);
    assert_int_equal(be16_load(answer.sense + 12), 0x2903);
}

static void lun_reset_reaches_the_unit_through_every_port(void **state)
{
    struct guest *second = guest_new("tg.sock");
    struct guest_answer answer;
    unsigned chain, tmf;

    guest_start_all(second, 1);
    guest_settle(second, 4, 4);
    rig_hold(true);
    chain = guest_submit(second, 2, 4, 4, 1, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    tmf = guest_tmf(guest, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 0, 0, 0);
    assert_false(guest_wait(guest, 0, tmf, 20));
    rig_hold(false);
    assert_true(guest_wait(guest, 0, tmf, 2000));
    assert_true(guest_wait(second, 2, chain, 2000));
    assert_int_equal(guest_answer_of(second, 2, chain).response, VIRTIO_SCSI_S_RESET);
    answer = guest_command(second, 2, 4, 4, TEST_UNIT_READY, 0);
    assert_int_equal(answer.status, SCSI_CHECK_CONDITION);
    guest_free(second);
}

static void abort_task_takes_the_one_with_the_tag(void **state)
{
    unsigned a, b, tmf;

    rig_hold(true);
    a = guest_submit(guest, 2, 0, 0, 11, READ_10(0, 1), 0, 512);
    b = guest_submit(guest, 3, 0, 0, 12, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 2, 2));
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_ABORT_TASK, 0, 0, 13), VIRTIO_SCSI_S_OK);
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_ABORT_TASK, 0, 1, 12), VIRTIO_SCSI_S_OK);
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_QUERY_TASK, 0, 0, 12),
                     VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_QUERY_TASK, 0, 0, 13), VIRTIO_SCSI_S_OK);
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_QUERY_TASK_SET, 0, 0, 0),
                     VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_QUERY_TASK_SET, 0, 1, 0), VIRTIO_SCSI_S_OK);
    tmf = guest_tmf(guest, VIRTIO_SCSI_T_TMF_ABORT_TASK, 0, 0, 12);
    assert_false(guest_wait(guest, 0, tmf, 20));
    rig_hold(false);
    assert_true(guest_wait(guest, 0, tmf, 2000));
    assert_true(guest_wait(guest, 3, b, 0));
    assert_int_equal(guest_answer_of(guest, 3, b).response, VIRTIO_SCSI_S_ABORTED);
    assert_true(guest_wait(guest, 2, a, 2000));
    assert_int_equal(guest_answer_of(guest, 2, a).response, VIRTIO_SCSI_S_OK);
}

static void abort_task_set_and_clear_task_set(void **state)
{
    static const uint32_t functions[] = {VIRTIO_SCSI_T_TMF_ABORT_TASK_SET,
                                         VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET};

    for (size_t i = 0; i < countof(functions); i++) {
        unsigned a, b, tmf;

        rig_hold(true);
        a = guest_submit(guest, 2, 0, 0, 11, READ_10(0, 1), 0, 512);
        b = guest_submit(guest, 3, 0, 0, 12, READ_10(0, 1), 0, 512);
        assert_true(rig_wait_for(rig_held() == 2, 2));
        tmf = guest_tmf(guest, functions[i], 0, 0, 0);
        assert_false(guest_wait(guest, 0, tmf, 20));
        rig_hold(false);
        assert_true(guest_wait(guest, 0, tmf, 2000));
        assert_true(guest_wait(guest, 2, a, 0));
        assert_true(guest_wait(guest, 3, b, 0));
        assert_int_equal(guest_answer_of(guest, 2, a).response, VIRTIO_SCSI_S_ABORTED);
        assert_int_equal(guest_answer_of(guest, 3, b).response, VIRTIO_SCSI_S_ABORTED);
        assert_int_equal(guest_command(guest, 2, 0, 0, TEST_UNIT_READY, 0).status, SCSI_GOOD);
    }
}

static void nexus_reset_is_of_the_whole_target(void **state)
{
    unsigned a, tmf;
    struct guest_answer answer;

    rig_hold(true);
    a = guest_submit(guest, 2, 0, 0, 11, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    tmf = guest_tmf(guest, VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET, 0, 77, 0); /* the LUN is ignored */
    assert_false(guest_wait(guest, 0, tmf, 20));
    rig_hold(false);
    assert_true(guest_wait(guest, 0, tmf, 2000));
    assert_int_equal(guest_in(guest, 0, tmf)[0], VIRTIO_SCSI_S_OK);
    assert_true(guest_wait(guest, 2, a, 0));
    assert_int_equal(guest_answer_of(guest, 2, a).response, VIRTIO_SCSI_S_RESET);
    answer = guest_command(guest, 2, 0, 1, TEST_UNIT_READY, 0);
    assert_int_equal(be16_load(answer.sense + 12), 0x2907);
}

static void wrong_addresses_and_functions(void **state)
{
    for (uint32_t f = 0; f < 10; f++) {
        uint8_t no_lun = f == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET ? VIRTIO_SCSI_S_OK
                                                                : VIRTIO_SCSI_S_INCORRECT_LUN;

        assert_int_equal(run_tmf(f, 200, 0, 0), VIRTIO_SCSI_S_BAD_TARGET);
        assert_int_equal(run_tmf(f, 0, 5, 0), no_lun);
    }
    assert_int_equal(run_tmf(VIRTIO_SCSI_T_TMF_CLEAR_ACA, 0, 0, 0),
                     VIRTIO_SCSI_S_FUNCTION_REJECTED);
    assert_int_equal(run_tmf(8, 0, 0, 0), VIRTIO_SCSI_S_FUNCTION_REJECTED);
}

static void asynchronous_notification_has_no_events(void **state)
{
    for (uint32_t type = 1; type <= 2; type++) {
        for (unsigned lun = 0; lun < 3; lun++) {
            uint8_t out[16] = {0};
            unsigned chain;

            le32_store(out, type);
            hba_address_format(0, (uint16_t)lun, out + 4);
            le32_store(out + 12, 0x7e);
            chain = guest_submit_raw(guest, 0, out, sizeof(out), 5);
            assert_true(guest_wait(guest, 0, chain, 2000));
            assert_int_equal(le32_load(guest_in(guest, 0, chain)), 0);
            assert_int_equal(guest_in(guest, 0, chain)[4],
                             lun < 2 ? VIRTIO_SCSI_S_OK : VIRTIO_SCSI_S_INCORRECT_LUN);
        }
    }
}

static void unknown_control_requests_fail(void **state)
{
    unsigned chain = guest_submit_raw(guest, 0, "\x09\0\0\0", 4, 5);

    assert_true(guest_wait(guest, 0, chain, 2000));
    assert_int_equal(guest_in(guest, 0, chain)[0], VIRTIO_SCSI_S_FAILURE);
    chain = guest_submit_raw(guest, 0, "\0\0\0\0", 4, 1); /* a TMF without its fields */
    assert_true(guest_wait(guest, 0, chain, 2000));
    assert_int_equal(guest_in(guest, 0, chain)[0], VIRTIO_SCSI_S_FAILURE);
}

/* ---- moving a queue -------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void move_co(void *opaque)
{
    struct hba *hba = hba_find("h");

    hba_queue_co_move(&hba->queues[2], iothread_loop(iothread_find(opaque)));
}

static void a_queue_moves_with_its_requests(void **state)
{
    static char *const homes[] = {"io1", "io0"};

    for (int i = 0; i < 60; i++) {
        unsigned a, b;

        rig_hold(i % 3 == 0);
        a = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
        rig_call(move_co, homes[i % 2]);
        b = guest_submit(guest, 2, 0, 0, 2, READ_10(0, 1), 0, 512);
        if (i % 3 == 0) {
            rig_sleep_ms(2);
        }
        rig_hold(false);
        assert_true(guest_wait(guest, 2, a, 2000));
        assert_true(guest_wait(guest, 2, b, 2000));
        assert_int_equal(guest_answer_of(guest, 2, a).status, SCSI_GOOD);
    }
}

MAIN_LOOP CO_FN
static void stop_queue_co(void *opaque)
{
    struct hba *hba = hba_find("h");
    int *ret_rc = opaque;
    uint32_t base = 0;

    *ret_rc = hba_queue_co_stop(&hba->queues[2], &base);
}

CO_FN
static void move_and_unhold_co(void *opaque)
{
    loop_assert_main();
    loop_co_sleep(UINT64_C(20000000));
    move_co("io1");
    move_co("io0"); /* where the stop waits */
    rig_hold(false);
}

/* What comes back at the new home is still made visible before the ring is gone. */
static void a_queue_moves_while_it_stops(void **state)
{
    int rc = -1;
    unsigned chain;

    rig_hold(true);
    chain = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    loop_co_spawn(loop_main(), move_and_unhold_co, NULL, "move");
    rig_call(stop_queue_co, &rc);
    assert_int_equal(rc, 0);
    assert_true(guest_wait(guest, 2, chain, 0)); /* before the stop was answered */
    assert_int_equal(guest_answer_of(guest, 2, chain).status, SCSI_GOOD);
}

#define tmf_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static int run(void)
{
    const struct CMUnitTest tests[] = {
        tmf_test(lun_reset_completes_after_its_requests),
        tmf_test(lun_reset_reaches_the_unit_through_every_port),
        tmf_test(abort_task_takes_the_one_with_the_tag),
        tmf_test(abort_task_set_and_clear_task_set),
        tmf_test(nexus_reset_is_of_the_whole_target),
        tmf_test(wrong_addresses_and_functions),
        tmf_test(asynchronous_notification_has_no_events),
        tmf_test(unknown_control_requests_fail),
        tmf_test(a_queue_moves_with_its_requests),
        tmf_test(a_queue_moves_while_it_stops),
    };

    rig_iothread_add("io0");
    rig_iothread_add("io1");
    return cmocka_run_group_tests_name("hba tmf", tests, NULL, NULL);
}

int main(void)
{
    return rig_main(run);
}
