/*
 * test_plug.c -- plug and unplug: properties, addresses, the order of things, what unplug waits
 * for.
 *
 * Built with -Wl,--wrap for the two functions between which the races of this field lie.
 */
#include "block/drain.h"
#include "device/device.h"
#include "rig.h"

static struct guest *guest;

/* ---- hooks ----------------------------------------------------------------------------------- */

static uint32_t pause_lookups; /* atomic: a lookup on an I/O thread stops after it has found */
static uint32_t paused;        /* atomic */
static uint32_t early_events;  /* atomic: told the guest of a LUN that it could not find */

struct scsi_slot *__real_scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun);
struct scsi_slot *__wrap_scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun);
struct scsi_slot *__wrap_scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun)
{
    struct scsi_slot *slot = __real_scsi_table_find(table, target, lun);

    if (slot != NULL && at_load(&pause_lookups)) {
        at_store(&paused, 1);
        while (at_load(&pause_lookups)) {
            rig_sleep_ms(1);
        }
        at_store(&paused, 0);
    }
    return slot;
}

void __real_hba_event_send(struct hba *hba, uint32_t event, uint8_t target, uint16_t lun,
                           uint32_t reason);
void __wrap_hba_event_send(struct hba *hba, uint32_t event, uint8_t target, uint16_t lun,
                           uint32_t reason);
void __wrap_hba_event_send(struct hba *hba, uint32_t event, uint8_t target, uint16_t lun,
                           uint32_t reason)
{
    loop_assert_main();
    if (reason == VIRTIO_SCSI_EVT_RESET_RESCAN &&
        scsi_table_at(hba_table(hba), target, lun) == NULL) {
        at_add(&early_events, 1);
    }
    __real_hba_event_send(hba, event, target, lun, reason);
}

/* ---- frame ----------------------------------------------------------------------------------- */

static int setup(void **state)
{
    rig_hold(false);
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'h',"
                          "'addr':{'type':'unix','path':'pl.sock'},"
                          "'num-queues':1,'iothread':'io0'}") == 0);
    expect(rig_blockdev_add("{'driver':'hold','node-name':'n'}") == 0);
    guest = guest_new("pl.sock");
    guest_start_all(guest, 1);
    return 0;
}

static int teardown(void **state)
{
    unsigned before = rig_events("BLOCK_EXPORT_DELETED", "h");

    rig_hold(false);
    guest_free(guest);
    expect(rig_export_del("h", true) == 0);
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "h") > before, 5));
    expect(rig_blockdev_del("n") == 0);
    return 0;
}

#define HD "{'driver':'scsi-hd','bus':'h.0','drive':'n'"

/* ---- properties and addresses ---------------------------------------------------------------- */

static void bad_properties_are_named(void **state)
{
    static const struct {
        const char *json, *named;
    } rows[] = {
        {"{'driver':'scsi-hd','bus':'h.0','drive':'nope'}", "'nope'"},
        {"{'driver':'scsi-hd','bus':'x.0','drive':'n'}", "'x.0'"},
        {"{'driver':'scsi-hd','bus':'h','drive':'n'}", "'h'"},
        {"{'driver':'scsi-tape','bus':'h.0','drive':'n'}", "'scsi-tape'"},
        {"{'driver':'scsi-hd','bus':'h.0'}", "drive"},
        {HD ",'id':'0bad'}", "'0bad'"},
        {HD ",'lun':16384}", "16383"},
        {HD ",'scsi-id':256}", "255"},
        {HD ",'channel':1}", "channel"},
        {HD ",'logical_block_size':768}", "logical_block_size"},
        {HD ",'logical_block_size':4096,'physical_block_size':512}", "physical_block_size"},
        {HD ",'min_io_size':100}", "min_io_size"},
        {HD ",'serial':'0123456789012345678901234567890123456'}", "serial"},
        {HD ",'vendor':'nine char'}", "vendor"},
        {HD ",'cyls':1}", "cyls"},
        {HD ",'bootindex':1}", "bootindex"},
        {HD ",'werror':'stop'}", "werror"},
        {HD ",'scsi_id':1}", "scsi-id"},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        assert_true(rig_device_add(rows[i].json) < 0);
        if (strstr(rig_error, rows[i].named) == NULL) {
            fail_msg("%s: '%s' does not name %s", rows[i].json, rig_error, rows[i].named);
        }
        assert_string_equal(rig_query_devices(), "[]");
    }
}

static void lowest_free_address_is_taken(void **state)
{
    expect(rig_blockdev_add("{'driver':'null-co','node-name':'s'}") == 0);
#define SHARED "{'driver':'scsi-hd','bus':'h.0','drive':'s','share-rw':true,'id':"
    assert_int_equal(rig_device_add(SHARED "'a'}"), 0);
    assert_int_equal(rig_device_add(SHARED "'b'}"), 0);
    assert_int_equal(rig_device_add(SHARED "'c','scsi-id':0}"), 0);
    assert_int_equal(rig_device_add(SHARED "'d','lun':1}"), 0);
    assert_non_null(strstr(rig_query_devices(), "\"scsi-id\":0,\"lun\":0,"));
    assert_non_null(strstr(rig_query_devices(), "\"scsi-id\":1,\"lun\":0,"));
    assert_non_null(strstr(rig_query_devices(), "\"scsi-id\":0,\"lun\":1,"));
    assert_non_null(strstr(rig_query_devices(), "\"scsi-id\":1,\"lun\":1,"));
    assert_int_equal(rig_device_add(SHARED "'e','scsi-id':0,'lun':1}"), -EBUSY);
    assert_non_null(strstr(rig_error, "'c'"));
    assert_int_equal(rig_device_add(SHARED "'a'}"), -EEXIST);
    assert_int_equal(rig_device_add(SHARED "'f','logical_block_size':4096}"), -EINVAL);
    assert_non_null(strstr(rig_error, "logical_block_size"));
    for (const char *id = "a\0b\0c\0d\0"; *id != '\0'; id += 2) {
        assert_int_equal(rig_device_del(id), 0);
        assert_true(rig_wait_for(rig_events("DEVICE_DELETED", id) == 1, 5));
    }
    expect(rig_blockdev_del("s") == 0);
}

static void a_drive_is_shared_only_if_both_say_so(void **state)
{
    assert_int_equal(rig_device_add(HD ",'id':'x1','share-rw':true}"), 0);
    assert_true(rig_device_add(HD ",'id':'x2'}") < 0);
    assert_non_null(strstr(rig_error, "x1"));
    assert_int_equal(rig_device_add(HD ",'id':'x2','share-rw':true}"), 0);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* RACES R5 */
static void the_guest_is_told_of_what_it_can_find(void **state)
{
    unsigned chain = guest_submit_raw(guest, 1, "", 0, sizeof(struct virtio_scsi_event));

    at_store(&early_events, 0);
    assert_int_equal(rig_device_add(HD ",'id':'e1','scsi-id':3,'lun':2}"), 0);
    assert_true(guest_wait(guest, 1, chain, 2000));
    assert_memory_equal(guest_in(guest, 1, chain),
                        "\1\0\0\0"          /* TRANSPORT_RESET */
                        "\1\3\0\2\0\0\0\0"  /* the LUN */
                        "\1\0\0\0", 16);    /* RESCAN */
    assert_int_equal(at_load(&early_events), 0);
}

static void unplug_frees_id_address_and_node(void **state)
{
    unsigned chain;

    for (int i = 0; i < 20; i++) {
        unsigned before = rig_events("DEVICE_DELETED", "u1");

        assert_int_equal(rig_device_add(HD ",'id':'u1','scsi-id':0,'lun':0}"), 0);
        guest_settle(guest, 0, 0);
        assert_int_equal(rig_device_del("u1"), 0);
        assert_true(rig_wait_for(rig_events("DEVICE_DELETED", "u1") > before, 5));
        assert_int_equal(guest_command(guest, 2, 0, 0, TEST_UNIT_READY, 0).response,
                         VIRTIO_SCSI_S_BAD_TARGET);
    }
    /* all forty events had no buffer: the first that is delivered says that some were missed */
    chain = guest_submit_raw(guest, 1, "", 0, sizeof(struct virtio_scsi_event));
    assert_true(guest_wait(guest, 1, chain, 2000));
    assert_memory_equal(guest_in(guest, 1, chain), "\1\0\0\x80", 4);
    chain = guest_submit_raw(guest, 1, "", 0, sizeof(struct virtio_scsi_event));
    assert_true(guest_wait(guest, 1, chain, 2000));
    assert_memory_equal(guest_in(guest, 1, chain), "\1\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0", 16);
}

static void unplug_waits_for_requests_and_says_so(void **state)
{
    unsigned before = rig_events("DEVICE_DELETED", "w1");
    unsigned chain;

    assert_int_equal(rig_device_add(HD ",'id':'w1','scsi-id':0,'lun':0,'serial':'S1'}"), 0);
    guest_settle(guest, 0, 0);
    rig_hold(true);
    chain = guest_submit(guest, 2, 0, 0, 77, READ_10(8, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    assert_int_equal(rig_device_del("w1"), 0);
    assert_int_equal(rig_device_del("w1"), -EBUSY);
    assert_string_equal(rig_error, "Device w1 is already in the process of unplug");
    assert_int_equal(rig_device_del("nobody"), -ENOENT);
    rig_sleep_ms(20);
    assert_int_equal(rig_events("DEVICE_DELETED", "w1"), before);
    assert_non_null(strstr(rig_query_devices(), "\"serial\":\"S1\",\"state\":\"draining\""));
    assert_non_null(strstr(rig_query_waits(), "READ(10) lba 8 blocks 1"));
    /* nobody finds it, its address and node are not free */
    assert_int_equal(guest_command(guest, 2, 0, 0, TEST_UNIT_READY, 0).response,
                     VIRTIO_SCSI_S_BAD_TARGET);
    assert_int_equal(rig_device_add(HD ",'id':'w2','scsi-id':0,'lun':0}"), -EBUSY);
    assert_true(rig_blockdev_del("n") < 0);
    rig_hold(false);
    assert_true(guest_wait(guest, 2, chain, 2000));
    assert_int_equal(guest_answer_of(guest, 2, chain).status, SCSI_GOOD);
    assert_true(rig_wait_for(rig_events("DEVICE_DELETED", "w1") > before, 5));
    assert_string_equal(rig_query_waits(), "[]");
    assert_int_equal(rig_device_add(HD ",'id':'w1','scsi-id':0,'lun':0}"), 0);
}

/* RACES R4: a home that has found the LUN and not yet raised its token is waited for. */
static void unplug_waits_for_a_home_between_lookup_and_token(void **state)
{
    unsigned before = rig_events("DEVICE_DELETED", "r4");
    struct guest_answer answer;
    unsigned chain;

    assert_int_equal(rig_device_add(HD ",'id':'r4','scsi-id':0,'lun':0}"), 0);
    guest_settle(guest, 0, 0);
    at_store(&pause_lookups, 1);
    chain = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(at_load(&paused) == 1, 2));
    assert_int_equal(rig_device_del("r4"), 0);
    rig_sleep_ms(50);
    assert_int_equal(rig_events("DEVICE_DELETED", "r4"), before);
    assert_non_null(strstr(rig_query_devices(), "\"state\":\"unpublished\""));
    assert_true(rig_blockdev_del("n") < 0); /* the drive is still attached */
    at_store(&pause_lookups, 0);
    assert_true(guest_wait(guest, 2, chain, 2000));
    answer = guest_answer_of(guest, 2, chain);
    assert_int_equal(answer.response, VIRTIO_SCSI_S_OK);
    assert_true(rig_wait_for(rig_events("DEVICE_DELETED", "r4") > before, 5));
}

static void without_an_id_there_is_a_path(void **state)
{
    unsigned before = rig_events("DEVICE_DELETED", NULL);
    char path[64];

    assert_int_equal(rig_device_add(HD "}"), 0);
    assert_int_equal(sscanf(rig_query_devices(), "[{\"id\":\"%63[^\"]", path), 1);
    assert_non_null(strstr(path, "/machine/peripheral-anon/device["));
    assert_int_equal(rig_device_del(path), 0);
    assert_true(rig_wait_for(rig_events("DEVICE_DELETED", NULL) > before, 5));
}

static void hard_deletion_unplugs_and_tells(void **state)
{
    unsigned before = rig_events("DEVICE_DELETED", "z1");
    unsigned exports = rig_events("BLOCK_EXPORT_DELETED", "h");

    assert_int_equal(rig_device_add(HD ",'id':'z1'}"), 0);
    assert_int_equal(rig_export_del("h", false), -EBUSY);
    assert_non_null(strstr(rig_error, "'z1'"));
    assert_non_null(strstr(rig_error, "front end"));
    assert_int_equal(rig_export_del("nobody", false), -ENOENT);
    assert_int_equal(rig_export_del("h", true), 0);
    assert_true(rig_device_add(HD ",'id':'z2'}") < 0); /* its bus is not found any more */
    assert_true(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "h") > exports, 5));
    assert_int_equal(rig_events("DEVICE_DELETED", "z1"), before + 1);
    assert_string_equal(rig_query_exports(), "[]");
    guest_free(guest);
    expect(rig_blockdev_del("n") == 0);
    setup(state);
}

#define plug_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static int run(void)
{
    const struct CMUnitTest tests[] = {
        plug_test(bad_properties_are_named),
        plug_test(lowest_free_address_is_taken),
        plug_test(a_drive_is_shared_only_if_both_say_so),
        plug_test(the_guest_is_told_of_what_it_can_find),
        plug_test(unplug_frees_id_address_and_node),
        plug_test(unplug_waits_for_requests_and_says_so),
        plug_test(unplug_waits_for_a_home_between_lookup_and_token),
        plug_test(without_an_id_there_is_a_path),
        plug_test(hard_deletion_unplugs_and_tells),
    };

    rig_iothread_add("io0");
    return cmocka_run_group_tests_name("device plug", tests, NULL, NULL);
}

int main(void)
{
    return rig_main(run);
}
