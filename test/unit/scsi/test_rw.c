/* test_rw.c -- READ, WRITE and SYNCHRONIZE CACHE in all their sizes. */
#include "golden.h"
#include "base/mem.h"
#include "co/co.h"

enum { DISK_BYTES = 1 << 20, DISK_BLOCKS = DISK_BYTES / 512 };

/* A READ or WRITE CDB of the given opcode; its bytes. */
static size_t make_cdb(uint8_t opcode, uint8_t bits, uint64_t lba, uint32_t blocks, uint8_t *to)
{
    size_t bytes = scsi_cdb_bytes(opcode);

    memset(to, 0, 16);
    to[0] = opcode;
    to[1] = bits;
    switch (bytes) {
    case 6:
        to[1] = (uint8_t)(lba >> 16);
        be16_store(to + 2, (uint16_t)lba);
        to[4] = (uint8_t)blocks;
        break;
    case 10:
        be32_store(to + 2, (uint32_t)lba);
        be16_store(to + 7, (uint16_t)blocks);
        break;
    case 12:
        be32_store(to + 2, (uint32_t)lba);
        be32_store(to + 6, blocks);
        break;
    default:
        be64_store(to + 2, lba);
        be32_store(to + 10, blocks);
    }
    return bytes;
}

ON_MAIN
static struct scsi_cmd do_read(struct rig *rig, uint8_t opcode, uint8_t bits, uint64_t lba,
                               uint32_t blocks, void *in, size_t room)
{
    uint8_t cdb[16];
    size_t bytes = make_cdb(opcode, bits, lba, blocks, cdb);

    return rig_run(rig, cdb, bytes, NULL, 0, in, room);
}

ON_MAIN
static struct scsi_cmd do_write(struct rig *rig, uint8_t opcode, uint8_t bits, uint64_t lba,
                                uint32_t blocks, const void *out, size_t room)
{
    uint8_t cdb[16];
    size_t bytes = make_cdb(opcode, bits, lba, blocks, cdb);

    return rig_run(rig, cdb, bytes, out, room, NULL, 0);
}

static const uint8_t reads[] = {0x08, 0x28, 0xa8, 0x88}, writes[] = {0x0a, 0x2a, 0xaa, 0x8a};

ON_MAIN
static void every_size_reads_and_writes(void **state)
{
    uint8_t data[5 * 512], in[5 * 512];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 0; i < 4; i++) {
        memset(data, (int)(0x11 * (i + 1)), sizeof(data));
        assert_good(do_write(&rig, writes[i], 0, 100 * i + 7, 5, data, sizeof(data)), sizeof(data));
        assert_memory_equal(rig.store + (100 * i + 7) * 512, data, sizeof(data));
        assert_int_not_equal(rig.store[(100 * i + 7) * 512 - 1], data[0]);
        assert_int_not_equal(rig.store[(100 * i + 12) * 512], data[0]);
        assert_good(do_read(&rig, reads[i], 0, 100 * i + 7, 5, in, sizeof(in)), sizeof(in));
        assert_memory_equal(in, data, sizeof(in));
    }
    assert_int_equal(rig.calls[RIG_READ], 4);
    assert_int_equal(rig.calls[RIG_WRITE], 4);
    assert_int_equal(rig.calls[RIG_FLUSH], 0);
    rig_fini(&rig);
}

ON_MAIN
static void zero_blocks(void **state)
{
    uint8_t *in = mem_alloc(256 * 512);
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    /* SBC-3 5.10, 5.33: with six bytes 0 is 256. */
    assert_good(do_read(&rig, 0x08, 0, 3, 0, in, 256 * 512), 256 * 512);
    assert_memory_equal(in, rig.store + 3 * 512, 256 * 512);
    memset(in, 0x77, 256 * 512);
    assert_good(do_write(&rig, 0x0a, 0, 3, 0, in, 256 * 512), 256 * 512);
    assert_memory_equal(in, rig.store + 3 * 512, 256 * 512);
    assert_sense(do_read(&rig, 0x08, 0, DISK_BLOCKS - 255, 0, in, 256 * 512), OUT_OF_RANGE);
    rig_forget(&rig);
    /* The others move nothing, but their LBA is checked. */
    for (size_t i = 1; i < 4; i++) {
        assert_good(do_read(&rig, reads[i], 0, 0, 0, in, 512), 0);
        assert_good(do_write(&rig, writes[i], 0, 0, 0, in, 512), 0);
        assert_good(do_read(&rig, reads[i], 0, DISK_BLOCKS, 0, in, 512), 0);
        assert_sense(do_read(&rig, reads[i], 0, DISK_BLOCKS + 1, 0, in, 512), OUT_OF_RANGE);
        assert_sense(do_write(&rig, writes[i], 0, DISK_BLOCKS + 1, 0, in, 512), OUT_OF_RANGE);
    }
    assert_int_equal(rig.calls[RIG_READ] + rig.calls[RIG_WRITE], 0);
    rig_fini(&rig);
    mem_free(in);
}

ON_MAIN
static void outside_the_disk(void **state)
{
    static const struct {
        uint64_t lba;
        uint32_t blocks;
    } rows[] = {
        {DISK_BLOCKS, 1},           {DISK_BLOCKS - 1, 2},      {0, DISK_BLOCKS + 1},
        {UINT64_MAX, 1},            {UINT64_MAX, 2},           {UINT64_MAX - 1, 3},
        {UINT64_C(1) << 55, 1},     {UINT64_MAX >> 9, 1},      {(UINT64_MAX >> 9) + 1, 8},
        {UINT64_C(1) << 63, 1},     {1, 0x200000},
    };
    uint8_t *buffer = mem_alloc(DISK_BYTES + 1024);
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 0; i < countof(rows); i++) {
        assert_sense(do_read(&rig, 0x88, 0, rows[i].lba, rows[i].blocks, buffer, DISK_BYTES + 1024),
                     OUT_OF_RANGE);
        assert_sense(do_write(&rig, 0x8a, 0, rows[i].lba, rows[i].blocks, buffer,
                              DISK_BYTES + 1024),
                     OUT_OF_RANGE);
    }
    assert_sense(do_read(&rig, 0x28, 0, UINT32_MAX, 1, buffer, 512), OUT_OF_RANGE);
    assert_sense(do_read(&rig, 0x08, 0, 0x1fffff, 1, buffer, 512), OUT_OF_RANGE);
    assert_int_equal(rig.calls[RIG_READ] + rig.calls[RIG_WRITE], 0);
    assert_good(do_read(&rig, 0x88, 0, DISK_BLOCKS - 1, 1, buffer, 512), 512);
    assert_good(do_read(&rig, 0x88, 0, 0, DISK_BLOCKS, buffer, DISK_BYTES), DISK_BYTES);
    assert_memory_equal(buffer, rig.store, DISK_BYTES);
    rig_fini(&rig);
    mem_free(buffer);
}

/* LBAs beyond 32 bits reach the medium whole. */
ON_MAIN
static void far_away(void **state)
{
    uint8_t block[4096];
    struct scsi_lu_config config = rig_config();
    struct rig rig;

    config.logical_block_bytes = config.physical_block_bytes = 4096;
    rig_init_huge(&rig, UINT64_MAX & ~UINT64_C(4095), &config);
    assert_good(do_read(&rig, 0x88, 0, (UINT64_MAX >> 12) - 1, 1, block, 4096), 4096);
    assert_true(rig.offset == (UINT64_MAX & ~UINT64_C(4095)) - 4096);
    assert_good(do_read(&rig, 0x28, 0, UINT32_MAX, 1, block, 4096), 4096);
    assert_true(rig.offset == (uint64_t)UINT32_MAX << 12);
    assert_good(do_read(&rig, 0xa8, 0, UINT32_MAX, 1, block, 4096), 4096);
    assert_good(do_read(&rig, 0x08, 0, 0x1fffff, 1, block, 4096), 4096);
    assert_true(rig.offset == (uint64_t)0x1fffff << 12);
    rig_fini(&rig);
}

ON_MAIN
static void room_and_transfer_differ(void **state)
{
    uint8_t buffer[2048], before[2048];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    /* Data-in is cut to the room; only what fits is asked of the medium. */
    for (size_t room = 0; room <= 1100; room += 100) {
        size_t moved = min_of(room, (size_t)1024);

        rig_forget(&rig);
        assert_good(do_read(&rig, 0x28, 0, 9, 2, buffer, room), moved);
        assert_memory_equal(buffer, rig.store + 9 * 512, moved);
        assert_int_equal(rig.calls[RIG_READ], moved > 0);
    }
    /* Too little data-out is refused whole; of too much the front is used. */
    memcpy(before, rig.store, sizeof(before));
    memset(buffer, 0x42, sizeof(buffer));
    rig_forget(&rig);
    assert_sense(do_write(&rig, 0x2a, 0, 0, 2, buffer, 1023), BAD_CDB);
    assert_sense(do_write(&rig, 0x2a, 0, 0, 2, buffer, 0), BAD_CDB);
    assert_int_equal(rig.calls[RIG_WRITE], 0);
    assert_memory_equal(rig.store, before, sizeof(before));
    assert_good(do_write(&rig, 0x2a, 0, 0, 2, buffer, 2048), 1024);
    assert_memory_equal(rig.store, buffer, 1024);
    assert_memory_equal(rig.store + 1024, before + 1024, 1024);
    rig_fini(&rig);
}

/* The list of an odd-sized buffer cannot be had. */
ON_MAIN
static void no_memory_for_a_shorter_list(void **state)
{
    uint8_t buffer[2048] = {0};
    struct scsi_cmd cmd;
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    mem_fail_nth(1);
    cmd = do_read(&rig, 0x28, 0, 0, 1, buffer, 2048);
    assert_sense(cmd, SCSI_INSUFFICIENT_RESOURCES);
    mem_fail_nth(1);
    assert_sense(do_write(&rig, 0x2a, 0, 0, 1, buffer, 2048), SCSI_INSUFFICIENT_RESOURCES);
    mem_fail_nth(1); /* exact sizes need none */
    assert_good(do_read(&rig, 0x28, 0, 0, 4, buffer, 2048), 2048);
    assert_good(do_write(&rig, 0x2a, 0, 0, 4, buffer, 2048), 2048);
    mem_fail_nth(0);
    rig_fini(&rig);
}

struct passed {
    struct rig *rig;
    struct scsi_cmd cmd;
};

CO_FN
static void execute_as_is(void *opaque)
{
    struct passed *passed = opaque;

    scsi_co_execute(passed->rig->port, &passed->cmd);
}

/* The fast path: the medium gets the initiator's own list, not a copy of it. */
ON_MAIN
static void buffers_are_passed_as_they_are(void **state)
{
    uint8_t cdb[SCSI_CDB_BYTES_MAX] = {0x28, 0, 0, 0, 0, 5, 0, 0, 2}, data[1024];
    struct iovec iov[] = {{data, 1000}, {data + 1000, 24}};
    struct rig rig;
    struct passed passed = {.rig = &rig};

    rig_init(&rig, DISK_BYTES, NULL);
    passed.cmd = (struct scsi_cmd){.cdb = cdb, .data_in = iov, .data_in_count = 2,
                                   .data_in_bytes = 1024};
    co_start(co_new(execute_as_is, &passed, (struct co_sched *)rig.home, "read"));
    assert_int_equal(passed.cmd.transferred, 1024);
    assert_ptr_equal(rig.iov, iov);
    assert_int_equal(rig.iov_count, 2);
    cdb[0] = 0x2a;
    passed.cmd = (struct scsi_cmd){.cdb = cdb, .data_out = iov, .data_out_count = 2,
                                   .data_out_bytes = 1024};
    co_start(co_new(execute_as_is, &passed, (struct co_sched *)rig.home, "write"));
    assert_int_equal(passed.cmd.transferred, 1024);
    assert_ptr_equal(rig.iov, iov);
    rig_fini(&rig);
}

ON_MAIN
static void forced_unit_access(void **state)
{
    uint8_t block[512] = {0};
    struct scsi_lu_config config = rig_config();
    struct rig rig;

    rig_init(&rig, DISK_BYTES, &config);
    for (size_t i = 1; i < 4; i++) {
        rig_forget(&rig);
        assert_good(do_write(&rig, writes[i], 0x00, 0, 1, block, 512), 512);
        assert_int_equal(rig.flags, 0);
        assert_good(do_write(&rig, writes[i], 0x10, 0, 1, block, 512), 512); /* DPO: a hint */
        assert_int_equal(rig.flags, 0);
        assert_good(do_read(&rig, reads[i], 0x10, 0, 1, block, 512), 512);
        assert_int_equal(rig.calls[RIG_FLUSH], 0);
        assert_good(do_write(&rig, writes[i], 0x08, 0, 1, block, 512), 512);
        assert_int_equal(rig.flags, SCSI_MEDIUM_FUA);
        assert_int_equal(rig.calls[RIG_FLUSH], 0);
        assert_good(do_read(&rig, reads[i], 0x08, 0, 1, block, 512), 512);
        assert_int_equal(rig.calls[RIG_FLUSH], 1);
    }
    rig_fini(&rig);

    config.dpofua = false;
    config.write_cache = false;
    rig_init(&rig, DISK_BYTES, &config);
    for (size_t i = 0; i < 4; i++) { /* without a cache every write is forced */
        rig.flags = 0;
        assert_good(do_write(&rig, writes[i], 0, 0, 1, block, 512), 512);
        assert_int_equal(rig.flags, SCSI_MEDIUM_FUA);
    }
    for (size_t i = 1; i < 4; i++) { /* without DPOFUA neither bit is supported */
        assert_sense(do_write(&rig, writes[i], 0x08, 0, 1, block, 512), BAD_CDB);
        assert_sense(do_read(&rig, reads[i], 0x10, 0, 1, block, 512), BAD_CDB);
    }
    rig_fini(&rig);
}

ON_MAIN
static void protection_is_not_supported(void **state)
{
    uint8_t block[512] = {0};
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 1; i < 4; i++) {
        for (unsigned protect = 1; protect < 8; protect++) {
            assert_sense(do_read(&rig, reads[i], (uint8_t)(protect << 5), 0, 1, block, 512),
                         BAD_CDB);
            assert_sense(do_write(&rig, writes[i], (uint8_t)(protect << 5), 0, 1, block, 512),
                         BAD_CDB);
        }
    }
    assert_int_equal(rig.calls[RIG_READ] + rig.calls[RIG_WRITE], 0);
    rig_fini(&rig);
}

ON_MAIN
static void maximum_transfer_length(void **state)
{
    uint8_t buffer[9 * 512] = {0};
    struct scsi_lu_config config = rig_config();
    struct rig rig;

    config.max_io_bytes = 8 * 512 + 511;
    rig_init(&rig, DISK_BYTES, &config);
    for (size_t i = 0; i < 4; i++) {
        assert_good(do_read(&rig, reads[i], 0, 0, 8, buffer, 8 * 512), 8 * 512);
        assert_sense(do_read(&rig, reads[i], 0, 0, 9, buffer, 9 * 512), BAD_CDB);
        assert_good(do_write(&rig, writes[i], 0, 0, 8, buffer, 8 * 512), 8 * 512);
        assert_sense(do_write(&rig, writes[i], 0, 0, 9, buffer, 9 * 512), BAD_CDB);
    }
    rig_fini(&rig);
}

ON_MAIN
static void write_protected(void **state)
{
    uint8_t block[512] = {0};
    struct scsi_lu_config config = rig_config();
    struct rig rig;

    config.read_only = true;
    rig_init(&rig, DISK_BYTES, &config);
    for (size_t i = 0; i < 4; i++) {
        assert_sense(do_write(&rig, writes[i], 0, 0, 1, block, 512), SCSI_WRITE_PROTECTED);
        assert_good(do_read(&rig, reads[i], 0, 0, 1, block, 512), 512);
    }
    assert_sense(RUN_OUT(&rig, block, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_WRITE_PROTECTED);
    assert_sense(RUN_OUT(&rig, block, 512, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0),
                 SCSI_WRITE_PROTECTED);
    assert_sense(RUN_OUT(&rig, block, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0), SCSI_WRITE_PROTECTED);
    assert_good(RUN(&rig, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_int_equal(rig.calls[RIG_WRITE] + rig.calls[RIG_ZEROES] + rig.calls[RIG_DISCARD], 0);
    rig_fini(&rig);
}

ON_MAIN
static void synchronize_cache(void **state)
{
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    assert_good(RUN(&rig, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    assert_good(RUN(&rig, 0x35, 0x02, 0, 0, 0, 0, 0, 0, 0, 0), 0); /* IMMED */
    assert_good(RUN(&rig, 0x35, 0, 0, 0, 0x07, 0xff, 0, 0, 1, 0), 0);
    assert_good(RUN(&rig, 0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0, 0, 0), 0);
    assert_int_equal(rig.calls[RIG_FLUSH], 4);
    assert_sense(RUN(&rig, 0x35, 0, 0, 0, 0x07, 0xff, 0, 0, 2, 0), OUT_OF_RANGE);
    assert_sense(RUN(&rig, 0x35, 0, 0, 0, 0x08, 0x01, 0, 0, 0, 0), OUT_OF_RANGE);
    assert_sense(RUN(&rig, 0x91, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x08, 0, 0, 0), OUT_OF_RANGE);
    assert_sense(RUN(&rig, 0x91, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1),
                 OUT_OF_RANGE);
    assert_int_equal(rig.calls[RIG_FLUSH], 4);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_reads_and_writes),
        cmocka_unit_test(zero_blocks),
        cmocka_unit_test(outside_the_disk),
        cmocka_unit_test(far_away),
        cmocka_unit_test(room_and_transfer_differ),
        cmocka_unit_test(no_memory_for_a_shorter_list),
        cmocka_unit_test(buffers_are_passed_as_they_are),
        cmocka_unit_test(forced_unit_access),
        cmocka_unit_test(protection_is_not_supported),
        cmocka_unit_test(maximum_transfer_length),
        cmocka_unit_test(write_protected),
        cmocka_unit_test(synchronize_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
