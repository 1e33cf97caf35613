/* test_zero.c -- UNMAP and WRITE SAME. */
#include "golden.h"
#include "base/mem.h"
#include <errno.h>

enum { DISK_BYTES = 4 << 20, DISK_BLOCKS = DISK_BYTES / 512 };

/* ---- UNMAP ---- */

struct range {
    uint64_t lba;
    uint32_t blocks;
};

/* A parameter list with true lengths (SBC-3 5.28.2); its bytes. */
static size_t make_list(const struct range *ranges, size_t count, uint8_t *to)
{
    memset(to, 0, 8 + count * 16);
    be16_store(to, (uint16_t)(6 + count * 16));
    be16_store(to + 2, (uint16_t)(count * 16));
    for (size_t i = 0; i < count; i++) {
        be64_store(to + 8 + i * 16, ranges[i].lba);
        be32_store(to + 16 + i * 16, ranges[i].blocks);
    }
    return 8 + count * 16;
}

ON_MAIN
static struct scsi_cmd unmap(struct rig *rig, const uint8_t *list, size_t length, size_t room)
{
    return RUN_OUT(rig, list, room, 0x42, 0, 0, 0, 0, 0, 0, (uint8_t)(length >> 8),
                   (uint8_t)length);
}

ON_MAIN
static void unmap_unmaps(void **state)
{
    static const struct range ranges[] = {{3, 2}, {100, 1}, {7, 0}, {DISK_BLOCKS - 1, 1}};
    uint8_t list[256];
    size_t bytes = make_list(ranges, countof(ranges), list);
    uint8_t *expected = mem_alloc(DISK_BYTES);
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    memcpy(expected, rig.store, DISK_BYTES);
    for (size_t i = 0; i < countof(ranges); i++) {
        memset(expected + ranges[i].lba * 512, 0, ranges[i].blocks * 512);
    }
    assert_good(unmap(&rig, list, bytes, bytes), bytes);
    assert_memory_equal(rig.store, expected, DISK_BYTES);
    assert_int_equal(rig.calls[RIG_DISCARD], 3);
    assert_int_equal(rig.calls[RIG_FLUSH], 0);
    assert_int_equal(rig.turns, 3); /* others get a turn between the ranges */
    rig_fini(&rig);
    mem_free(expected);
}

ON_MAIN
static void unmap_lengths(void **state)
{
    static const struct range ranges[] = {{3, 2}, {100, 1}};
    uint8_t list[64] = {0};
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    make_list(ranges, 2, list);
    /* No list at all, or one without descriptors, is no error. */
    assert_good(unmap(&rig, list, 0, 40), 0);
    for (size_t length = 1; length < 8; length++) {
        assert_sense(unmap(&rig, list, length, 40), SCSI_PARAMETER_LIST_LENGTH);
    }
    /* Cut within the descriptors that the header promises. */
    for (size_t length = 8; length < 40; length++) {
        assert_sense(unmap(&rig, list, length, 40), SCSI_PARAMETER_LIST_LENGTH);
    }
    /* Less data than the CDB says. */
    assert_sense(unmap(&rig, list, 40, 39), BAD_CDB);
    assert_sense(unmap(&rig, list, 40, 0), BAD_CDB);
    assert_int_equal(rig.calls[RIG_DISCARD], 0);
    /* More in the list than the header says is not looked at. */
    be16_store(list + 2, 16);
    assert_good(unmap(&rig, list, 40, 40), 40);
    assert_int_equal(rig.calls[RIG_DISCARD], 1);
    /* An incomplete last descriptor is ignored. */
    be16_store(list + 2, 31);
    assert_good(unmap(&rig, list, 40, 64), 40);
    assert_int_equal(rig.calls[RIG_DISCARD], 2);
    be16_store(list + 2, 15);
    assert_good(unmap(&rig, list, 8, 8), 8);
    assert_int_equal(rig.calls[RIG_DISCARD], 2);
    be16_store(list + 2, 0);
    assert_good(unmap(&rig, list, 8, 8), 8);
    assert_int_equal(rig.calls[RIG_DISCARD], 2);
    /* ANCHOR is not supported. */
    assert_sense(RUN_OUT(&rig, list, 8, 0x42, 0x01, 0, 0, 0, 0, 0, 0, 8), BAD_CDB);
    rig_fini(&rig);
}

/* A list that is wrong anywhere changes nothing anywhere. */
ON_MAIN
static void unmap_checks_before_it_starts(void **state)
{
    static const struct range bad[] = {
        {DISK_BLOCKS, 1}, {DISK_BLOCKS - 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX, UINT32_MAX},
        {UINT64_C(1) << 55, 1}, {DISK_BLOCKS + 1, 0},
    };
    uint8_t list[64];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 0; i < countof(bad); i++) {
        struct range ranges[] = {{3, 2}, {5, 1}, bad[i]};
        size_t bytes = make_list(ranges, 3, list);

        assert_sense(unmap(&rig, list, bytes, bytes), OUT_OF_RANGE);
    }
    assert_int_equal(rig.calls[RIG_DISCARD], 0);
    rig_fini(&rig);
}

ON_MAIN
static void unmap_limits(void **state)
{
    struct scsi_lu_config config = rig_config();
    struct range ranges[SCSI_UNMAP_DESCRIPTORS_MAX + 1];
    uint8_t *list = mem_alloc(8 + 16 * countof(ranges));
    size_t bytes;
    struct rig rig;

    for (size_t i = 0; i < countof(ranges); i++) {
        ranges[i] = (struct range){i * 2, 1};
    }
    config.max_unmap_bytes = SCSI_UNMAP_DESCRIPTORS_MAX * 512;
    rig_init(&rig, DISK_BYTES, &config);
    bytes = make_list(ranges, SCSI_UNMAP_DESCRIPTORS_MAX, list);
    assert_good(unmap(&rig, list, bytes, bytes), bytes);
    assert_int_equal(rig.calls[RIG_DISCARD], SCSI_UNMAP_DESCRIPTORS_MAX);
    rig_forget(&rig);
    bytes = make_list(ranges, SCSI_UNMAP_DESCRIPTORS_MAX + 1, list); /* a descriptor too many */
    assert_sense(unmap(&rig, list, bytes, bytes), SCSI_INVALID_FIELD_IN_PARAMETERS);
    ranges[1].blocks++; /* a block too many */
    bytes = make_list(ranges, SCSI_UNMAP_DESCRIPTORS_MAX, list);
    assert_sense(unmap(&rig, list, bytes, bytes), SCSI_INVALID_FIELD_IN_PARAMETERS);
    bytes = make_list((struct range[]){{0, 256}}, 1, list);
    assert_sense(unmap(&rig, list, bytes, bytes), SCSI_INVALID_FIELD_IN_PARAMETERS);
    assert_int_equal(rig.calls[RIG_DISCARD], 0);
    rig_fini(&rig);
    mem_free(list);
}

ON_MAIN
static void unmap_of_a_huge_range(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t list[24];
    struct rig rig;

    config.max_unmap_bytes = 0;
    rig_init_huge(&rig, UINT64_C(1) << 50, &config);
    make_list((struct range[]){{0, UINT32_MAX}}, 1, list);
    assert_good(unmap(&rig, list, 24, 24), 24);
    assert_int_equal(rig.calls[RIG_DISCARD], 8192); /* 2 TiB in chunks of 256 MiB */
    assert_int_equal(rig.turns, 8191);
    rig_fini(&rig);
}

ON_MAIN
static void unmap_is_a_wish(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t list[24];
    struct rig rig;

    make_list((struct range[]){{0, 1}}, 1, list);
    config.write_cache = false;
    rig_init(&rig, DISK_BYTES, &config);
    rig.fail[RIG_DISCARD] = -ENOTSUP; /* may be ignored */
    assert_good(unmap(&rig, list, 24, 24), 24);
    assert_int_equal(rig.calls[RIG_FLUSH], 1); /* no cache: what is answered is stored */
    rig.fail[RIG_DISCARD] = -EIO;              /* may not */
    assert_sense(unmap(&rig, list, 24, 24), SCSI_WRITE_ERROR);
    rig_fini(&rig);
    config.thin = false; /* not offered: not there */
    rig_init(&rig, DISK_BYTES, &config);
    assert_sense(unmap(&rig, list, 24, 24), SCSI_INVALID_OPCODE);
    assert_int_equal(rig.calls[RIG_DISCARD], 0);
    rig_fini(&rig);
}

/* ---- WRITE SAME ---- */

ON_MAIN
static struct scsi_cmd write_same_10(struct rig *rig, uint8_t bits, uint32_t lba, uint16_t blocks,
                                     const void *block, size_t room)
{
    uint8_t cdb[10] = {0x41, bits};

    be32_store(cdb + 2, lba);
    be16_store(cdb + 7, blocks);
    return rig_run(rig, cdb, sizeof(cdb), block, room, NULL, 0);
}

ON_MAIN
static struct scsi_cmd write_same_16(struct rig *rig, uint8_t bits, uint64_t lba, uint32_t blocks,
                                     const void *block, size_t room)
{
    uint8_t cdb[16] = {0x93, bits};

    be64_store(cdb + 2, lba);
    be32_store(cdb + 10, blocks);
    return rig_run(rig, cdb, sizeof(cdb), block, room, NULL, 0);
}

/* Blocks [@lba, + @blocks) are @block, their neighbours as they were. */
static void check_same(const struct rig *rig, uint64_t lba, uint64_t blocks, const uint8_t *block)
{
    for (uint64_t i = lba; i < lba + blocks; i++) {
        assert_memory_equal(rig->store + i * 512, block, 512);
    }
    if (lba > 0) {
        assert_memory_not_equal(rig->store + (lba - 1) * 512, block, 512);
    }
    if (lba + blocks < DISK_BLOCKS) {
        assert_memory_not_equal(rig->store + (lba + blocks) * 512, block, 512);
    }
}

static void fill_block(uint8_t *block, uint8_t seed)
{
    for (size_t i = 0; i < 512; i++) {
        block[i] = (uint8_t)(i * 7 + seed);
    }
}

ON_MAIN
static void a_pattern_is_written(void **state)
{
    static const uint16_t lengths[] = {1, 2, 127, 128, 129, 2047, 2048, 2049, 4100};
    uint8_t block[512];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 0; i < countof(lengths); i++) {
        fill_block(block, (uint8_t)(i + 1));
        assert_good(write_same_10(&rig, 0, 5, lengths[i], block, 512), 512);
        check_same(&rig, 5, lengths[i], block);
        assert_int_equal(rig.turns, (lengths[i] - 1) / 2048); /* a turn after each MiB */
        fill_block(block, (uint8_t)(i + 101));
        /* UNMAP is no excuse */
        assert_good(write_same_16(&rig, 0x08, 5, lengths[i], block, 512), 512);
        check_same(&rig, 5, lengths[i], block);
    }
    assert_int_equal(rig.calls[RIG_ZEROES] + rig.calls[RIG_DISCARD], 0);
    rig_fini(&rig);
}

ON_MAIN
static void zeroes_are_not_written_one_by_one(void **state)
{
    static const uint8_t zeroes[512];
    struct scsi_lu_config config = rig_config();
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    assert_good(write_same_10(&rig, 0x00, 1, 2, zeroes, 512), 512);
    assert_int_equal(rig.flags, 0);
    check_same(&rig, 1, 2, zeroes);
    assert_good(write_same_10(&rig, 0x08, 11, 2, zeroes, 512), 512);
    assert_int_equal(rig.flags, SCSI_MEDIUM_MAY_UNMAP);
    check_same(&rig, 11, 2, zeroes);
    assert_good(write_same_16(&rig, 0x08, 21, 3, zeroes, 512), 512);
    assert_int_equal(rig.flags, SCSI_MEDIUM_MAY_UNMAP);
    check_same(&rig, 21, 3, zeroes);
    assert_good(write_same_16(&rig, 0x01, 31, 3, NULL, 0), 0); /* NDOB */
    assert_int_equal(rig.flags, 0);
    check_same(&rig, 31, 3, zeroes);
    assert_good(write_same_16(&rig, 0x09, 41, 3, NULL, 0), 0); /* NDOB and UNMAP */
    assert_int_equal(rig.flags, SCSI_MEDIUM_MAY_UNMAP);
    check_same(&rig, 41, 3, zeroes);
    assert_int_equal(rig.calls[RIG_WRITE], 0);
    assert_int_equal(rig.calls[RIG_ZEROES], 5);
    rig_fini(&rig);
    config.write_cache = false;
    rig_init(&rig, DISK_BYTES, &config);
    assert_good(write_same_10(&rig, 0x08, 1, 2, zeroes, 512), 512);
    assert_int_equal(rig.flags, SCSI_MEDIUM_MAY_UNMAP | SCSI_MEDIUM_FUA);
    rig_fini(&rig);
}

ON_MAIN
static void zero_blocks_is_to_the_end(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t block[512];
    struct rig rig;

    config.max_unmap_bytes = 16 * 512; /* MAXIMUM WRITE SAME LENGTH is 16 */
    fill_block(block, 9);
    rig_init(&rig, DISK_BYTES, &config);
    assert_good(write_same_10(&rig, 0, DISK_BLOCKS - 16, 0, block, 512), 512);
    check_same(&rig, DISK_BLOCKS - 16, 16, block);
    fill_block(block, 10);
    assert_good(write_same_16(&rig, 0, DISK_BLOCKS - 3, 0, block, 512), 512);
    check_same(&rig, DISK_BLOCKS - 3, 3, block);
    rig_forget(&rig);
    assert_sense(write_same_16(&rig, 0, DISK_BLOCKS - 17, 0, block, 512), BAD_CDB);
    assert_sense(write_same_16(&rig, 0, 0, 17, block, 512), BAD_CDB);
    assert_sense(write_same_16(&rig, 0, DISK_BLOCKS, 0, block, 512), OUT_OF_RANGE);
    assert_sense(write_same_16(&rig, 0, UINT64_MAX, 0, block, 512), OUT_OF_RANGE);
    assert_int_equal(rig.calls[RIG_WRITE], 0);
    rig_fini(&rig);
}

ON_MAIN
static void write_same_refused(void **state)
{
    struct scsi_lu_config config = rig_config();
    uint8_t block[512];
    struct rig rig;

    fill_block(block, 1);
    rig_init(&rig, DISK_BYTES, NULL);
    assert_sense(write_same_10(&rig, 0, DISK_BLOCKS - 1, 2, block, 512), OUT_OF_RANGE);
    assert_sense(write_same_16(&rig, 0, UINT64_MAX, 2, block, 512), OUT_OF_RANGE);
    assert_sense(write_same_10(&rig, 0, 0, 1, block, 511), BAD_CDB);
    assert_sense(write_same_16(&rig, 0, 0, 1, block, 0), BAD_CDB);
    assert_sense(write_same_10(&rig, 0x10, 0, 1, block, 512), BAD_CDB); /* ANCHOR */
    assert_sense(write_same_16(&rig, 0x18, 0, 1, block, 512), BAD_CDB);
    assert_sense(write_same_10(&rig, 0x20, 0, 1, block, 512), BAD_CDB); /* WRPROTECT */
    assert_sense(write_same_10(&rig, 0x01, 0, 1, block, 512), BAD_CDB); /* NDOB */
    mem_fail_nth(1);
    assert_sense(write_same_10(&rig, 0, 0, 1, block, 512), SCSI_INSUFFICIENT_RESOURCES);
    mem_fail_nth(0);
    assert_int_equal(rig.calls[RIG_WRITE] + rig.calls[RIG_ZEROES], 0);
    rig_fini(&rig);
    config.thin = false;
    rig_init(&rig, DISK_BYTES, &config);
    assert_sense(write_same_16(&rig, 0x08, 0, 1, block, 512), BAD_CDB);
    assert_good(write_same_16(&rig, 0x00, 0, 1, block, 512), 512);
    rig_fini(&rig);
}

ON_MAIN
static void large_blocks(void **state)
{
    struct scsi_lu_config config = rig_config();
    size_t bytes = SCSI_BLOCK_BYTES_MAX;
    uint8_t *block = mem_alloc(bytes);
    struct rig rig;

    config.logical_block_bytes = config.physical_block_bytes = SCSI_BLOCK_BYTES_MAX;
    memset(block, 0x5a, bytes);
    rig_init(&rig, 2 * bytes, &config);
    assert_good(write_same_10(&rig, 0, 0, 2, block, bytes), bytes);
    assert_memory_equal(rig.store, block, bytes);
    assert_memory_equal(rig.store + bytes, block, bytes);
    assert_int_equal(rig.calls[RIG_WRITE], 2);
    rig_fini(&rig);
    config.logical_block_bytes = config.physical_block_bytes = 128 << 10;
    rig_init(&rig, 2 * bytes, &config);
    assert_good(write_same_10(&rig, 0, 0, 32, block, 128 << 10), 128 << 10);
    assert_memory_equal(rig.store, block, bytes);
    assert_int_equal(rig.calls[RIG_WRITE], 4);
    rig_fini(&rig);
    mem_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unmap_unmaps),
        cmocka_unit_test(unmap_lengths),
        cmocka_unit_test(unmap_checks_before_it_starts),
        cmocka_unit_test(unmap_limits),
        cmocka_unit_test(unmap_of_a_huge_range),
        cmocka_unit_test(unmap_is_a_wish),
        cmocka_unit_test(a_pattern_is_written),
        cmocka_unit_test(zeroes_are_not_written_one_by_one),
        cmocka_unit_test(zero_blocks_is_to_the_end),
        cmocka_unit_test(write_same_refused),
        cmocka_unit_test(large_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
