/* test_dispatch.c -- the command table: what is refused, what goes first, what is said of a
 * command. */
#include "golden.h"
#include "base/mem.h"
#include <stdlib.h>

enum { DISK_BYTES = 256 << 10 };

/* Issue by issue this list grows; every other opcode is unknown. REPORT LUNS is the target's. */
static const uint8_t known[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x25, 0x28, 0x2a, 0x35, 0x41,
                                0x42, 0x5a, 0x88, 0x8a, 0x91, 0x93, 0x9e, 0xa8, 0xaa};

static bool is_known(uint8_t opcode)
{
    return memchr(known, opcode, sizeof(known)) != NULL;
}

ON_MAIN
static void unknown_opcodes(void **state)
{
    uint8_t in[64], out[64] = {0}, cdb[16] = {0};
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        struct scsi_sense invalid = SCSI_INVALID_OPCODE;

        cdb[0] = (uint8_t)opcode;
        if (is_known(cdb[0])) {
            struct scsi_cmd cmd = rig_run(&rig, cdb, 16, NULL, 0, in, 64);

            assert_false(rig_sense_is(&cmd, invalid));
            continue;
        }
        assert_sense(rig_run(&rig, cdb, 16, NULL, 0, NULL, 0), invalid);
        assert_sense(rig_run(&rig, cdb, 16, out, sizeof(out), NULL, 0), invalid);
        assert_sense(rig_run(&rig, cdb, 16, NULL, 0, in, sizeof(in)), invalid);
    }
    rig_fini(&rig);
}

ON_MAIN
static void unknown_service_actions(void **state)
{
    uint8_t in[64];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (unsigned action = 0; action < 32; action++) {
        struct scsi_cmd cmd = RUN_IN(&rig, in, 64, 0x9e, (uint8_t)action, 0, 0, 0, 0, 0, 0, 0, 0,
                                     0, 0, 0, 64, 0, 0);

        if (action == 0x10) {
            assert_good(cmd, 32);
        } else {
            assert_sense(cmd, BAD_CDB); /* SPC-4 4.2.5.2 */
        }
    }
    rig_fini(&rig);
}

/* Bits of each command that may be set: the rest, one at a time, is INVALID FIELD IN CDB. Written
 * down from the standards once more, apart from the table in the source. */
#define FF4 0xff, 0xff, 0xff, 0xff
#define FF8 FF4, FF4
static const uint8_t usable[][16] = {
    {0x00, 0xe0, 0, 0, 0, 0xc0},
    {0x03, 0xe1, 0, 0, 0xff, 0xc0},
    {0x08, 0xff, 0xff, 0xff, 0xff, 0xc0},
    {0x0a, 0xff, 0xff, 0xff, 0xff, 0xc0},
    {0x12, 0xe1, 0xff, 0xff, 0xff, 0xc0},
    {0x1a, 0xe8, 0xff, 0xff, 0xff, 0xc0},
    {0x25, 0xe0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0xc0},
    {0x28, 0x1a, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xc0},
    {0x2a, 0x1a, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xc0},
    {0x35, 0xe6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xc0},
    {0x41, 0x08, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xc0},
    {0x42, 0, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xc0},
    {0x5a, 0xf8, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0xc0},
    {0x88, 0x1a, FF8, FF4, 0x3f, 0xc0},
    {0x8a, 0x1a, FF8, FF4, 0x3f, 0xc0},
    {0x91, 0x06, FF8, FF4, 0x3f, 0xc0},
    {0x93, 0x09, FF8, FF4, 0x3f, 0xc0},
    {0x9e, 0x1f, FF8, FF4, 0x01, 0xc0},
    {0xa8, 0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xc0},
    {0xaa, 0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xc0},
};

ON_MAIN
static void reserved_bits(void **state)
{
    uint8_t in[512], out[512] = {0};
    struct rig rig;

    assert_int_equal(countof(usable), countof(known));
    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 0; i < countof(usable); i++) {
        unsigned bytes = scsi_cdb_bytes(usable[i][0]);

        for (unsigned bit = 8; bit < bytes * 8; bit++) {
            uint8_t cdb[16] = {usable[i][0], usable[i][0] == 0x9e ? 0x10 : 0};

            if ((usable[i][bit / 8] & 1 << bit % 8) == 0) {
                cdb[bit / 8] |= (uint8_t)(1 << bit % 8);
                assert_sense(rig_run(&rig, cdb, bytes, out, 512, in, 512), BAD_CDB);
            }
        }
        for (unsigned bit = 0; bit < 2; bit++) { /* vendor bits of CONTROL: ignored */
            uint8_t cdb[16] = {usable[i][0], usable[i][0] == 0x9e ? 0x10 : 0};
            struct scsi_sense why;

            cdb[bytes - 1] = (uint8_t)(0x40 << bit);
            assert_non_null(scsi_command_find(rig.lu, cdb, &why));
        }
    }
    rig_fini(&rig);
}

/* Linux plugs a disk at LUN 1 with SCSI-2's LUN in its first INQUIRY: it does not know the version
 * yet. Where protection fields are now (READ(10) and the like) it must know. */
ON_MAIN
static void the_lun_of_scsi_2_is_ignored(void **state)
{
    uint8_t in[512], plain[512];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    assert_good(RUN_IN(&rig, plain, 96, 0x12, 0, 0, 0, 96), 96);
    for (unsigned lun = 1; lun < 8; lun++) {
        uint8_t bits = (uint8_t)(lun << 5);

        assert_good(RUN(&rig, 0x00, bits), 0);
        assert_good(RUN_IN(&rig, in, 18, 0x03, bits, 0, 0, 18), 18);
        assert_good(RUN_IN(&rig, in, 96, 0x12, bits, 0, 0, 96), 96);
        assert_memory_equal(in, plain, 96);
        assert_good(RUN_IN(&rig, in, 96, 0x12, bits | 1, 0x00, 0, 96), 10);
        assert_good(RUN_IN(&rig, in, 96, 0x1a, bits, 0x08, 0, 96), 32);
        assert_good(RUN_IN(&rig, in, 8, 0x25, bits), 8);
        assert_good(RUN_IN(&rig, in, 512, 0x08, bits, 0, 7, 1), 512);
        assert_true(rig.offset == 7 * 512);
        assert_sense(RUN_IN(&rig, in, 512, 0x28, bits, 0, 0, 0, 7, 0, 0, 1), BAD_CDB);
    }
    rig_fini(&rig);
}

/* SAM-5 5.14: which commands report a pending unit attention, in which order, and once. */
ON_MAIN
static void unit_attentions(void **state)
{
    uint8_t in[96];
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    scsi_port_raise_ua(rig.port, SCSI_UA_MODE_PARAMETERS_CHANGED);
    scsi_port_raise_ua(rig.port, SCSI_UA_CAPACITY_CHANGED);
    scsi_port_raise_ua(rig.port, SCSI_UA_REPORTED_LUNS_CHANGED);
    scsi_port_raise_ua(rig.port, SCSI_UA_BUS_DEVICE_RESET);
    scsi_port_raise_ua(rig.port, SCSI_UA_POWER_ON);
    scsi_port_raise_ua(rig.port, SCSI_UA_POWER_ON);
    assert_good(RUN_IN(&rig, in, 96, 0x12, 0, 0, 0, 96, 0), 96); /* goes on, clears nothing */
    assert_sense(RUN(&rig, 0x00), ((struct scsi_sense){6, 0x29, 0x00}));
    assert_sense(RUN(&rig, 0xff), ((struct scsi_sense){6, 0x29, 0x03})); /* before the opcode */
    assert_sense(RUN(&rig, 0x00, 1), ((struct scsi_sense){6, 0x3f, 0x0e})); /* and the fields */
    assert_sense(RUN_IN(&rig, in, 96, 0x28, 0, 0, 0, 0, 0, 0, 0, 0),
                 ((struct scsi_sense){6, 0x2a, 0x09}));
    assert_sense(RUN_IN(&rig, in, 8, 0x25), ((struct scsi_sense){6, 0x2a, 0x01}));
    assert_good(RUN(&rig, 0x00), 0);
    assert_int_equal(rig.calls[RIG_READ], 0);
    scsi_port_raise_ua(rig.port, SCSI_UA_CAPACITY_CHANGED);
    scsi_port_clear_ua(rig.port, SCSI_UA_MODE_PARAMETERS_CHANGED);
    scsi_port_clear_ua(rig.port, SCSI_UA_CAPACITY_CHANGED);
    assert_good(RUN(&rig, 0x00), 0);
    rig_fini(&rig);
}

ON_MAIN
static void what_needs_the_medium(void **state)
{
    static const uint8_t needing[] = {0x08, 0x0a, 0x28, 0x2a, 0x35, 0x41, 0x42,
                                      0x88, 0x8a, 0x91, 0x93, 0xa8, 0xaa};

    for (unsigned opcode = 0; opcode < 256; opcode++) {
        uint8_t cdb[SCSI_CDB_BYTES_MAX] = {(uint8_t)opcode, 0x10};

        assert_int_equal(scsi_cmd_needs_medium(cdb), memchr(needing, (int)opcode, 13) != NULL);
    }
}

ON_MAIN
static void how_much_a_command_moves(void **state)
{
    static const struct {
        uint8_t cdb[16];
        enum scsi_direction direction;
        uint64_t bytes;
    } rows[] = {
        {{0x00}, SCSI_DATA_NONE, 0},
        {{0x03, [4] = 252}, SCSI_DATA_IN, 252},
        {{0x08, [4] = 0}, SCSI_DATA_IN, 256 * 512},
        {{0x0a, [4] = 3}, SCSI_DATA_OUT, 3 * 512},
        {{0x12, [3] = 1, [4] = 2}, SCSI_DATA_IN, 258},
        {{0x12}, SCSI_DATA_NONE, 0},
        {{0x1a, [4] = 4}, SCSI_DATA_IN, 4},
        {{0x25}, SCSI_DATA_IN, 8},
        {{0x28, [7] = 0xff, [8] = 0xff}, SCSI_DATA_IN, 0xffff * 512},
        {{0x28}, SCSI_DATA_NONE, 0},
        {{0x2a, [8] = 1}, SCSI_DATA_OUT, 512},
        {{0x35, [8] = 9}, SCSI_DATA_NONE, 0},
        {{0x41, [8] = 9}, SCSI_DATA_OUT, 512},
        {{0x42, [8] = 24}, SCSI_DATA_OUT, 24},
        {{0x88, [10] = 0xff, 0xff, 0xff, 0xff}, SCSI_DATA_IN, UINT64_C(0xffffffff) * 512},
        {{0x93, [13] = 9}, SCSI_DATA_OUT, 512},
        {{0x93, 0x01, [13] = 9}, SCSI_DATA_NONE, 0},
        {{0x9e, 0x10, [13] = 32}, SCSI_DATA_IN, 32},
        {{0xa0, [9] = 16}, SCSI_DATA_IN, 16},
        {{0xaa, [9] = 2}, SCSI_DATA_OUT, 1024},
        {{0x55, [8] = 2}, SCSI_DATA_NONE, 0},    /* unknown: fails by itself */
        {{0x28, 0x20, [8] = 2}, SCSI_DATA_NONE, 0}, /* will be refused */
    };
    uint64_t bytes;
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (size_t i = 0; i < countof(rows); i++) {
        uint8_t cdb[SCSI_CDB_BYTES_MAX] = {0};

        memcpy(cdb, rows[i].cdb, 16);
        assert_int_equal(scsi_cmd_transfer(rig.port, cdb, &bytes), rows[i].direction);
        assert_true(bytes == rows[i].bytes);
        /* What a target answers by itself it answers without knowing a block size. */
        if (cdb[0] != 0x03 && cdb[0] != 0x12 && cdb[0] != 0xa0) {
            assert_int_equal(scsi_cmd_transfer(NULL, cdb, &bytes), SCSI_DATA_NONE);
        } else {
            assert_int_equal(scsi_cmd_transfer(NULL, cdb, &bytes), rows[i].direction);
            assert_true(bytes == rows[i].bytes);
        }
    }
    rig_fini(&rig);
}

static void names(void **state)
{
    static const struct {
        uint8_t cdb[16];
        const char *text;
    } rows[] = {
        {{0x2a, 0, 0, 0, 0x08, 0, 0, 0, 8}, "WRITE(10) lba 2048 blocks 8"},
        {{0x08, 0x01, 0, 1, 0}, "READ(6) lba 65537 blocks 256"},
        {{0x88, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
         "READ(16) lba 72057594037927936 blocks 4294967295"},
        {{0x35}, "SYNCHRONIZE CACHE(10) lba 0 blocks 0"},
        {{0x12}, "INQUIRY"},
        {{0x9e, 0x10}, "READ CAPACITY(16)"},
        {{0x9e, 0x12}, "SERVICE ACTION IN(16) (opcode 9Eh)"},
        {{0x5f}, "PERSISTENT RESERVE OUT (opcode 5Fh)"},
        {{0x06}, "unknown command (opcode 06h)"},
        {{0xc1}, "vendor specific command (opcode C1h)"},
    };
    char text[SCSI_DESCRIPTION_BYTES_MAX], small[8];

    for (size_t i = 0; i < countof(rows); i++) {
        assert_string_equal(scsi_cmd_describe(rows[i].cdb, text, sizeof(text)), rows[i].text);
    }
    assert_string_equal(scsi_cmd_describe(rows[0].cdb, small, sizeof(small)), "WRITE(1");
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        assert_non_null(scsi_opcode_name((uint8_t)opcode));
    }
    assert_string_equal(scsi_opcode_name(0x42), "UNMAP");
}

static void cdb_lengths(void **state)
{
    static const unsigned by_group[8] = {6, 10, 10, 0, 16, 12, 0, 0};

    for (unsigned opcode = 0; opcode < 256; opcode++) {
        assert_int_equal(scsi_cdb_bytes((uint8_t)opcode), by_group[opcode >> 5]);
    }
}

/* Any bytes at all: the rig asserts what must hold; here also that the medium's size was respected,
 * that what cannot write did not, and that a failed command left no trace. */
ON_MAIN
static void random_commands(void **state)
{
    const char *text = getenv("SCSI_SWEEP");
    unsigned long rounds = text != NULL ? strtoul(text, NULL, 10) : 150000;
    unsigned seed = 20260401;
    uint8_t *data = mem_alloc(8192), *before = mem_alloc(DISK_BYTES);
    struct rig rig;

    rig_init(&rig, DISK_BYTES, NULL);
    for (unsigned long round = 0; round < rounds; round++) {
        uint8_t cdb[16];
        size_t out = (size_t)rand_r(&seed) % 1600, in = (size_t)rand_r(&seed) % 1600;
        int kind = rand_r(&seed) % 4;
        struct scsi_cmd cmd;

        for (size_t i = 0; i < countof(cdb); i++) { /* mostly zeroes, or nothing gets anywhere */
            cdb[i] = rand_r(&seed) % 3 != 0 ? 0 : (uint8_t)(rand_r(&seed) >> rand_r(&seed) % 9);
        }
        cdb[0] = round % 2 == 0 ? (uint8_t)(round / 2)
                                : known[(size_t)rand_r(&seed) % countof(known)];
        for (size_t i = 0; i < out; i++) {
            data[i] = kind == 0 ? 0 : (uint8_t)rand_r(&seed) & (uint8_t)rand_r(&seed);
        }
        rig_forget(&rig);
        memcpy(before, rig.store, round % 64 == 0 ? DISK_BYTES : 0);
        cmd = rig_run(&rig, cdb, sizeof(cdb), data, kind % 2 == 0 ? out : 0, data + 4096,
                      kind % 2 == 1 || kind == 2 ? in : 0);
        if (round % 64 == 0 && cmd.status != SCSI_GOOD) {
            assert_memory_equal(before, rig.store, DISK_BYTES);
        }
        if (cmd.status != SCSI_GOOD) {
            assert_int_equal(rig.calls[RIG_WRITE] + rig.calls[RIG_ZEROES], 0);
            assert_int_equal(rig.calls[RIG_DISCARD], 0);
        }
        assert_true(is_known(cdb[0]) || cmd.status == SCSI_CHECK_CONDITION);
    }
    rig_fini(&rig);
    mem_free(data);
    mem_free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_opcodes),
        cmocka_unit_test(unknown_service_actions),
        cmocka_unit_test(reserved_bits),
        cmocka_unit_test(the_lun_of_scsi_2_is_ignored),
        cmocka_unit_test(unit_attentions),
        cmocka_unit_test(what_needs_the_medium),
        cmocka_unit_test(how_much_a_command_moves),
        cmocka_unit_test(names),
        cmocka_unit_test(cdb_lengths),
        cmocka_unit_test(random_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
