/* test_target.c -- the LUN table, REPORT LUNS, and what a target answers without a logical unit. */
#include "golden.h"
#include "base/mem.h"
#include "os/thread.h"
#include "sync/atomic.h"
#include <errno.h>
#include <stdlib.h>

#define RUN_TARGET(table, target, lun, in, in_bytes, ...)                                          \
    rig_run_target(table, target, lun, CDB(__VA_ARGS__), in, in_bytes)

static struct rig rig;
static struct scsi_table *table;

ON_MAIN
static int setup(void **state)
{
    rig_init(&rig, 1 << 20, NULL);
    table = scsi_table_new();
    return 0;
}

ON_MAIN
static int teardown(void **state)
{
    scsi_table_free(table);
    rig_fini(&rig);
    return 0;
}

/* A slot with a port of its own. */
ON_MAIN
static struct scsi_slot *plug(uint8_t target, uint16_t lun)
{
    struct scsi_slot *slot = mem_new(struct scsi_slot);
    struct scsi_sense power_on;

    *slot = (struct scsi_slot){target, lun, scsi_port_new(rig.lu, target, lun)};
    scsi_port_take_ua(slot->port, &power_on);
    assert_int_equal(scsi_table_publish(table, slot), 0);
    return slot;
}

ON_MAIN
static void unplug(struct scsi_slot *slot)
{
    void (*wait)(void) = rcu_synchronize; /* blocks, on a thread that is no loop */

    scsi_table_unpublish(table, slot);
    wait();
    scsi_port_free(slot->port);
    mem_free(slot);
}

static struct scsi_slot *find(uint8_t target, uint16_t lun)
{
    RCU_READ_SCOPE();
    return scsi_table_find(table, target, lun);
}

static bool has_target(uint8_t target)
{
    RCU_READ_SCOPE();
    return scsi_table_has_target(table, target);
}

/* ---- the table ---- */

/* R2: exactly the LUN asked for, never another of the same target. */
ON_MAIN
static void finds_exactly_the_lun(void **state)
{
    static const uint16_t luns[] = {1, 3, 4, 255, 256, 16383};
    struct scsi_slot *slots[2][countof(luns)];

    for (size_t i = countof(luns); i-- > 0;) { /* against the order */
        slots[0][i] = plug(0, luns[i]);
        slots[1][i] = plug(255, luns[i]);
    }
    for (unsigned target = 0; target < 256; target++) {
        bool there = target == 0 || target == 255;

        assert_int_equal(has_target((uint8_t)target), there);
        for (unsigned lun = 0; lun < SCSI_LUNS_MAX; lun += target == 0 ? 1 : 127) {
            struct scsi_slot *slot = find((uint8_t)target, (uint16_t)lun), *expected = NULL;

            for (size_t i = 0; there && i < countof(luns); i++) {
                expected = luns[i] == lun ? slots[target & 1][i] : expected;
            }
            assert_ptr_equal(slot, expected);
        }
    }
    assert_null(find(0, SCSI_LUN_WELL_KNOWN_REPORT));
    for (size_t i = 0; i < countof(luns); i++) {
        unplug(slots[0][i]);
        assert_null(find(0, luns[i]));
        assert_ptr_equal(find(255, luns[i]), slots[1][i]);
        assert_int_equal(has_target(0), i + 1 < countof(luns));
    }
    for (size_t i = 0; i < countof(luns); i++) {
        unplug(slots[1][i]);
    }
}

/* Against an array, with random plugs and unplugs of a few targets and LUNs. */
ON_MAIN
static void agrees_with_a_plain_array(void **state)
{
    enum { TARGETS = 3, LUNS = 12 };
    struct scsi_slot *model[TARGETS][LUNS] = {{NULL}};
    unsigned seed = 42;

    for (int round = 0; round < 400; round++) {
        uint8_t target = (uint8_t)(rand_r(&seed) % TARGETS);
        uint16_t lun = (uint16_t)(rand_r(&seed) % LUNS);

        if (model[target][lun] == NULL) {
            model[target][lun] = plug(target, lun);
        } else {
            struct scsi_slot second = {target, lun, rig.port};

            assert_int_equal(scsi_table_publish(table, &second), -EBUSY);
            unplug(model[target][lun]);
            model[target][lun] = NULL;
        }
        for (unsigned t = 0; t < TARGETS; t++) {
            for (unsigned l = 0; l < LUNS; l++) {
                assert_ptr_equal(find((uint8_t)t, (uint16_t)l), model[t][l]);
                assert_ptr_equal(scsi_table_at(table, (uint8_t)t, (uint16_t)l), model[t][l]);
            }
        }
    }
    for (unsigned i = 0; i < TARGETS * LUNS; i++) {
        if (model[i / LUNS][i % LUNS] != NULL) {
            unplug(model[i / LUNS][i % LUNS]);
        }
    }
}

ON_MAIN
static void lowest_free_addresses(void **state)
{
    struct scsi_slot *slots[4] = {plug(0, 0), plug(1, 0), plug(1, 1), plug(3, 0)};
    uint16_t lun = 9;
    uint8_t target = 9;

    assert_int_equal(scsi_table_lowest_free(table, -1, -1, &target, &lun), 0);
    assert_int_equal(target << 16 | lun, 2 << 16 | 0);
    assert_int_equal(scsi_table_lowest_free(table, 1, -1, &target, &lun), 0);
    assert_int_equal(target << 16 | lun, 1 << 16 | 2);
    assert_int_equal(scsi_table_lowest_free(table, -1, 1, &target, &lun), 0);
    assert_int_equal(target << 16 | lun, 0 << 16 | 1);
    assert_int_equal(scsi_table_lowest_free(table, 7, 5, &target, &lun), 0);
    assert_int_equal(target << 16 | lun, 7 << 16 | 5);
    assert_int_equal(scsi_table_lowest_free(table, 1, 1, &target, &lun), -ENOSPC);
    for (size_t i = 0; i < countof(slots); i++) {
        unplug(slots[i]);
    }
}

ON_MAIN
static void full_targets(void **state)
{
    struct scsi_slot *slots[SCSI_TARGETS_MAX];
    uint16_t lun;
    uint8_t target;

    for (unsigned t = 0; t < SCSI_TARGETS_MAX; t++) {
        slots[t] = plug((uint8_t)t, 0);
    }
    assert_int_equal(scsi_table_lowest_free(table, -1, 0, &target, &lun), -ENOSPC);
    assert_int_equal(scsi_table_lowest_free(table, -1, -1, &target, &lun), 0);
    assert_int_equal(target << 16 | lun, 1);
    for (unsigned t = 0; t < SCSI_TARGETS_MAX; t++) {
        unplug(slots[t]);
    }
}

ON_MAIN
static void attention_at_a_target_or_all(void **state)
{
    struct scsi_slot *slots[3] = {plug(0, 0), plug(0, 5), plug(2, 0)};
    struct scsi_sense sense;

    scsi_table_raise_ua(table, 0, SCSI_UA_REPORTED_LUNS_CHANGED);
    assert_true(scsi_port_take_ua(slots[0]->port, &sense));
    assert_true(scsi_port_take_ua(slots[1]->port, &sense));
    assert_false(scsi_port_take_ua(slots[2]->port, &sense));
    scsi_table_raise_ua(table, -1, SCSI_UA_POWER_ON);
    for (size_t i = 0; i < countof(slots); i++) {
        assert_true(scsi_port_take_ua(slots[i]->port, &sense));
        unplug(slots[i]);
    }
}

/* ---- REPORT LUNS (SPC-4 6.33) ---- */

ON_MAIN
static void report_luns_golden(void **state)
{
    static const uint8_t units[] = {
        0,    0,    0, 32, 0, 0, 0, 0,
        0x00, 0x01, 0, 0,  0, 0, 0, 0, /* peripheral device addressing */
        0x00, 0xff, 0, 0,  0, 0, 0, 0,
        0x41, 0x00, 0, 0,  0, 0, 0, 0, /* flat space addressing */
        0x7f, 0xff, 0, 0,  0, 0, 0, 0,
    };
    static const uint8_t well_known[] = {0, 0, 0, 8, 0, 0, 0, 0, 0xc1, 0x01, 0, 0, 0, 0, 0, 0};
    struct scsi_slot *slots[] = {plug(4, 16383), plug(4, 1), plug(4, 256), plug(4, 255),
                                 plug(5, 2)};
    uint8_t all[sizeof(units) + 8], in[64];

    memcpy(all, units, sizeof(units));
    memcpy(all + sizeof(units), well_known + 8, 8);
    all[3] = 40;
    for (uint8_t allocation = 0; allocation < 64; allocation++) {
        for (size_t room = 0; room <= 64; room += 8) {
            size_t fits = min_of((size_t)allocation, room);

            if (allocation < 16) {
                assert_sense(RUN_TARGET(table, 4, 1, in, room, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0,
                                        allocation, 0, 0), BAD_CDB);
                continue;
            }
            assert_good(RUN_TARGET(table, 4, 1, in, room, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, allocation,
                                   0, 0), min_of(fits, sizeof(units)));
            assert_memory_equal(in, units, min_of(fits, sizeof(units)));
            assert_good(RUN_TARGET(table, 4, 0, in, room, 0xa0, 0, 1, 0, 0, 0, 0, 0, 0, allocation,
                                   0, 0), min_of(fits, sizeof(well_known)));
            assert_memory_equal(in, well_known, min_of(fits, sizeof(well_known)));
            assert_good(RUN_TARGET(table, 4, SCSI_LUN_WELL_KNOWN_REPORT, in, room, 0xa0, 0, 2, 0, 0,
                                   0, 0, 0, 0, allocation, 0, 0), min_of(fits, sizeof(all)));
            assert_memory_equal(in, all, min_of(fits, sizeof(all)));
        }
    }
    for (unsigned select = 3; select < 256; select++) {
        assert_sense(RUN_TARGET(table, 4, 0, in, 64, 0xa0, 0, (uint8_t)select, [9] = 64),
                     BAD_CDB);
    }
    assert_good(RUN_TARGET(table, 4, 0, in, 64, 0xa0, 0x20, 0, [9] = 64), 40); /* SCSI-2's LUN */
    assert_sense(RUN_TARGET(table, 4, 0, in, 64, 0xa0, 1, 0, 0, 0, 0, 0, 0, 0, 64), BAD_CDB);
    for (size_t i = 0; i < countof(slots); i++) {
        unplug(slots[i]);
    }
}

/* Longer than any buffer of ours: the list goes out in chunks. */
ON_MAIN
static void report_many_luns(void **state)
{
    enum { LUNS = 300 };
    struct scsi_slot *slots[LUNS];
    uint8_t in[8 + LUNS * 8 + 64];

    for (unsigned i = 0; i < LUNS; i++) {
        slots[i] = plug(9, (uint16_t)(i * 50));
    }
    assert_good(RUN_TARGET(table, 9, 0, in, sizeof(in), 0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff,
                           0xff), 8 + LUNS * 8);
    assert_int_equal(be32_load(in), LUNS * 8);
    for (unsigned i = 0; i < LUNS; i++) {
        unsigned lun = i * 50;

        assert_int_equal(be16_load(in + 8 + i * 8), lun < 256 ? lun : 0x4000 | lun);
        assert_ptr_equal(find(9, (uint16_t)lun), slots[i]);
    }
    for (size_t cut = 511; cut < 530; cut++) { /* around the end of a chunk */
        assert_good(RUN_TARGET(table, 9, 0, in, sizeof(in), 0xa0, 0, 0, 0, 0, 0, 0, 0,
                               (uint8_t)(cut >> 8), (uint8_t)cut), cut);
        assert_int_equal(be32_load(in), LUNS * 8);
    }
    for (unsigned i = 0; i < LUNS; i++) {
        unplug(slots[i]);
    }
}

ON_MAIN
static void report_luns_ends_its_attention(void **state)
{
    struct scsi_slot *slots[] = {plug(0, 0), plug(0, 1), plug(1, 0)};
    struct scsi_sense sense;
    uint8_t in[64];

    scsi_table_raise_ua(table, -1, SCSI_UA_REPORTED_LUNS_CHANGED);
    scsi_table_raise_ua(table, -1, SCSI_UA_CAPACITY_CHANGED);
    /* Not executed: ends nothing. */
    assert_sense(RUN_TARGET(table, 0, 0, in, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15), BAD_CDB);
    assert_true(scsi_port_peek_ua(slots[0]->port, &sense));
    assert_int_equal(sense.asc, 0x3f);
    assert_good(RUN_TARGET(table, 0, 0, in, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64), 24);
    for (size_t i = 0; i < countof(slots); i++) {
        assert_true(scsi_port_take_ua(slots[i]->port, &sense));
        assert_int_equal(sense.asc, i < 2 ? 0x2a : 0x3f); /* of that target, and only that one */
        unplug(slots[i]);
    }
}

/* ---- LUNs that are not there ---- */

ON_MAIN
static void inquiry_without_a_logical_unit(void **state)
{
    static const uint8_t expected[96] = {
        0x7f, 0x00, 0x06, 0x12, 91,  0x00, 0x00, 0x02,
        'C',  'A',  'I',  'S',  'S', 'O',  'N',  ' ',
        'N',  'O',  ' ',  'L',  'O', 'G',  'I',  'C', 'A', 'L', ' ', 'U', 'N', 'I', 'T', ' ',
        '1',  ' ',  ' ',  ' ',
        [58] = 0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0,
    };
    static const uint16_t absent[] = {0, 2, 16383};
    struct scsi_slot *slot = plug(0, 1);
    uint8_t in[128];

    for (size_t i = 0; i < countof(absent); i++) {
        for (uint8_t allocation = 0; allocation < 100; allocation += 9) {
            assert_good(RUN_TARGET(table, 0, absent[i], in, 128, 0x12, 0, 0, 0, allocation),
                        min_of(allocation, 96));
            assert_memory_equal(in, expected, min_of(allocation, 96));
        }
        assert_good(RUN_TARGET(table, 0, absent[i], in, 128, 0x12, 1, 0, 0, 128), 5);
        assert_memory_equal(in, ((uint8_t[]){0x7f, 0, 0, 1, 0}), 5);
        assert_sense(RUN_TARGET(table, 0, absent[i], in, 128, 0x12, 1, 0x83, 0, 128), BAD_CDB);
        assert_sense(RUN_TARGET(table, 0, absent[i], in, 128, 0x12, 0, 0x83, 0, 128), BAD_CDB);
    }
    unplug(slot);
}

ON_MAIN
static void the_well_known_logical_unit(void **state)
{
    enum { WELL_KNOWN = SCSI_LUN_WELL_KNOWN_REPORT };
    struct scsi_slot *slot = plug(0, 1);
    uint8_t in[128];

    assert_good(RUN_TARGET(table, 0, WELL_KNOWN, in, 128, 0x12, 0, 0, 0, 96), 96);
    assert_int_equal(in[0], 0x1e); /* SPC-4 6.4.2: well known logical unit, connected */
    assert_good(RUN_TARGET(table, 0, WELL_KNOWN, in, 128, 0x03, 0, 0, 0, 18), 18);
    assert_int_equal(in[2], 0);
    assert_good(RUN_TARGET(table, 0, WELL_KNOWN, in, 128, 0x00), 0);
    assert_sense(RUN_TARGET(table, 0, WELL_KNOWN, in, 128, 0x28), SCSI_INVALID_OPCODE);
    unplug(slot);
}

ON_MAIN
static void everything_else_at_an_absent_lun(void **state)
{
    struct scsi_slot *slot = plug(0, 1);
    uint8_t in[128];

    /* SAM-5 4.7.4: REQUEST SENSE says so in its data. */
    assert_good(RUN_TARGET(table, 0, 0, in, 128, 0x03, 0, 0, 0, 18), 18);
    assert_memory_equal(in, ((uint8_t[18]){0x70, 0, 5, 0, 0, 0, 0, 10, [12] = 0x25}), 18);
    assert_good(RUN_TARGET(table, 0, 0, in, 128, 0x03, 1, 0, 0, 18), 8);
    assert_memory_equal(in, ((uint8_t[8]){0x72, 5, 0x25}), 8);
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        if (opcode != 0x03 && opcode != 0x12 && opcode != 0xa0) {
            assert_sense(RUN_TARGET(table, 0, 0, in, 128, (uint8_t)opcode), SCSI_LUN_NOT_SUPPORTED);
        }
    }
    assert_true(scsi_target_answers((uint8_t[]){0xa0}));
    assert_false(scsi_target_answers((uint8_t[]){0x12}));
    unplug(slot);
}

/* ---- RACES 50, 51: lookups while LUNs come and go ---- */

enum { CHANGES = 3000, RACE_LUNS = 20 };
static uint32_t over, seen_at_once;

/* A list is one version: as long as it says, sorted, no LUN twice; what a lookup finds is whole. */
static void look(void *opaque)
{
    uint8_t in[8 + RACE_LUNS * 8 + 8];

    rcu_thread_register();
    while (!at_load(&over)) {
        struct scsi_cmd cmd = RUN_TARGET(table, 0, 0, in, sizeof(in), 0xa0, 0, 0, 0, 0, 0, 0, 0, 0,
                                         255);
        uint32_t bytes = be32_load(in);
        int last = -1;

        assert(cmd.status == SCSI_GOOD);
        assert(cmd.transferred == 8 + bytes);
        assert(bytes % 8 == 0 && bytes <= RACE_LUNS * 8);
        for (uint32_t i = 0; i < bytes / 8; i++) {
            int lun = be16_load(in + 8 + i * 8);

            assert(lun > last); /* sorted, none twice */
            last = lun;
        }
        rcu_read_enter();
        for (uint16_t lun = 0; lun < RACE_LUNS; lun++) {
            struct scsi_slot *slot = scsi_table_find(table, 0, lun);

            if (slot != NULL) {
                assert(slot->lun == lun && slot->target == 0);
                assert(scsi_port_lu(slot->port) == rig.lu); /* not freed under us */
            }
        }
        rcu_read_leave();
        at_add(&seen_at_once, 1);
    }
    rcu_thread_unregister();
}

struct race_slot { /* freed after a grace period, as devices are */
    struct rcu_node rcu;
    struct scsi_slot slot;
};

static void race_slot_free(struct rcu_node *node)
{
    struct race_slot *slot = container_of(node, struct race_slot, rcu);

    memset(slot, 0xa5, sizeof(*slot));
    mem_free(slot);
}

ON_MAIN
static void lookups_while_plugging(void **state)
{
    struct race_slot *slots[RACE_LUNS] = {NULL};
    struct os_thread *threads[2];
    unsigned seed = 7;

    over = seen_at_once = 0;
    for (size_t i = 0; i < countof(threads); i++) {
        threads[i] = os_thread_start("look", look, NULL);
    }
    for (int i = 0; i < CHANGES || at_load(&seen_at_once) < 2000; i++) {
        unsigned lun = (unsigned)rand_r(&seed) % RACE_LUNS;

        if (slots[lun] == NULL) {
            slots[lun] = mem_new(struct race_slot);
            slots[lun]->slot = (struct scsi_slot){0, (uint16_t)lun, rig.port};
            assert_int_equal(scsi_table_publish(table, &slots[lun]->slot), 0);
        } else {
            scsi_table_unpublish(table, &slots[lun]->slot);
            rcu_call(&slots[lun]->rcu, race_slot_free);
            slots[lun] = NULL;
        }
    }
    at_store(&over, 1);
    for (size_t i = 0; i < countof(threads); i++) {
        os_thread_join(threads[i]);
    }
    for (unsigned lun = 0; lun < RACE_LUNS; lun++) {
        if (slots[lun] != NULL) {
            scsi_table_unpublish(table, &slots[lun]->slot);
            rcu_call(&slots[lun]->rcu, race_slot_free);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_exactly_the_lun, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_with_a_plain_array, setup, teardown),
        cmocka_unit_test_setup_teardown(lowest_free_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(full_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(attention_at_a_target_or_all, setup, teardown),
        cmocka_unit_test_setup_teardown(report_luns_golden, setup, teardown),
        cmocka_unit_test_setup_teardown(report_many_luns, setup, teardown),
        cmocka_unit_test_setup_teardown(report_luns_ends_its_attention, setup, teardown),
        cmocka_unit_test_setup_teardown(inquiry_without_a_logical_unit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_well_known_logical_unit, setup, teardown),
        cmocka_unit_test_setup_teardown(everything_else_at_an_absent_lun, setup, teardown),
        cmocka_unit_test_setup_teardown(lookups_while_plugging, setup, teardown),
    };
    int failed;

    rcu_thread_register();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rcu_thread_unregister();
    return failed;
}
