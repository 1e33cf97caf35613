/* test_lu.c -- which geometries are refused, and unit attentions under several threads. */
#include "golden.h"
#include "os/thread.h"
#include "sync/atomic.h"

ANY_THREAD
static uint64_t no_bytes(void *medium)
{
    return 0;
}
static const struct scsi_medium_ops no_ops = {.bytes = no_bytes};

/* The text says which property, and what would be right. */
ON_MAIN
static void check_refused(struct scsi_lu_config config, const char *culprit)
{
    struct scsi_lu *lu = NULL;
    struct err *err = NULL;

    assert_true(scsi_lu_new(&config, &no_ops, NULL, &lu, &err) < 0);
    assert_null(lu);
    assert_non_null(strstr(err->text, culprit));
    err_free(err);
}

ON_MAIN
static void impossible_geometries(void **state)
{
    static const uint32_t bad_sizes[] = {0, 1, 256, 513, 1000, 4 << 20, 0x80000000};
    struct scsi_lu_config good = rig_config(), config;

    for (size_t i = 0; i < countof(bad_sizes); i++) {
        config = good;
        config.logical_block_bytes = bad_sizes[i];
        check_refused(config, "logical_block_size");
        config = good;
        config.physical_block_bytes = bad_sizes[i];
        check_refused(config, "physical_block_size");
    }
    config = good;
    config.logical_block_bytes = 4096;
    check_refused(config, "logical_block_size 4096 is larger than physical_block_size 512");
    config = good;
    config.min_io_bytes = 700;
    check_refused(config, "min_io_size 700");
    config.min_io_bytes = 65536 * 512;
    check_refused(config, "min_io_size");
    config = good;
    config.opt_io_bytes = 513;
    check_refused(config, "opt_io_size");
    config = good;
    config.discard_granularity_bytes = 1;
    check_refused(config, "discard_granularity");
    config = good;
    config.max_io_bytes = 511;
    check_refused(config, "max_io_size");
    config = good;
    config.max_unmap_bytes = 511;
    check_refused(config, "max_unmap_size");
    config = good;
    config.scsi_version = 2;
    check_refused(config, "scsi_version 2");
    config.scsi_version = 8;
    check_refused(config, "scsi_version 8");
}

ON_MAIN
static void a_new_port_was_just_powered_on(void **state)
{
    struct scsi_lu_config config = rig_config();
    struct scsi_sense sense;
    struct scsi_port *a, *b;
    struct scsi_lu *lu;

    assert_int_equal(scsi_lu_new(&config, &no_ops, NULL, &lu, NULL), 0);
    a = scsi_port_new(lu, 1, 2);
    b = scsi_port_new(lu, 3, 4);
    assert_ptr_equal(scsi_port_lu(b), lu);
    assert_true(scsi_port_take_ua(a, &sense));
    assert_int_equal(sense.asc, 0x29);
    assert_false(scsi_port_take_ua(a, &sense));
    assert_true(scsi_port_peek_ua(b, &sense)); /* each nexus its own */
    assert_true(scsi_port_take_ua(b, &sense));
    scsi_port_free(a);
    scsi_port_free(b);
    scsi_lu_free(lu);
    scsi_port_free(NULL);
    scsi_lu_free(NULL);
}

/* ---- RACES 52, R3: under threads. Every order of a few steps is test/explore's. ---- */

enum { ROUNDS = 20000 };

static struct {
    struct scsi_port *port;
    uint32_t taken[2]; /* capacity, mode parameters */
    uint32_t raisers;
} race;

static void take_until_over(void *opaque)
{
    struct scsi_sense sense;

    while (at_load(&race.raisers) > 0 || scsi_port_peek_ua(race.port, &sense)) {
        if (scsi_port_take_ua(race.port, &sense)) {
            at_add(&race.taken[sense.ascq == 0x09 ? 0 : 1], 1);
        } else {
            at_relax();
        }
    }
}

/* Raises the next only when the last is gone, so each must have been taken exactly once. */
static void raise_many(void *opaque)
{
    uint32_t *taken = opaque;
    enum scsi_ua ua = taken == &race.taken[0] ? SCSI_UA_CAPACITY_CHANGED
                                              : SCSI_UA_MODE_PARAMETERS_CHANGED;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        scsi_port_raise_ua(race.port, ua);
        while (at_load(taken) <= i) {
            at_relax();
        }
        assert(at_load(taken) == i + 1);
    }
    at_sub(&race.raisers, 1);
}

ON_MAIN
static void none_lost_none_twice(void **state)
{
    struct os_thread *threads[4];
    struct rig rig;

    rig_init(&rig, 1 << 20, NULL);
    race.port = rig.port;
    race.raisers = 2;
    threads[0] = os_thread_start("take", take_until_over, NULL);
    threads[1] = os_thread_start("take", take_until_over, NULL);
    threads[2] = os_thread_start("raise", raise_many, &race.taken[0]);
    threads[3] = os_thread_start("raise", raise_many, &race.taken[1]);
    for (size_t i = 0; i < countof(threads); i++) {
        os_thread_join(threads[i]);
    }
    assert_int_equal(race.taken[0], ROUNDS);
    assert_int_equal(race.taken[1], ROUNDS);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_geometries),
        cmocka_unit_test(a_new_port_was_just_powered_on),
        cmocka_unit_test(none_lost_none_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
