/* test_report.c -- TEST UNIT READY, REQUEST SENSE, READ CAPACITY. */
#include "golden.h"

ON_MAIN
static void test_unit_ready(void **state)
{
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    assert_good(RUN(&rig, 0x00, 0, 0, 0, 0, 0), 0);
    assert_sense(RUN(&rig, 0x00, 0, 0, 0, 1, 0), BAD_CDB);
    assert_sense(RUN(&rig, 0x00, 0, 0, 0, 0, 0x04), BAD_CDB); /* NACA */
    rig_fini(&rig);
}

ON_MAIN
static void sense_when_there_is_none(void **state)
{
    static const uint8_t fixed[18] = {0x70, 0, 0, 0, 0, 0, 0, 10}; /* SPC-4 4.5.3 */
    static const uint8_t descriptor[8] = {0x72};                   /* SPC-4 4.5.2 */
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    golden_check(&rig, CDB(0x03, 0, 0, 0, 0, 0), 4, 1, fixed, sizeof(fixed));
    golden_check(&rig, CDB(0x03, 1, 0, 0, 0, 0), 4, 1, descriptor, sizeof(descriptor));
    rig_fini(&rig);
}

ON_MAIN
static void request_sense_ends_a_unit_attention(void **state)
{
    uint8_t in[252];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    scsi_port_raise_ua(rig.port, SCSI_UA_CAPACITY_CHANGED);
    assert_good(RUN_IN(&rig, in, 252, 0x03, 0, 0, 0, 252, 0), 18);
    assert_memory_equal(in, ((uint8_t[18]){0x70, 0, 6, 0, 0, 0, 0, 10, [12] = 0x2a, 0x09}), 18);
    assert_good(RUN_IN(&rig, in, 252, 0x03, 0, 0, 0, 252, 0), 18);
    assert_int_equal(in[2], 0);

    scsi_port_raise_ua(rig.port, SCSI_UA_MODE_PARAMETERS_CHANGED);
    assert_good(RUN_IN(&rig, in, 252, 0x03, 1, 0, 0, 252, 0), 8);
    assert_memory_equal(in, ((uint8_t[8]){0x72, 6, 0x2a, 0x01}), 8);
    assert_good(RUN(&rig, 0x00, 0, 0, 0, 0, 0), 0);
    rig_fini(&rig);
}

/* One that the initiator could not read is not over. */
ON_MAIN
static void too_little_room_keeps_it(void **state)
{
    uint8_t in[18];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    scsi_port_raise_ua(rig.port, SCSI_UA_CAPACITY_CHANGED);
    assert_good(RUN_IN(&rig, in, 18, 0x03, 0, 0, 0, 0, 0), 0);
    assert_good(RUN_IN(&rig, in, 18, 0x03, 0, 0, 0, 13, 0), 13);
    assert_int_equal(in[2], 6);
    assert_good(RUN_IN(&rig, in, 13, 0x03, 0, 0, 0, 18, 0), 13);
    assert_good(RUN_IN(&rig, in, 18, 0x03, 1, 0, 0, 3, 0), 3);
    assert_good(RUN_IN(&rig, in, 18, 0x03, 0, 0, 0, 14, 0), 14);
    assert_int_equal(in[12] << 8 | in[13], 0x2a09);
    assert_good(RUN(&rig, 0x00, 0, 0, 0, 0, 0), 0);
    rig_fini(&rig);
}

ON_MAIN
static void capacity_of_a_small_disk(void **state)
{
    /* SBC-3 5.15.2: last LBA 2047, 512 bytes. */
    static const uint8_t ten[8] = {0, 0, 0x07, 0xff, 0, 0, 0x02, 0};
    /* SBC-3 5.16.2: the same, 8 logical blocks a physical one, LBPME. */
    static const uint8_t sixteen[32] = {[6] = 0x07, 0xff, 0, 0, 0x02, 0, 0, 0x03, 0x80};
    struct scsi_lu_config config = rig_config();
    uint8_t in[32];
    struct rig rig;

    config.physical_block_bytes = 4096;
    rig_init(&rig, (1 << 20) + 511, &config); /* what is no whole block does not count */
    for (size_t room = 0; room <= 8; room++) {
        assert_good(RUN_IN(&rig, in, room, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), room);
        assert_memory_equal(in, ten, room);
    }
    assert_good(RUN_IN(&rig, in, 32, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 8);
    golden_check(&rig, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 10, 4, sixteen,
                 32);
    rig_fini(&rig);
}

ON_MAIN
static void capacity_of_a_large_disk(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t in[32];
    struct rig rig;

    config.discard_reads_zero = true;
    rig_init_huge(&rig, UINT64_C(1) << 41, &config); /* 2^32 blocks: the last LBA is FFFFFFFFh */
    RUN_IN(&rig, in, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(be32_load(in), UINT32_MAX);
    RUN_IN(&rig, in, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    assert_true(be64_load(in) == UINT32_MAX);
    assert_int_equal(in[14], 0xc0); /* LBPME, LBPRZ */
    rig.bytes = UINT64_MAX;         /* grown under the guest's eyes */
    RUN_IN(&rig, in, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(be32_load(in), UINT32_MAX);
    RUN_IN(&rig, in, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    assert_true(be64_load(in) == (UINT64_MAX >> 9) - 1);
    rig_fini(&rig);
}

ON_MAIN
static void capacity_odd_questions(void **state)
{
    uint8_t in[32];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    /* An LBA needs PMI. */
    assert_sense(RUN_IN(&rig, in, 8, 0x25, 0, 0, 0, 0, 5, 0, 0, 0, 0), BAD_CDB);
    assert_good(RUN_IN(&rig, in, 8, 0x25, 0, 0, 0, 0, 5, 0, 0, 1, 0), 8);
    assert_sense(RUN_IN(&rig, in, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 32, 0, 0),
                 BAD_CDB);
    assert_good(RUN_IN(&rig, in, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 32, 1, 0), 32);
    rig.bytes = 511;
    assert_sense(RUN_IN(&rig, in, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_NOT_READY);
    assert_sense(RUN_IN(&rig, in, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0),
                 SCSI_NOT_READY);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unit_ready),
        cmocka_unit_test(sense_when_there_is_none),
        cmocka_unit_test(request_sense_ends_a_unit_attention),
        cmocka_unit_test(too_little_room_keeps_it),
        cmocka_unit_test(capacity_of_a_small_disk),
        cmocka_unit_test(capacity_of_a_large_disk),
        cmocka_unit_test(capacity_odd_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
