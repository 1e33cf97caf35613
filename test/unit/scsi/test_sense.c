/* test_sense.c -- both formats, and what each errno becomes on either side. */
#include "golden.h"
#include <errno.h>

static void formats(void **state)
{
    uint8_t to[18];

    memset(to, 0xff, sizeof(to));
    assert_int_equal(scsi_sense_fixed(OUT_OF_RANGE, to), 18);
    assert_memory_equal(to, ((uint8_t[18]){0x70, 0, 5, 0, 0, 0, 0, 10, [12] = 0x21}), 18);
    memset(to, 0xff, sizeof(to));
    assert_int_equal(scsi_sense_descriptor(SCSI_SPACE_ALLOCATION_FAILED, to), 8);
    assert_memory_equal(to, ((uint8_t[8]){0x72, 7, 0x27, 7}), 8);
}

/* What the initiator reads of each failure of the medium. */
static const struct {
    int errnum;
    uint32_t read, write;
} errnos[] = {
    {EIO, 0x031100, 0x030c00},       {EBADMSG, 0x031100, 0x030c00},
    {ENOSPC, 0x072707, 0x072707},    {EDQUOT, 0x072707, 0x072707},
    {EROFS, 0x072700, 0x072700},     {EPERM, 0x072700, 0x072700},
    {EINVAL, 0x052400, 0x052400},    {ENOMEM, 0x0b5503, 0x0b5503},
    {EAGAIN, 0x0b5503, 0x0b5503},    {ENOMEDIUM, 0x023a00, 0x023a00},
    {ECANCELED, 0x0b0000, 0x0b0000}, {ENOTSUP, 0x044400, 0x044400},
    {ETIMEDOUT, 0x044400, 0x044400},
};

static uint32_t as_number(struct scsi_sense sense)
{
    return (uint32_t)sense.key << 16 | (uint32_t)sense.asc << 8 | sense.ascq;
}

ON_MAIN
static void errnos_become_sense(void **state)
{
    uint8_t block[512] = {1};
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    for (size_t i = 0; i < countof(errnos); i++) {
        struct scsi_cmd cmd;
        int rc = -errnos[i].errnum;

        assert_int_equal(as_number(scsi_sense_from_errno(rc, false)), errnos[i].read);
        assert_int_equal(as_number(scsi_sense_from_errno(rc, true)), errnos[i].write);
        for (int op = 0; op < RIG_OP_MAX_; op++) {
            rig.fail[op] = rc;
        }
        cmd = RUN_IN(&rig, block, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
        assert_int_equal(as_number(rig_sense(&cmd)), errnos[i].read);
        assert_int_equal(cmd.medium_errno, errnos[i].errnum);
        cmd = RUN_OUT(&rig, block, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
        assert_int_equal(as_number(rig_sense(&cmd)), errnos[i].write);
        assert_int_equal(cmd.medium_errno, errnos[i].errnum);
        cmd = RUN(&rig, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        assert_int_equal(as_number(rig_sense(&cmd)), errnos[i].write);
        cmd = RUN_OUT(&rig, block, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0);
        assert_int_equal(as_number(rig_sense(&cmd)), errnos[i].write);
        assert_int_equal(cmd.medium_errno, errnos[i].errnum);
    }
    rig_forget(&rig);
    assert_int_equal(RUN(&rig, 0x00).medium_errno, 0);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats),
        cmocka_unit_test(errnos_become_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
