/* test_inquiry.c -- INQUIRY: standard data and each VPD page, byte for byte. */
#include "golden.h"

/* SPC-4 6.4.2, table 142: direct access, SPC-3, HISUP, format 2, CMDQUE; vendor, product, revision.
 */
static const uint8_t standard[96] = {
    0x00, 0x00, 0x05, 0x12, 91,  0x00, 0x00, 0x02,
    'C',  'A',  'I',  'S',  'S', 'O',  'N',  ' ',
    'V',  'I',  'R',  'T',  'U', 'A',  'L',  ' ', 'D', 'I', 'S', 'K', ' ', ' ', ' ', ' ',
    '1',  '.',  '0',  ' ',
    [58] = 0x00, 0x60, 0x03, 0x00, 0x04, 0xc0, /* SAM-3, SPC-3, SBC-3 */
};

/* SPC-4 7.8.17: supported pages, ascending. */
static const uint8_t page_00[] = {0x00, 0x00, 0x00, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};
/* SPC-4 7.8.15. */
static const uint8_t page_80[] = {0x00, 0x80, 0x00, 5, 'S', '4', '7', '1', '1'};
/* SPC-4 7.8.6: T10 vendor id based (ASCII, logical unit, type 1) of vendor, product, serial number.
 */
static const uint8_t page_83[] = {
    0x00, 0x83, 0x00, 33,  0x02, 0x01, 0x00, 29,
    'C',  'A',  'I',  'S', 'S',  'O',  'N',  ' ',
    'V',  'I',  'R',  'T', 'U',  'A',  'L',  ' ', 'D', 'I', 'S', 'K', ' ', ' ', ' ', ' ',
    'S',  '4',  '7',  '1', '1',
};
/* SBC-3 6.5.3: 4194303 blocks a transfer; 2097152 blocks in 255 descriptors an UNMAP, granularity
 * 1; 2097152 blocks a WRITE SAME. */
static const uint8_t page_b0[64] = {
    0x00, 0xb0, 0x00, 0x3c,
    [8] = 0x00, 0x3f, 0xff, 0xff,
    [20] = 0x00, 0x20, 0x00, 0x00, [24] = 0x00, 0x00, 0x00, 0xff, [28] = 0x00, 0x00, 0x00, 0x01,
    [36] = 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00,
};
/* SBC-3 6.5.2. */
static const uint8_t page_b1[64] = {0x00, 0xb1, 0x00, 0x3c};
/* SBC-3 6.5.4: LBPU, LBPWS, LBPWS10; thin. */
static const uint8_t page_b2[8] = {0x00, 0xb2, 0x00, 0x04, 0x00, 0xe0, 0x02, 0x00};

ON_MAIN
static void golden_pages(void **state)
{
    static const struct {
        const uint8_t *expected;
        size_t bytes;
        uint8_t evpd, page;
    } rows[] = {
        {standard, sizeof(standard), 0, 0x00}, {page_00, sizeof(page_00), 1, 0x00},
        {page_80, sizeof(page_80), 1, 0x80},   {page_83, sizeof(page_83), 1, 0x83},
        {page_b0, sizeof(page_b0), 1, 0xb0},   {page_b1, sizeof(page_b1), 1, 0xb1},
        {page_b2, sizeof(page_b2), 1, 0xb2},
    };
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    for (size_t i = 0; i < countof(rows); i++) {
        golden_check(&rig, CDB(0x12, rows[i].evpd, rows[i].page, 0, 0, 0), 3, 2, rows[i].expected,
                     rows[i].bytes);
    }
    rig_fini(&rig);
}

ON_MAIN
static void allocation_length_has_two_bytes(void **state)
{
    uint8_t in[300];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    assert_good(RUN_IN(&rig, in, sizeof(in), 0x12, 0, 0, 0x01, 0x00, 0), 96);
    assert_good(RUN_IN(&rig, in, sizeof(in), 0x12, 0, 0, 0xff, 0xff, 0), 96);
    rig_fini(&rig);
}

ON_MAIN
static void pages_that_are_not_there(void **state)
{
    uint8_t in[300];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    for (unsigned page = 0; page < 256; page++) {
        bool there = page == 0x00 || page == 0x80 || page == 0x83 || (page >= 0xb0 && page <= 0xb2);
        struct scsi_cmd cmd = RUN_IN(&rig, in, 255, 0x12, 0x01, (uint8_t)page, 0, 255, 0);

        assert_int_equal(cmd.status, there ? SCSI_GOOD : SCSI_CHECK_CONDITION);
        if (!there) {
            assert_sense(cmd, BAD_CDB);
        }
        /* SPC-4 6.4.1: a page code without EVPD. */
        cmd = RUN_IN(&rig, in, 255, 0x12, 0x00, (uint8_t)page, 0, 255, 0);
        assert_int_equal(cmd.status, page == 0 ? SCSI_GOOD : SCSI_CHECK_CONDITION);
    }
    assert_sense(RUN_IN(&rig, in, 255, 0x12, 0x02, 0, 0, 255, 0), BAD_CDB);
    rig_fini(&rig);
}

ON_MAIN
static void no_serial_no_identity(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t in[64];
    struct rig rig;

    config.serial[0] = '\0';
    rig_init(&rig, 1 << 20, &config);
    assert_good(RUN_IN(&rig, in, 64, 0x12, 1, 0x00, 0, 64, 0), 9);
    assert_memory_equal(in, ((uint8_t[]){0, 0, 0, 5, 0x00, 0x83, 0xb0, 0xb1, 0xb2}), 9);
    assert_sense(RUN_IN(&rig, in, 64, 0x12, 1, 0x80, 0, 64, 0), BAD_CDB);
    assert_good(RUN_IN(&rig, in, 64, 0x12, 1, 0x83, 0, 64, 0), 4);
    assert_memory_equal(in, ((uint8_t[]){0, 0x83, 0, 0}), 4);
    rig_fini(&rig);
}

ON_MAIN
static void every_designator(void **state)
{
    /* SPC-4 7.8.6: device_id wins over the serial number; NAA, NAA of the port, relative port. */
    static const uint8_t tail[] = {
        'd',  'i',  's',  'k',  '0',
        0x01, 0x03, 0x00, 0x08, 0x50, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
        0x61, 0x93, 0x00, 0x08, 0x50, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10,
        0x61, 0x94, 0x00, 0x04, 0x00, 0x00, 0x01, 0x02,
    };
    struct scsi_lu_config config = rig_config();
    uint8_t expected[32 + sizeof(tail)];
    struct rig rig;

    memcpy(config.device_id, "disk0", 6);
    config.wwn = 0x5001020304050607;
    config.port_wwn = 0x500a0b0c0d0e0f10;
    config.port_index = 0x0102;
    memcpy(expected, page_83, 32);
    memcpy(expected + 32, tail, sizeof(tail));
    expected[3] = sizeof(expected) - 4;
    rig_init(&rig, 1 << 20, &config);
    golden_check(&rig, CDB(0x12, 1, 0x83, 0, 0, 0), 3, 2, expected, sizeof(expected));
    rig_fini(&rig);
}

ON_MAIN
static void properties_show(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t in[96];
    struct rig rig;

    config.logical_block_bytes = config.physical_block_bytes = 4096;
    config.removable = true;
    config.scsi_version = 6;
    config.rotation_rate = 7200;
    config.min_io_bytes = 65536;
    config.opt_io_bytes = 1 << 20;
    config.discard_granularity_bytes = 1 << 16;
    config.max_unmap_bytes = 0; /* no limit */
    config.max_io_bytes = 1 << 20;
    config.discard_reads_zero = true;
    memset(config.serial, 'x', sizeof(config.serial) - 1);
    rig_init(&rig, 1 << 20, &config);

    RUN_IN(&rig, in, 96, 0x12, 0, 0, 0, 96, 0);
    assert_int_equal(in[1], 0x80);
    assert_int_equal(in[2], 0x06);
    assert_memory_equal(in + 58, ((uint8_t[]){0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0}), 6);
    assert_good(RUN_IN(&rig, in, 96, 0x12, 1, 0x80, 0, 96, 0), 4 + 36);
    RUN_IN(&rig, in, 96, 0x12, 1, 0xb0, 0, 96, 0);
    assert_int_equal(be16_load(in + 6), 16);          /* optimal transfer length granularity */
    assert_int_equal(be32_load(in + 8), 256);         /* maximum transfer length */
    assert_int_equal(be32_load(in + 12), 256);        /* optimal transfer length */
    assert_int_equal(be32_load(in + 20), UINT32_MAX); /* maximum unmap LBA count: no limit */
    assert_int_equal(be32_load(in + 28), 16);         /* optimal unmap granularity */
    assert_int_equal(be64_load(in + 36), 0);          /* maximum write same length: not reported */
    RUN_IN(&rig, in, 96, 0x12, 1, 0xb1, 0, 96, 0);
    assert_int_equal(be16_load(in + 4), 7200);
    RUN_IN(&rig, in, 96, 0x12, 1, 0xb2, 0, 96, 0);
    assert_int_equal(in[5], 0xe4);
    rig_fini(&rig);
}

ON_MAIN
static void thick_disks_offer_no_unmap(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t in[96];
    struct rig rig;

    config.thin = false;
    rig_init(&rig, 1 << 20, &config);
    RUN_IN(&rig, in, 96, 0x12, 1, 0xb0, 0, 96, 0);
    assert_int_equal(be32_load(in + 20), 0);
    assert_int_equal(be32_load(in + 24), 0);
    assert_int_equal(be32_load(in + 28), 0);
    RUN_IN(&rig, in, 96, 0x12, 1, 0xb2, 0, 96, 0);
    assert_memory_equal(in, ((uint8_t[]){0, 0xb2, 0, 4, 0, 0, 0, 0}), 8);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_pages),
        cmocka_unit_test(allocation_length_has_two_bytes),
        cmocka_unit_test(pages_that_are_not_there),
        cmocka_unit_test(no_serial_no_identity),
        cmocka_unit_test(every_designator),
        cmocka_unit_test(properties_show),
        cmocka_unit_test(thick_disks_offer_no_unmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
