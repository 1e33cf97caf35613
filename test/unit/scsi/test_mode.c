/* test_mode.c -- MODE SENSE(6) and (10), byte for byte. */
#include "golden.h"

/* SBC-3 6.4.8, 6.4.5 and SPC-4 7.5.8: read-write error recovery, caching with WCE, control. */
#define PAGE_01 0x01, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define PAGE_08 0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define PAGE_0A 0x0a, 0x0a, 0x22, 0x10, 0, 0, 0, 0, 0, 0, 0, 0
/* SBC-3 6.4.2: 2048 blocks of 512 bytes. */
#define SHORT_LBA 0, 0, 0x08, 0, 0, 0, 0x02, 0
#define LONG_LBA 0, 0, 0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 0, 0, 0x02, 0

static const uint8_t six_08[] = {31, 0, 0x10, 8, SHORT_LBA, PAGE_08};
static const uint8_t six_08_dbd[] = {23, 0, 0x10, 0, PAGE_08};
static const uint8_t six_all[] = {55, 0, 0x10, 8, SHORT_LBA, PAGE_01, PAGE_08, PAGE_0A};
static const uint8_t six_01_dbd[] = {15, 0, 0x10, 0, PAGE_01};
static const uint8_t six_0a_dbd[] = {15, 0, 0x10, 0, PAGE_0A};
static const uint8_t ten_08[] = {0, 34, 0, 0x10, 0, 0, 0, 8, SHORT_LBA, PAGE_08};
static const uint8_t ten_08_long[] = {0, 42, 0, 0x10, 0x01, 0, 0, 16, LONG_LBA, PAGE_08};
static const uint8_t ten_08_dbd[] = {0, 26, 0, 0x10, 0, 0, 0, 0, PAGE_08};
static const uint8_t ten_all_long[] = {0, 66, 0, 0x10, 0x01, 0, 0, 16, LONG_LBA,
                                       PAGE_01, PAGE_08, PAGE_0A};
static const uint8_t six_changeable[] = { /* SPC-4 6.11.3: nothing can be changed */
    47, 0, 0x10, 0,
    0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x08, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x0a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};

#define ROW(cdb1, cdb2, cdb3, bytes) {cdb1, cdb2, cdb3, bytes, sizeof(bytes)}
struct row {
    uint8_t byte1, byte2, byte3;
    const uint8_t *expected;
    size_t bytes;
};

ON_MAIN
static void golden_six(void **state)
{
    static const struct row rows[] = {
        ROW(0x00, 0x08, 0x00, six_08),     ROW(0x08, 0x08, 0x00, six_08_dbd),
        ROW(0x00, 0x3f, 0x00, six_all),    ROW(0x08, 0x01, 0x00, six_01_dbd),
        ROW(0x08, 0x0a, 0x00, six_0a_dbd), ROW(0x08, 0x0a, 0xff, six_0a_dbd),
        ROW(0x00, 0x3f, 0xff, six_all),    ROW(0x08, 0x7f, 0x00, six_changeable),
        ROW(0x00, 0x88, 0x00, six_08), /* default values */
    };
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    for (size_t i = 0; i < countof(rows); i++) {
        golden_check(&rig, CDB(0x1a, rows[i].byte1, rows[i].byte2, rows[i].byte3, 0, 0), 4, 1,
                     rows[i].expected, rows[i].bytes);
    }
    rig_fini(&rig);
}

ON_MAIN
static void golden_ten(void **state)
{
    static const struct row rows[] = {
        ROW(0x00, 0x08, 0x00, ten_08),     ROW(0x10, 0x08, 0x00, ten_08_long),
        ROW(0x08, 0x08, 0x00, ten_08_dbd), ROW(0x18, 0x08, 0x00, ten_08_dbd), /* no LONGLBA */
        ROW(0x10, 0x3f, 0x00, ten_all_long),
    };
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    for (size_t i = 0; i < countof(rows); i++) {
        golden_check(&rig, CDB(0x5a, rows[i].byte1, rows[i].byte2, rows[i].byte3, 0, 0, 0, 0, 0, 0),
                     7, 2, rows[i].expected, rows[i].bytes);
    }
    rig_fini(&rig);
}

ON_MAIN
static void what_is_not_there(void **state)
{
    uint8_t in[255];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    for (unsigned page = 0; page < 0x3f; page++) {
        bool there = page == 0x01 || page == 0x08 || page == 0x0a;
        struct scsi_cmd cmd = RUN_IN(&rig, in, 255, 0x1a, 0, (uint8_t)page, 0, 255, 0);

        assert_int_equal(cmd.status, there ? SCSI_GOOD : SCSI_CHECK_CONDITION);
        if (!there) {
            assert_sense(cmd, BAD_CDB);
        }
        /* SPC-4 6.11.5: saved values. */
        assert_sense(RUN_IN(&rig, in, 255, 0x1a, 0, (uint8_t)(0xc0 | page), 0, 255, 0),
                     SCSI_SAVING_NOT_SUPPORTED);
    }
    for (unsigned subpage = 1; subpage < 0xff; subpage++) {
        assert_sense(RUN_IN(&rig, in, 255, 0x1a, 0, 0x08, (uint8_t)subpage, 255, 0), BAD_CDB);
        assert_sense(RUN_IN(&rig, in, 255, 0x1a, 0, 0x3f, (uint8_t)subpage, 255, 0), BAD_CDB);
    }
    /* LLBAA is MODE SENSE(10)'s alone. */
    assert_sense(RUN_IN(&rig, in, 255, 0x1a, 0x10, 0x08, 0, 255, 0), BAD_CDB);
    rig_fini(&rig);
}

ON_MAIN
static void properties_show(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t in[64];
    struct rig rig;

    config.read_only = true;
    config.dpofua = false;
    config.write_cache = false;
    config.logical_block_bytes = config.physical_block_bytes = 4096;
    rig_init_huge(&rig, UINT64_C(1) << 45, &config); /* 2^33 blocks */
    RUN_IN(&rig, in, 64, 0x1a, 0, 0x08, 0, 64, 0);
    assert_int_equal(in[2], 0x80); /* WP, no DPOFUA */
    assert_memory_equal(in + 4, ((uint8_t[]){0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0}), 8);
    assert_int_equal(in[14], 0); /* no WCE */
    RUN_IN(&rig, in, 64, 0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 64, 0);
    assert_int_equal(in[3], 0x80);
    assert_true(be64_load(in + 8) == UINT64_C(1) << 33);
    assert_int_equal(be32_load(in + 20), 4096);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_six),
        cmocka_unit_test(golden_ten),
        cmocka_unit_test(what_is_not_there),
        cmocka_unit_test(properties_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
