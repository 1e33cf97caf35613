/* test_session.c -- front ends, well-behaved, nonsensical and dying, and what the next one
 * finds. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/bytes.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/socket.h"
#include "rig.h"
#include "../virtio/sigbus.h"

enum { F_PROTOCOL = 30 };

static struct guest *other; /* on an HBA of its own, whose I/O goes on whatever the first does */

static int setup(void **state)
{
    rig_hold(false);
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'h',"
                          "'addr':{'type':'unix','path':'se.sock'},"
                          "'num-queues':2,'iothread':['io0','io1']}") == 0);
    expect(rig_export_add("{'type':'vhost-user-scsi','id':'g',"
                          "'addr':{'type':'unix','path':'so.sock'},'iothread':'io0'}") == 0);
    expect(rig_blockdev_add("{'driver':'hold','node-name':'n'}") == 0);
    expect(rig_blockdev_add("{'driver':'null-co','node-name':'other'}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'d','bus':'h.0','drive':'n'}") == 0);
    expect(rig_device_add("{'driver':'scsi-hd','id':'o','bus':'g.0','drive':'other'}") == 0);
    other = guest_new("so.sock");
    guest_start_all(other, 1);
    guest_settle(other, 0, 0);
    rig_log_clear();
    return 0;
}

static int teardown(void **state)
{
    unsigned before = rig_events("BLOCK_EXPORT_DELETED", "h");
    unsigned before_g = rig_events("BLOCK_EXPORT_DELETED", "g");

    rig_hold(false);
    guest_settle(other, 0, 0);
    guest_free(other);
    expect(rig_export_del("h", true) == 0);
    expect(rig_export_del("g", true) == 0);
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "h") > before, 5));
    expect(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "g") > before_g, 5));
    expect(rig_blockdev_del("n") == 0);
    expect(rig_blockdev_del("other") == 0);
    return 0;
}

/* ---- a raw connection ------------------------------------------------------------------------ */

static int raw_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    expect(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

static void raw_send(int fd, const void *bytes, size_t count, const int *fds, int fd_count)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, count};

    expect(os_send(fd, &iov, 1, fds, fd_count) == (ssize_t)count);
}

static void raw_message(int fd, uint32_t request, uint32_t flags, const void *payload,
                        uint32_t bytes, const int *fds, int fd_count)
{
    uint8_t raw[4096];

    memcpy(raw, &request, 4);
    memcpy(raw + 4, &flags, 4);
    memcpy(raw + 8, &bytes, 4);
    if (bytes > 0) {
        memcpy(raw + 12, payload, bytes);
    }
    raw_send(fd, raw, 12 + bytes, fds, fd_count);
}

/* Bytes that come within a second; 0: closed; -1: nothing. */
static ssize_t raw_receive(int fd, void *to, size_t bytes)
{
    struct timeval limit = {.tv_sec = 2};
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    n = recv(fd, to, bytes, 0);
    return n < 0 && errno == ECONNRESET ? 0 : n;
}

static void raw_agree_on_acks(int fd)
{
    uint64_t features = UINT64_C(1) << VU_PROTOCOL_F_REPLY_ACK;

    raw_message(fd, VU_SET_PROTOCOL_FEATURES, 1, &features, 8, NULL, 0);
}

/* ---- nonsense -------------------------------------------------------------------------------- */

struct nonsense {
    const char *label;
    uint32_t request, flags;
    uint32_t payload[12];
    uint32_t payload_bytes;
    const char *named[3]; /* what the log line must have */
};

static const struct nonsense nonsense[] = {
    {"version 2", VU_GET_FEATURES, 2, .named = {"version"}},
    {"a payload too many", VU_GET_FEATURES, 1, {1, 2}, 8, {"GET_FEATURES"}},
    {"a payload too short", VU_SET_FEATURES, 1, {1}, 4, {"SET_FEATURES", "8"}},
    {"unknown", 99, 1, .named = {"99"}},
    {"features never offered", VU_SET_FEATURES, 1, {1u << 5, 1u << 9}, 8,
     {"SET_FEATURES", "0x20000000020", "offered"}},
    {"protocol features never offered", VU_SET_PROTOCOL_FEATURES, 1, {1 << 12, 0}, 8,
     {"SET_PROTOCOL_FEATURES", "0x1000"}},
    {"ring 9", VU_SET_VRING_NUM, 1, {9, 64}, 8, {"SET_VRING_NUM", "ring 9", "0 to 3"}},
    {"size 0", VU_SET_VRING_NUM, 1, {2, 0}, 8, {"SET_VRING_NUM", "ring 2", "power of two"}},
    {"size 100", VU_SET_VRING_NUM, 1, {2, 100}, 8, {"SET_VRING_NUM", "ring 2", "power of two"}},
    {"size 65536", VU_SET_VRING_NUM, 1, {2, 65536}, 8, {"ring 2", "32768"}},
    {"base 65536", VU_SET_VRING_BASE, 1, {2, 65536}, 8, {"SET_VRING_BASE", "ring 2", "65535"}},
    {"enable 7", VU_SET_VRING_ENABLE, 1, {2, 7}, 8, {"SET_VRING_ENABLE", "ring 2"}},
    {"log flag", VU_SET_VRING_ADDR, 1, {2, 1}, 40, {"SET_VRING_ADDR", "ring 2", "log"}},
    {"a kick before all", VU_SET_VRING_KICK, 1, {2 | 1 << 8, 0}, 8,
     {"SET_VRING_KICK", "ring 2", "SET_MEM_TABLE"}},
    {"a kick without its descriptor", VU_SET_VRING_KICK, 1, {2, 0}, 8, {"SET_VRING_KICK"}},
    {"500 regions", VU_SET_MEM_TABLE, 1, {500, 0}, 8, {"SET_MEM_TABLE", "500"}},
    {"a region without descriptor", VU_SET_MEM_TABLE, 1, {1, 0, 0, 0, 4096}, 40, {"SET_MEM_TABLE"}},
    {"nothing to take away", VU_REM_MEM_REG, 1, {0}, 40, {"REM_MEM_REG", "no memory region"}},
    {"config read-only", VU_SET_CONFIG, 1, {0, 4, 0, 7}, 16, {"SET_CONFIG", "writable"}},
    {"log base", VU_SET_INFLIGHT_FD, 1, {0}, 20, {"SET_INFLIGHT_FD"}},
};

static void nonsense_is_named_and_ends_the_connection(void **state)
{
    for (size_t i = 0; i < countof(nonsense); i++) {
        const struct nonsense *row = &nonsense[i];
        int fd = raw_connect("se.sock");
        char reply[64];

        rig_log_clear();
        raw_message(fd, row->request, row->flags, row->payload, row->payload_bytes, NULL, 0);
        if (raw_receive(fd, reply, sizeof(reply)) != 0) {
            /* an unknown or optional message is no reason to hang up */
            expect(row->request == 99);
        }
        for (size_t k = 0; k < countof(row->named) && row->named[k] != NULL; k++) {
            if (!rig_wait_for(strstr(rig_log(), row->named[k]) != NULL, 1)) {
                fail_msg("%s: '%s' is not in the log: %s", row->label, row->named[k], rig_log());
            }
        }
        close(fd);
        guest_settle(other, 0, 0);
        if (i % 8 == 7) { /* ten such lines a minute: a new export has a new limit */
            teardown(state);
            setup(state);
        }
    }
}

static void with_acknowledgements_the_connection_is_kept(void **state)
{
    int fd = raw_connect("se.sock");
    uint32_t bad[2] = {9, 64};
    uint32_t good[2] = {2, 64};
    uint32_t reply[5];

    raw_agree_on_acks(fd);
    raw_message(fd, VU_SET_VRING_NUM, 1 | 8, bad, 8, NULL, 0);
    assert_int_equal(raw_receive(fd, reply, sizeof(reply)), 20);
    assert_int_equal(reply[0], VU_SET_VRING_NUM);
    assert_int_equal(reply[1], 1 | 4);
    assert_int_not_equal(reply[3], 0);
    raw_message(fd, VU_SET_VRING_NUM, 1 | 8, good, 8, NULL, 0);
    assert_int_equal(raw_receive(fd, reply, sizeof(reply)), 20);
    assert_int_equal(reply[3], 0);
    close(fd);
}

static void messages_in_pieces_and_together(void **state)
{
    int fd = raw_connect("se.sock");
    uint32_t get[3] = {VU_GET_FEATURES, 1, 0};
    uint32_t two[6] = {VU_GET_FEATURES, 1, 0, VU_GET_PROTOCOL_FEATURES, 1, 0};
    uint8_t single[12];
    uint8_t reply[64];

    memcpy(single, get, sizeof(get));
    for (size_t i = 0; i < countof(single); i++) {
        raw_send(fd, &single[i], 1, NULL, 0);
        rig_sleep_ms(1);
    }
    assert_int_equal(raw_receive(fd, reply, 20), 20);
    raw_send(fd, two, sizeof(two), NULL, 0);
    assert_int_equal(raw_receive(fd, reply, 20), 20);
    assert_int_equal(raw_receive(fd, reply, 20), 20);
    raw_send(fd, get, 7, NULL, 0); /* and half of one more */
    close(fd);
    assert_true(rig_wait_for(strstr(rig_log(), "middle of a message") != NULL, 2));
}

static void too_many_descriptors(void **state)
{
    int fd = raw_connect("se.sock");
    unsigned before = os_fd_count();
    int fds[20];
    char reply[16];

    for (size_t i = 0; i < countof(fds); i++) {
        fds[i] = os_eventfd();
    }
    raw_message(fd, VU_SET_OWNER, 1, NULL, 0, fds, countof(fds));
    assert_int_equal(raw_receive(fd, reply, sizeof(reply)), 0);
    close(fd);
    for (size_t i = 0; i < countof(fds); i++) {
        close(fds[i]);
    }
    assert_true(rig_wait_for(os_fd_count() <= before - 1, 2)); /* none has stayed with the daemon */
    assert_non_null(strstr(rig_log(), "SET_OWNER"));
}

static void config_space_any_size(void **state)
{
    struct guest *guest = guest_new("se.sock");
    uint8_t bytes[256];

    memset(bytes, 0xee, sizeof(bytes));
    assert_int_equal(vu_front_get_config(guest->front, 0, 256, bytes, NULL), 0);
    assert_int_equal(le32_load(bytes), 2);       /* num_queues */
    assert_int_equal(le32_load(bytes + 20), 96); /* sense_size */
    assert_int_equal(le32_load(bytes + 24), 32); /* cdb_size */
    assert_int_equal(le16_load(bytes + 30), 255);
    assert_int_equal(le32_load(bytes + 32), 16383);
    for (size_t i = 36; i < countof(bytes); i++) {
        assert_int_equal(bytes[i], 0);
    }
    assert_int_equal(vu_front_get_config(guest->front, 30, 3, bytes, NULL), 0);
    assert_int_equal(bytes[0], 255);
    guest_free(guest);
}

/* ---- rings ----------------------------------------------------------------------------------- */

static void without_protocol_features_rings_start_enabled(void **state)
{
    struct guest *guest = guest_new("se.sock");
    uint64_t features = guest->features & ~(UINT64_C(1) << F_PROTOCOL);
    struct vu_msg disable = {.request = VU_SET_VRING_ENABLE, .state = {2, 0}};
    unsigned chain;

    assert_int_equal(vu_front_set_features(guest->front, features, NULL), 0);
    guest_start(guest, 2);
    guest_settle(guest, 0, 0);
    assert_int_equal(vu_front_call(guest->front, &disable, NULL, NULL), 0);
    chain = guest_submit(guest, 2, 0, 0, 1, TEST_UNIT_READY, 0, 0);
    assert_false(guest_wait(guest, 2, chain, 50)); /* started but disabled */
    disable.state.num = 1;
    assert_int_equal(vu_front_call(guest->front, &disable, NULL, NULL), 0);
    assert_true(guest_wait(guest, 2, chain, 2000));
    guest_free(guest);
}

static void a_ring_is_stopped_and_started_again(void **state)
{
    struct guest *guest = guest_new("se.sock");
    uint32_t base = 0;

    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    assert_int_equal(vu_front_ring_stop(guest->front, 2, &base, NULL), 0);
    assert_int_equal(base, guest->rings[2].next_avail);
    assert_int_equal(vu_front_ring_stop(guest->front, 2, &base, NULL), 0); /* once more: the same */
    assert_int_equal(base, guest->rings[2].next_avail);
    close(guest->kick[2]);
    close(guest->call[2]);
    guest_start(guest, 2);
    guest_settle(guest, 0, 0);
    guest_free(guest);
}

CO_FN
static void unhold_later_co(void *opaque)
{
    loop_co_sleep(UINT64_C(50000000));
    rig_hold(false);
}

static void stopping_waits_for_requests(void **state)
{
    struct guest *guest = guest_new("se.sock");
    uint32_t base = 0;
    unsigned chain;

    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    rig_hold(true);
    chain = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    loop_co_spawn(loop_main(), unhold_later_co, NULL, "unhold");
    assert_int_equal(vu_front_ring_stop(guest->front, 2, &base, NULL), 0);
    assert_true(guest_wait(guest, 2, chain, 0)); /* it was answered before the stop was */
    assert_int_equal(guest_answer_of(guest, 2, chain).status, SCSI_GOOD);
    guest_free(guest);
}

static void a_table_is_replaced_under_load(void **state)
{
    struct guest *guest = guest_new("se.sock");
    struct guest_region_def region = {.guest_address = GUEST_ADDRESS,
                                      .bytes = GUEST_MEMORY_BYTES,
                                      .user_address = (uintptr_t)guest->memory,
                                      .fd = guest->memfd};
    unsigned held_chain;

    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    rig_hold(true);
    held_chain = guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(vu_front_set_memory(guest->front, &region, 1, NULL), 0);
        assert_int_equal(guest_command(guest, 3, 0, 0, TEST_UNIT_READY, 0).response, 0);
    }
    rig_hold(false);
    assert_true(guest_wait(guest, 2, held_chain, 2000));
    assert_int_equal(guest_in(guest, 2, held_chain)[108], 0x5a);
    region.guest_address += GUEST_MEMORY_BYTES; /* now buffers lie outside */
    assert_int_equal(vu_front_set_memory(guest->front, &region, 1, NULL), 0);
    held_chain = guest_submit(guest, 2, 0, 0, 1, TEST_UNIT_READY, 0, 0);
    assert_false(guest_wait(guest, 2, held_chain, 50));
    assert_true(rig_wait_for(strstr(rig_log(), "ring 2") != NULL, 2));
    guest_free(guest);
}

static void memory_slots_come_and_go(void **state)
{
    struct guest *guest = guest_new("se.sock");
    struct vu_msg message = {.request = VU_GET_MAX_MEM_SLOTS};
    struct vu_msg reply = {0};
    int memfd = os_memfd("more", 1 << 20);

    assert_int_equal(vu_front_call(guest->front, &message, &reply, NULL), 0);
    assert_int_equal(reply.u64, GUEST_REGIONS_MAX);
    message = (struct vu_msg){.request = VU_ADD_MEM_REG, .fd_count = 1, .fds = {memfd}};
    message.region = (struct guest_region_def){.guest_address = UINT64_C(1) << 40, .bytes = 1 << 20,
                                               .user_address = 4096, .fd = memfd};
    assert_int_equal(vu_front_call(guest->front, &message, NULL, NULL), 0);
    assert_int_equal(vu_front_call(guest->front, &message, NULL, NULL), -EREMOTEIO); /* overlaps */
    message.request = VU_REM_MEM_REG;
    message.fd_count = 0;
    assert_int_equal(vu_front_call(guest->front, &message, NULL, NULL), 0);
    assert_int_equal(vu_front_call(guest->front, &message, NULL, NULL), -EREMOTEIO);
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    close(memfd);
    guest_free(guest);
}

static void device_reset(void **state)
{
    struct guest *guest = guest_new("se.sock");
    struct vu_msg reset = {.request = VU_RESET_DEVICE};
    struct guest_answer answer;

    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    assert_int_equal(vu_front_call(guest->front, &reset, NULL, NULL), 0);
    assert_int_equal(vu_front_set_features(guest->front, guest->features, NULL), 0);
    for (int i = 0; i < 4; i++) {
        close(guest->kick[i]);
        close(guest->call[i]);
    }
    guest_start_all(guest, 2);
    answer = guest_command(guest, 2, 0, 0, TEST_UNIT_READY, 0);
    assert_int_equal(answer.status, SCSI_CHECK_CONDITION);
    assert_int_equal(answer.sense[12], 0x29);
    guest_free(guest);
}

/* ---- dying front ends ------------------------------------------------------------------------ */

static void the_next_one_is_served_at_once(void **state)
{
    for (int i = 0; i < 10; i++) {
        struct guest *guest = guest_new("se.sock");
        struct guest *next;

        guest_start_all(guest, 2);
        rig_hold(false);
        guest_settle(guest, 0, 0);
        rig_hold(true);
        guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
        guest_submit(guest, 3, 0, 0, 2, READ_10(0, 1), 0, 512);
        assert_true(rig_wait_for(rig_held() == 2, 2));
        guest_tmf(guest, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 0, 0, 0);
        rig_sleep_ms((unsigned)i % 4);
        guest_free(guest); /* with its I/O stuck */
        next = guest_new("se.sock");
        guest_start_all(next, 2);
        guest_command(next, 2, 0, 0, TEST_UNIT_READY, 0); /* is answered */
        assert_int_equal(guest_command(next, 2, 0, 0, CDB(0x12, 0, 0, 0, 36, 0), 36).status,
                         SCSI_GOOD);
        guest_free(next);
        rig_hold(false);
        assert_true(rig_wait_for(rig_held() == 0, 2));
    }
}

/* RACES: a front end that goes while its ring is being stopped. */
static void hanging_up_while_a_stop_waits(void **state)
{
    for (int i = 0; i < 10; i++) {
        struct guest *guest = guest_new("se.sock");
        struct guest *next;
        uint32_t stop[2] = {2, 0};

        guest_start_all(guest, 2);
        guest_settle(guest, 0, 0);
        rig_hold(true);
        guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
        assert_true(rig_wait_for(rig_held() == 1, 2));
        raw_message(vu_front_fd(guest->front), VU_GET_VRING_BASE, 1, stop, 8, NULL, 0);
        rig_sleep_ms((unsigned)i);
        guest_free(guest);
        next = guest_new("se.sock");
        guest_start_all(next, 2);
        guest_command(next, 3, 0, 0, TEST_UNIT_READY, 0);
        guest_free(next);
        rig_hold(false);
        assert_true(rig_wait_for(rig_held() == 0, 2));
    }
}

/* Once it has hung up, no further ring is waited for: the next front end is served. */
static void hanging_up_while_a_reset_waits(void **state)
{
    struct guest *guest = guest_new("se.sock");
    struct guest *next;

    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    rig_hold(true);
    guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    guest_submit(guest, 3, 0, 0, 2, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 2, 2));
    raw_message(vu_front_fd(guest->front), VU_RESET_DEVICE, 1, NULL, 0, NULL, 0);
    rig_sleep_ms(20);
    guest_free(guest);
    next = guest_new("se.sock");
    guest_start_all(next, 2);
    guest_command(next, 3, 0, 0, CDB(0x12, 0, 0, 0, 36, 0), 36);
    guest_free(next);
    rig_hold(false);
    assert_true(rig_wait_for(rig_held() == 0, 2));
}

static void a_second_front_end_waits_for_its_turn(void **state)
{
    struct guest *guest = guest_new("se.sock");
    uint32_t get[3] = {VU_GET_FEATURES, 1, 0};
    uint8_t reply[32];
    int second = raw_connect("se.sock");
    struct timeval limit = {.tv_usec = 50000};

    raw_send(second, get, sizeof(get), NULL, 0);
    setsockopt(second, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(recv(second, reply, sizeof(reply), 0), -1);
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    guest_free(guest);
    assert_int_equal(raw_receive(second, reply, sizeof(reply)), 20);
    close(second);
}

static void memory_is_truncated_under_load(void **state)
{
    struct guest *guest = guest_new("se.sock");

    sigbus_to_guards();
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    rig_hold(true);
    guest_submit(guest, 2, 0, 0, 1, READ_10(0, 1), 0, 512);
    assert_true(rig_wait_for(rig_held() == 1, 2));
    assert_int_equal(ftruncate(guest->memfd, 0), 0);
    rig_hold(false);
    assert_true(rig_wait_for(rig_held() == 0, 2));
    for (int i = 0; i < 4; i++) {
        os_eventfd_signal(guest->kick[i]);
    }
    assert_true(rig_wait_for(strstr(rig_log(), "'h'") != NULL, 2));
    guest_settle(other, 0, 0);
    guest_free(guest);
    guest = guest_new("se.sock");
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    guest_free(guest);
}

/* A descriptor that is no eventfd and takes no write is the front end's loss, not the daemon's. */
static void a_call_descriptor_that_cannot_be_written(void **state)
{
    static const enum vu_request requests[] = {VU_SET_VRING_CALL, VU_SET_VRING_ERR};

    os_signal_ignore(OS_SIGPIPE); /* as the daemon does */
    for (unsigned i = 0; i < 2 * countof(requests); i++) {
        struct guest *guest = guest_new("se.sock");
        struct vu_msg set = {.request = requests[i % 2], .fd_count = 1};
        int fds[2];

        assert_int_equal(os_pipe(fds), 0);
        if (i < 2) {
            close(fds[0]); /* a pipe that nobody reads, then the end that is not for writing */
        }
        rig_log_clear();
        guest_start_all(guest, 2);
        guest_settle(guest, 0, 0);
        set.ring_fd.index = 2;
        set.ring_fd.has_fd = true;
        set.fds[0] = i < 2 ? fds[1] : fds[0];
        assert_int_equal(vu_front_call(guest->front, &set, NULL, NULL), 0);
        guest_submit_raw(guest, 2, "", 1, set.request == VU_SET_VRING_ERR ? 1 : 108);
        assert_true(rig_wait_for(strstr(rig_log(), "ring 2") != NULL, 2));
        close(fds[1]);
        if (i >= 2) {
            close(fds[0]);
        }
        guest_settle(other, 0, 0);
        guest_free(guest);
    }
}

/* The log of one adapter says ten lines a minute, and how many it held back. */
static void the_log_is_limited(void **state)
{
    unsigned lines = 0;

    for (int i = 0; i < 30; i++) {
        int fd = raw_connect("se.sock");
        char reply[16];

        raw_message(fd, VU_GET_FEATURES, 2, NULL, 0, NULL, 0);
        raw_receive(fd, reply, sizeof(reply));
        close(fd);
    }
    for (const char *at = rig_log(); (at = strstr(at, "export 'h'")) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 10);
}

static void rings_without_a_kick_descriptor_are_polled(void **state)
{
    struct guest *guest = guest_new("se.sock");

    guest->polls = true;
    guest_start_all(guest, 2);
    guest_settle(guest, 0, 0);
    for (int i = 0; i < 5; i++) {
        rig_sleep_ms(20); /* the loop has gone to sleep */
        assert_int_equal(guest_command(guest, 3, 0, 0, READ_10(0, 1), 512).status, SCSI_GOOD);
    }
    guest_free(guest);
}

static void bad_options_are_named(void **state)
{
#define EXPORT "{'type':'vhost-user-scsi','id':'x','addr':{'type':'unix','path':'sx.sock'}"
    static const struct {
        const char *json, *named;
    } rows[] = {
        {"{'type':'vhost-user-fs','id':'x'}", "'vhost-user-fs'"},
        {"{'type':'vhost-user-scsi','id':'x'}", "addr"},
        {"{'type':'vhost-user-scsi','id':'x','addr':{'type':'unix'}}", "addr.path"},
        {"{'type':'vhost-user-scsi','id':'x','addr':{'type':'fd','str':'0'}}", "not a socket"},
        {"{'type':'vhost-user-scsi','id':'x','addr':{'type':'unix','path':'/no/such/x'}}",
         "/no/such/x"},
        {"{'type':'vhost-user-scsi','id':'g','addr':{'type':'unix','path':'sx.sock'}}", "'g'"},
        {EXPORT ",'num-queues':0}", "num-queues"},
        {EXPORT ",'num-queues':65}", "num-queues"},
        {EXPORT ",'node-name':'n'}", "node-name"},
        {EXPORT ",'writable':true}", "writable"},
        {EXPORT ",'iothread':'nope'}", "nope"},
        {EXPORT ",'iothread':['io0','nope']}", "nope"},
        {EXPORT ",'iothread':'io0','iothread-vq-mapping':[{'iothread':'io0'}]}", "exclude"},
        {EXPORT ",'iothread-vq-mapping':[{'iothread':'io0','vqs':[1]}]}", "0 to 0"},
        {EXPORT ",'num-queues':2,'iothread-vq-mapping':[{'iothread':'io0','vqs':[1]}]}", "queue 0"},
        {EXPORT ",'num-queues':2,'iothread-vq-mapping':[{'iothread':'io0','vqs':[0]},"
                "{'iothread':'io1'}]}", "for all"},
        {EXPORT ",'num-queues':2,'iothread-vq-mapping':[{'iothread':'io0','vqs':[0,1]},"
                "{'iothread':'io1','vqs':[1]}]}", "twice"},
        {EXPORT ",'iothread-vq-mapping':[{'iothread':'io0'},{'iothread':'io0'}]}", "twice"},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        assert_true(rig_export_add(rows[i].json) < 0);
        if (strstr(rig_error, rows[i].named) == NULL) {
            fail_msg("%s: '%s' does not name %s", rows[i].json, rig_error, rows[i].named);
        }
    }
    assert_int_equal(rig_export_add(EXPORT ",'num-queues':3,'iothread-vq-mapping':["
                                    "{'iothread':'io1','vqs':[2,0]},"
                                    "{'iothread':'io0','vqs':['1']}]}"), 0);
    assert_int_equal(rig_export_del("x", false), 0);
    assert_true(rig_wait_for(rig_events("BLOCK_EXPORT_DELETED", "x") == 1, 2));
}

#define session_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static int run(void)
{
    const struct CMUnitTest tests[] = {
        session_test(nonsense_is_named_and_ends_the_connection),
        session_test(with_acknowledgements_the_connection_is_kept),
        session_test(messages_in_pieces_and_together),
        session_test(too_many_descriptors),
        session_test(config_space_any_size),
        session_test(without_protocol_features_rings_start_enabled),
        session_test(a_ring_is_stopped_and_started_again),
        session_test(stopping_waits_for_requests),
        session_test(a_table_is_replaced_under_load),
        session_test(memory_slots_come_and_go),
        session_test(device_reset),
        session_test(the_next_one_is_served_at_once),
        session_test(hanging_up_while_a_stop_waits),
        session_test(hanging_up_while_a_reset_waits),
        session_test(a_second_front_end_waits_for_its_turn),
        session_test(memory_is_truncated_under_load),
        session_test(a_call_descriptor_that_cannot_be_written),
        session_test(the_log_is_limited),
        session_test(rings_without_a_kick_descriptor_are_polled),
        session_test(bad_options_are_named),
    };

    sigbus_remember();
    rig_iothread_add("io0");
    rig_iothread_add("io1");
    return cmocka_run_group_tests_name("vhost-user session", tests, NULL, NULL);
}

int main(void)
{
    return rig_main(run);
}
