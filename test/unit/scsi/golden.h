/* golden.h -- data-in held against bytes written down by hand, at every allocation length. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "rig.h"

enum { GOLDEN_BYTES_MAX = 512 };

/* Short names for what these tests ask for most. */
#define BAD_CDB SCSI_INVALID_FIELD_IN_CDB
#define OUT_OF_RANGE SCSI_LBA_OUT_OF_RANGE

/* Put @value into the big-endian field of @bytes. */
static inline void golden_put(uint8_t *to, unsigned bytes, uint32_t value)
{
    for (unsigned i = bytes; i-- > 0; value >>= 8) {
        to[i] = (uint8_t)value;
    }
}

/* The command with its allocation length (at @at, @width bytes) from 0 to beyond the end, and with
 * room for less, as much and more: what comes is the front of @expected, what moved is exactly
 * that. */
ON_MAIN
static inline void golden_check(struct rig *rig, const uint8_t *cdb, size_t cdb_bytes, unsigned at,
                                unsigned width, const uint8_t *expected, size_t expected_bytes)
{
    static const size_t rooms[] = {0, 1, 7, 36, GOLDEN_BYTES_MAX};
    uint8_t patched[16] = {0}, in[GOLDEN_BYTES_MAX];

    memcpy(patched, cdb, cdb_bytes);
    for (uint32_t allocation = 0; allocation <= expected_bytes + 5; allocation++) {
        golden_put(patched + at, width, allocation);
        for (size_t r = 0; r < countof(rooms); r++) {
            size_t moved = min_of(min_of((size_t)allocation, expected_bytes), rooms[r]);
            struct scsi_cmd cmd = rig_run(rig, patched, cdb_bytes, NULL, 0, in, rooms[r]);

            assert_int_equal(cmd.status, SCSI_GOOD);
            assert_int_equal(cmd.transferred, moved);
            assert_memory_equal(in, expected, moved);
        }
    }
}

#define assert_good(cmd, bytes)                                                                    \
    do {                                                                                           \
        struct scsi_cmd cmd_ = (cmd);                                                              \
        assert_int_equal(cmd_.status, SCSI_GOOD);                                                  \
        assert_int_equal(cmd_.transferred, (bytes));                                               \
    } while (0)

#define assert_sense(cmd, wanted)                                                                  \
    do {                                                                                           \
        struct scsi_cmd cmd_ = (cmd);                                                              \
        struct scsi_sense is_ = rig_sense(&cmd_), wanted_ = (wanted);                              \
        assert_int_equal(cmd_.status, SCSI_CHECK_CONDITION);                                       \
        assert_int_equal(is_.key << 16 | is_.asc << 8 | is_.ascq,                                  \
                         wanted_.key << 16 | wanted_.asc << 8 | wanted_.ascq);                     \
    } while (0)
