/* test_request.c -- commands through a real socket, ring and logical unit: addressing, answers,
 * nonsense. */
#include "base/bytes.h"
#include "rig.h"

static struct guest *guest;

static int setup(void **state)
{
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'h',"
                          "'addr':{'type':'unix','path':'rq.sock'},"
                          "'num-queues':2}") == 0);
    expect(rig_blockdev_add("{'driver':'null-co','node-name':'n','size':1048576,"
                            "'read-zeroes':true}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'d','bus':'h.0','drive':'n',"
                          "'scsi-id':1,'lun':300}") == 0);
    guest = guest_new("rq.sock");
    guest_start_all(guest, 2);
    return 0;
}

static int teardown(void **state)
{
    guest_free(guest);
    expect(rig_export_del("h", true) == 0);
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "h") > 0, 5));
    expect(rig_blockdev_del("n") == 0);
    return 0;
}

static void addresses_are_parsed_as_the_standard_says(void **state)
{
    static const struct {
        uint8_t lun[8];
        bool known;
        uint8_t target;
        uint16_t number;
    } rows[] = {
        {{1, 5, 0, 7}, true, 5, 7},
        {{1, 255, 0x40, 7}, true, 255, 7},
        {{1, 0, 0x7f, 0xff}, true, 0, 16383},
        {{1, 2, 0xc1, 0x01}, true, 2, SCSI_LUN_WELL_KNOWN_REPORT},
        {{0xc1, 0x01}, true, 0, SCSI_LUN_WELL_KNOWN_REPORT},
        {{1, 2, 0x01, 3}, true, 2, HBA_LUN_NONE},          /* peripheral device, bus 1 */
        {{1, 2, 0x80, 3}, true, 2, HBA_LUN_NONE},          /* logical unit addressing */
        {{1, 2, 0, 3, 0, 1}, true, 2, HBA_LUN_NONE},       /* a second level */
        {{0, 2, 0, 3}, false, 0, 0},
        {{2, 2, 0, 3}, false, 0, 0},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        uint8_t target = 0;
        uint16_t lun = 0;

        assert_int_equal(hba_address_parse(rows[i].lun, &target, &lun), rows[i].known);
        if (rows[i].known) {
            assert_int_equal(target, rows[i].target);
            assert_int_equal(lun, rows[i].number);
        }
    }
    for (unsigned lun = 0; lun < SCSI_LUNS_MAX; lun += 37) {
        uint8_t bytes[8];
        uint8_t target = 0;
        uint16_t again = 0;

        hba_address_format(9, (uint16_t)lun, bytes);
        assert_true(hba_address_parse(bytes, &target, &again));
        assert_int_equal(target, 9);
        assert_int_equal(again, lun);
    }
}

static void every_target_answers(void **state)
{
    for (unsigned target = 0; target < 256; target++) {
        struct guest_answer answer = guest_command(guest, 2, (uint8_t)target, 0,
                                                   CDB(0x12, 0, 0, 0, 36, 0), 36);

        if (target != 1) {
            assert_int_equal(answer.response, VIRTIO_SCSI_S_BAD_TARGET);
        } else { /* it has a LUN, though not this one: peripheral qualifier 3 */
            assert_int_equal(answer.response, VIRTIO_SCSI_S_OK);
            assert_int_equal(answer.data[0], 0x7f);
        }
    }
}

static void lookup_is_exact(void **state)
{
    struct guest_answer answer;

    guest_settle(guest, 1, 300);
    answer = guest_command(guest, 3, 1, 301, TEST_UNIT_READY, 0);
    assert_int_equal(answer.status, SCSI_CHECK_CONDITION);
    assert_int_equal(answer.sense[2], 5);
    assert_int_equal(answer.sense[12], 0x25); /* LOGICAL UNIT NOT SUPPORTED */
    answer = guest_command(guest, 3, 1, 300, READ_10(0, 1), 512);
    assert_int_equal(answer.response, VIRTIO_SCSI_S_OK);
    assert_int_equal(answer.status, SCSI_GOOD);
    assert_int_equal(answer.residual, 0);
    assert_int_equal(answer.data[0], 0);
    assert_int_equal(answer.data[511], 0);
}

static void report_luns_at_the_well_known_unit(void **state)
{
    struct guest_answer answer =
        guest_command(guest, 2, 1, 300, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0), 512);

    assert_int_equal(answer.status, SCSI_GOOD);
    assert_int_equal(be32_load(answer.data), 8);
    assert_int_equal(be16_load(answer.data + 8), 0x4000 | 300);
}

static void residual_and_overrun(void **state)
{
    struct guest_answer answer;

    guest_settle(guest, 1, 300);
    answer = guest_command(guest, 2, 1, 300, READ_10(0, 2), 4096);
    assert_int_equal(answer.response, VIRTIO_SCSI_S_OK);
    assert_int_equal(answer.residual, 4096 - 1024);
    answer = guest_command(guest, 2, 1, 300, READ_10(0, 2), 512);
    assert_int_equal(answer.response, VIRTIO_SCSI_S_OVERRUN);
    assert_int_equal(answer.data[0], 0xee); /* nothing was executed */
}

static void bidirectional_is_refused(void **state)
{
    unsigned chain = guest_submit(guest, 2, 1, 300, 1, TEST_UNIT_READY, 512, 512);

    assert_true(guest_wait(guest, 2, chain, 2000));
    assert_int_equal(guest_answer_of(guest, 2, chain).response, VIRTIO_SCSI_S_FAILURE);
}

static void short_header_is_a_failure(void **state)
{
    unsigned chain = guest_submit_raw(guest, 2, "\1\1\0", 3, sizeof(struct virtio_scsi_cmd_resp));

    assert_true(guest_wait(guest, 2, chain, 2000));
    assert_int_equal(guest_answer_of(guest, 2, chain).response, VIRTIO_SCSI_S_FAILURE);
}

static void sense_area_is_zeroed_whole(void **state)
{
    struct guest_answer answer;

    guest_settle(guest, 1, 300);
    answer = guest_command(guest, 2, 1, 300, TEST_UNIT_READY, 0);
    assert_int_equal(answer.sense_bytes, 0);
    for (int i = 0; i < 96; i++) {
        assert_int_equal(answer.sense[i], 0);
    }
}

static void no_room_for_the_answer_breaks_the_ring_alone(void **state)
{
    unsigned chain;

    guest_settle(guest, 1, 300);
    rig_log_clear();
    chain = guest_submit_raw(guest, 3, "nonsense", 8, 107);
    assert_false(guest_wait(guest, 3, chain, 50));
    assert_true(rig_wait_for(strstr(rig_log(), "ring 3") != NULL, 2));
    assert_non_null(strstr(rig_log(), "108"));
    assert_non_null(strstr(rig_log(), "'h'"));
    assert_int_equal(guest_command(guest, 2, 1, 300, TEST_UNIT_READY, 0).status, SCSI_GOOD);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_parsed_as_the_standard_says),
        cmocka_unit_test(every_target_answers),
        cmocka_unit_test(lookup_is_exact),
        cmocka_unit_test(report_luns_at_the_well_known_unit),
        cmocka_unit_test(residual_and_overrun),
        cmocka_unit_test(bidirectional_is_refused),
        cmocka_unit_test(short_header_is_a_failure),
        cmocka_unit_test(sense_area_is_zeroed_whole),
        cmocka_unit_test(no_room_for_the_answer_breaks_the_ring_alone),
    };

    return cmocka_run_group_tests_name("hba request", tests, setup, teardown);
}

int main(void)
{
    return rig_main(run);
}
