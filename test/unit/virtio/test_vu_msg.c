/* test_vu_msg.c -- vhost-user messages: every request's size and descriptors, streams cut
 * anywhere. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "os/file.h"
#include "virtio/vu_msg.h"

/* memory.c, which is in the same archive, is not called here. */

/* What the document says of each request, written down apart from the table under test. */
struct known {
    enum vu_request request;
    const char *name;
    unsigned bytes, fds;
    int reply_bytes; /* -1: none of its own */
};
static const struct known known[] = {
    {VU_GET_FEATURES, "GET_FEATURES", 0, 0, 8},
    {VU_SET_FEATURES, "SET_FEATURES", 8, 0, -1},
    {VU_SET_OWNER, "SET_OWNER", 0, 0, -1},
    {VU_RESET_OWNER, "RESET_OWNER", 0, 0, -1},
    {VU_SET_MEM_TABLE, "SET_MEM_TABLE", 8, 0, -1},
    {VU_SET_LOG_BASE, "SET_LOG_BASE", 16, 1, 8},
    {VU_SET_LOG_FD, "SET_LOG_FD", 0, 1, -1},
    {VU_SET_VRING_NUM, "SET_VRING_NUM", 8, 0, -1},
    {VU_SET_VRING_ADDR, "SET_VRING_ADDR", 40, 0, -1},
    {VU_SET_VRING_BASE, "SET_VRING_BASE", 8, 0, -1},
    {VU_GET_VRING_BASE, "GET_VRING_BASE", 8, 0, 8},
    {VU_SET_VRING_KICK, "SET_VRING_KICK", 8, 1, -1},
    {VU_SET_VRING_CALL, "SET_VRING_CALL", 8, 1, -1},
    {VU_SET_VRING_ERR, "SET_VRING_ERR", 8, 1, -1},
    {VU_GET_PROTOCOL_FEATURES, "GET_PROTOCOL_FEATURES", 0, 0, 8},
    {VU_SET_PROTOCOL_FEATURES, "SET_PROTOCOL_FEATURES", 8, 0, -1},
    {VU_GET_QUEUE_NUM, "GET_QUEUE_NUM", 0, 0, 8},
    {VU_SET_VRING_ENABLE, "SET_VRING_ENABLE", 8, 0, -1},
    {VU_SET_BACKEND_REQ_FD, "SET_BACKEND_REQ_FD", 0, 1, -1},
    {VU_GET_CONFIG, "GET_CONFIG", 12, 0, 12},
    {VU_SET_CONFIG, "SET_CONFIG", 12, 0, -1},
    {VU_GET_INFLIGHT_FD, "GET_INFLIGHT_FD", 24, 0, 24},
    {VU_SET_INFLIGHT_FD, "SET_INFLIGHT_FD", 24, 1, -1},
    {VU_RESET_DEVICE, "RESET_DEVICE", 0, 0, -1},
    {VU_GET_MAX_MEM_SLOTS, "GET_MAX_MEM_SLOTS", 0, 0, 8},
    {VU_ADD_MEM_REG, "ADD_MEM_REG", 40, 1, -1},
    {VU_REM_MEM_REG, "REM_MEM_REG", 40, 0, -1},
    {VU_SET_STATUS, "SET_STATUS", 8, 0, -1},
    {VU_GET_STATUS, "GET_STATUS", 0, 0, 8},
    {VU_SET_DEVICE_STATE_FD, "SET_DEVICE_STATE_FD", 8, 1, 8},
    {VU_CHECK_DEVICE_STATE, "CHECK_DEVICE_STATE", 0, 0, 8},
};

static int parse(const struct known *request, enum vu_direction direction, unsigned bytes,
                 unsigned fds, struct vu_msg *msg, struct err **reterr)
{
    static const uint8_t zeroes[VU_PAYLOAD_BYTES_MAX];
    static const int numbers[VU_FDS_MAX] = {900, 901, 902, 903}; /* never looked at */
    struct vu_header header = {.request = request->request, .payload_bytes = bytes};

    return vu_msg_parse(&header, direction, zeroes, numbers, fds, msg, reterr);
}

static void assert_wrong(const struct known *request, enum vu_direction direction, unsigned bytes,
                         unsigned fds)
{
    AUTO(err) struct err *error = NULL;
    struct vu_msg msg;

    if (parse(request, direction, bytes, fds, &msg, &error) != -EPROTO) {
        fail_msg("%s with %u bytes and %u descriptors was taken", request->name, bytes, fds);
    }
    assert_non_null(strstr(error->text, request->name));
}

static void sizes_and_descriptors_are_exact(void **state)
{
    for (size_t i = 0; i < countof(known); i++) {
        const struct known *request = &known[i];
        struct vu_msg msg;

        assert_string_equal(vu_request_name(request->request), request->name);
        assert_int_equal(vu_request_has_reply(request->request), request->reply_bytes >= 0);
        for (unsigned bytes = 0; bytes <= 48; bytes++) {
            bool may_be = bytes == request->bytes;

            may_be |= bytes == 20 && request->bytes == 24;        /* without the padding */
            may_be |= request->request == VU_SET_MEM_TABLE && bytes >= 8; /* room for regions */
            if (!may_be) {
                assert_wrong(request, VU_TO_BACKEND, bytes, request->fds);
                continue;
            }
            assert_int_equal(parse(request, VU_TO_BACKEND, bytes, request->fds, &msg, NULL), 0);
            assert_int_equal(msg.request, request->request);
            assert_int_equal(msg.fd_count, request->fds);
            assert_false(msg.is_ack);
        }
        for (unsigned fds = 0; fds < 4; fds++) {
            bool may_be = fds == request->fds || (request->request == VU_REM_MEM_REG && fds == 1);

            if (!may_be) {
                assert_wrong(request, VU_TO_BACKEND, request->bytes, fds);
            }
        }
    }
}

static void replies_have_their_size_or_are_acknowledgements(void **state)
{
    for (size_t i = 0; i < countof(known); i++) {
        unsigned right = known[i].reply_bytes >= 0 ? (unsigned)known[i].reply_bytes : 8;
        struct vu_msg msg;

        assert_int_equal(parse(&known[i], VU_TO_FRONTEND, right, 0, &msg, NULL), 0);
        assert_int_equal(msg.is_ack, known[i].reply_bytes < 0);
        assert_wrong(&known[i], VU_TO_FRONTEND, right + 1, 0);
        assert_wrong(&known[i], VU_TO_FRONTEND, right - 1, 0);
        assert_wrong(&known[i], VU_TO_FRONTEND, right, 2);
    }
}

static void unknown_requests_are_told_apart(void **state)
{
    static const uint32_t numbers[] = {0, 19, 20, 22, 23, 26, 33, 35, 41, 44, 1000, UINT32_MAX};

    for (size_t i = 0; i < countof(numbers); i++) {
        struct vu_header header = {.request = numbers[i], .payload_bytes = 8};
        AUTO(err) struct err *error = NULL;
        uint8_t payload[8] = {0};
        struct vu_msg msg;

        assert_int_equal(vu_msg_parse(&header, VU_TO_BACKEND, payload, NULL, 0, &msg, &error),
                         -EOPNOTSUPP);
        assert_non_null(strstr(error->text, "is unknown"));
        assert_string_equal(vu_request_name(numbers[i]), "unknown");
    }
}

static int parse_header(uint32_t request, uint32_t flags, uint32_t bytes,
                        enum vu_direction direction, struct vu_header *header, struct err **reterr)
{
    uint32_t words[3] = {request, flags, bytes};
    uint8_t raw[VU_HEADER_BYTES];

    memcpy(raw, words, sizeof(raw));
    return vu_header_parse(raw, direction, header, reterr);
}

static void headers(void **state)
{
    struct vu_header header;

    for (uint32_t flags = 0; flags < 64; flags++) {
        bool ok = flags == 1 || flags == 9, reply_ok = flags == 5 || flags == 13;

        assert_int_equal(parse_header(1, flags, 0, VU_TO_BACKEND, &header, NULL), ok ? 0 : -EPROTO);
        if (ok) {
            assert_int_equal(header.need_reply, flags == 9);
        }
        assert_int_equal(parse_header(1, flags, 0, VU_TO_FRONTEND, &header, NULL),
                         reply_ok ? 0 : -EPROTO);
    }
    assert_int_equal(parse_header(1, 1, VU_PAYLOAD_BYTES_MAX, VU_TO_BACKEND, &header, NULL), 0);
    assert_int_equal(header.payload_bytes, VU_PAYLOAD_BYTES_MAX);
    assert_int_equal(parse_header(1, 1, VU_PAYLOAD_BYTES_MAX + 1, VU_TO_BACKEND, &header, NULL),
                     -EPROTO);
    assert_int_equal(parse_header(1, 1, UINT32_MAX, VU_TO_BACKEND, &header, NULL), -EPROTO);
    assert_int_equal(parse_header(777, 1, 4, VU_TO_BACKEND, &header, NULL), 0); /* later: unknown */
}

/* ---- values there and back ------------------------------------------------------------------ */

static void round_trip(const struct vu_msg *from, enum vu_direction direction, unsigned bytes,
                       struct vu_msg *to)
{
    uint8_t raw[VU_MSG_BYTES_MAX];
    struct vu_header header;
    struct err *error = NULL;

    memset(raw, 0xaa, sizeof(raw));
    assert_int_equal(vu_msg_encode(from, direction, raw), VU_HEADER_BYTES + bytes);
    assert_int_equal(vu_header_parse(raw, direction, &header, NULL), 0);
    assert_int_equal(header.payload_bytes, bytes);
    if (vu_msg_parse(&header, direction, raw + VU_HEADER_BYTES, from->fds, from->fd_count, to,
                     &error) < 0) {
        fail_msg("%s", error->text);
    }
    assert_int_equal(to->request, from->request);
    assert_int_equal(to->fd_count, from->fd_count);
}

static void values_survive(void **state)
{
    struct vu_msg to;

    struct vu_msg features = {.request = VU_SET_FEATURES, .need_reply = true, .u64 = 0x1234567890};
    round_trip(&features, VU_TO_BACKEND, 8, &to);
    assert_int_equal(to.u64, 0x1234567890);
    assert_true(to.need_reply);

    struct vu_msg addr = {.request = VU_SET_VRING_ADDR, .addr = {7, 1, 0x100, 0x200, 0x300, 0x400}};
    round_trip(&addr, VU_TO_BACKEND, 40, &to);
    assert_memory_equal(&to.addr, &addr.addr, sizeof(to.addr));

    struct vu_msg kick = {.request = VU_SET_VRING_KICK, .ring_fd = {200, true}, .fd_count = 1,
                          .fds = {77}};
    round_trip(&kick, VU_TO_BACKEND, 8, &to);
    assert_int_equal(to.ring_fd.index, 200);
    assert_true(to.ring_fd.has_fd);
    assert_int_equal(vu_msg_take_fd(&to, 0), 77);
    kick = (struct vu_msg){.request = VU_SET_VRING_CALL, .ring_fd = {3, false}};
    round_trip(&kick, VU_TO_BACKEND, 8, &to);
    assert_false(to.ring_fd.has_fd);

    struct vu_msg memory = {.request = VU_SET_MEM_TABLE, .fd_count = 2, .fds = {70, 71}};
    memory.memory.count = 2;
    memory.memory.regions[0] = (struct guest_region_def){1, 2, 3, 4, -1};
    memory.memory.regions[1] = (struct guest_region_def){5, 6, 7, 8, -1};
    round_trip(&memory, VU_TO_BACKEND, 72, &to);
    assert_int_equal(to.memory.count, 2);
    assert_int_equal(to.memory.regions[1].guest_address, 5);
    assert_int_equal(to.memory.regions[1].mmap_offset, 8);
    assert_int_equal(to.memory.regions[0].fd, 70);
    assert_int_equal(to.memory.regions[1].fd, 71);

    struct vu_msg add = {.request = VU_ADD_MEM_REG, .region = {5, 6, 7, 8, -1}, .fd_count = 1,
                         .fds = {70}};
    round_trip(&add, VU_TO_BACKEND, 40, &to);
    assert_int_equal(to.region.user_address, 7);
    assert_int_equal(to.region.fd, 70);
    add = (struct vu_msg){.request = VU_REM_MEM_REG, .region = {5, 6, 7, 8, 99}};
    round_trip(&add, VU_TO_BACKEND, 40, &to);
    assert_int_equal(to.region.fd, -1);

    struct vu_msg config = {.request = VU_GET_CONFIG, .config = {4, 6, 1, "abcdef"}};
    round_trip(&config, VU_TO_FRONTEND, 18, &to);
    assert_int_equal(to.config.offset, 4);
    assert_int_equal(to.config.bytes, 6);
    assert_memory_equal(to.config.data, "abcdef", 7);
    config.config.bytes = 0; /* "no" */
    round_trip(&config, VU_TO_FRONTEND, 0, &to);
    assert_int_equal(to.config.bytes, 0);

    struct vu_msg inflight = {.request = VU_GET_INFLIGHT_FD, .inflight = {9, 8, 7, 6}};
    round_trip(&inflight, VU_TO_BACKEND, 24, &to);
    assert_memory_equal(&to.inflight, &inflight.inflight, 20);

    struct vu_msg state_fd = {.request = VU_SET_DEVICE_STATE_FD, .device_state = {1, 0},
                              .fd_count = 1, .fds = {70}};
    round_trip(&state_fd, VU_TO_BACKEND, 8, &to);
    assert_int_equal(to.device_state.direction, 1);

    struct vu_msg ack = {.request = VU_SET_OWNER, .is_ack = true, .u64 = 1};
    round_trip(&ack, VU_TO_FRONTEND, 8, &to);
    assert_true(to.is_ack);
    assert_int_equal(to.u64, 1);
}

/* ---- payloads that contradict themselves ---------------------------------------------------- */

static void assert_refused(const void *payload, uint32_t request, uint32_t bytes, unsigned fds,
                           const char *text)
{
    struct vu_header header = {.request = request, .payload_bytes = bytes};
    static const int numbers[VU_FDS_MAX] = {900};
    AUTO(err) struct err *error = NULL;
    struct vu_msg msg;

    assert_int_equal(vu_msg_parse(&header, VU_TO_BACKEND, payload, numbers, fds, &msg, &error),
                     -EPROTO);
    if (strstr(error->text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error->text, text);
    }
}

static void contradictions_are_refused(void **state)
{
    uint8_t raw[VU_PAYLOAD_BYTES_MAX] = {0};
    uint32_t words[3] = {0};
    uint64_t u64;

    words[0] = 2; /* two regions, room for one */
    memcpy(raw, words, sizeof(words));
    assert_refused(raw, VU_SET_MEM_TABLE, 8 + 32, 2, "payload of 40 bytes, expected 72");
    assert_refused(raw, VU_SET_MEM_TABLE, 8 + 64, 1, "1 file descriptors came along, expected 2");
    assert_refused(raw, VU_SET_MEM_TABLE, 8 + 64, 3, "3 file descriptors came along, expected 2");
    words[0] = 510;
    memcpy(raw, words, sizeof(words));
    assert_refused(raw, VU_SET_MEM_TABLE, VU_PAYLOAD_BYTES_MAX, 8, "510 regions, at most 32");
    words[0] = UINT32_MAX;
    memcpy(raw, words, sizeof(words));
    assert_refused(raw, VU_SET_MEM_TABLE, 8, 0, "4294967295 regions");

    u64 = 0x203;
    assert_refused(&u64, VU_SET_VRING_KICK, 8, 1, "payload 0x203 has bits without a meaning");
    u64 = 0x103; /* "no descriptor", and one is there */
    assert_refused(&u64, VU_SET_VRING_KICK, 8, 1, "1 file descriptors came along, expected 0");
    u64 = 3;
    assert_refused(&u64, VU_SET_VRING_ERR, 8, 0, "0 file descriptors came along, expected 1");

    memset(raw, 0, sizeof(raw));
    words[0] = 0, words[1] = 4;
    memcpy(raw, words, sizeof(words));
    assert_refused(raw, VU_SET_CONFIG, 12, 0, "payload of 12 bytes, expected 16");
    assert_refused(raw, VU_GET_CONFIG, 17, 0, "payload of 17 bytes, expected 16");
    words[1] = 257;
    memcpy(raw, words, sizeof(words));
    assert_refused(raw, VU_GET_CONFIG, 12 + 256, 0, "config space ends at 256");
    words[0] = UINT32_MAX, words[1] = 4;
    memcpy(raw, words, sizeof(words));
    assert_refused(raw, VU_GET_CONFIG, 12, 0, "config space ends at 256");
    assert_refused(raw, VU_GET_CONFIG, 12 + 257, 0, "payload of 269 bytes");
}

/* ---- streams -------------------------------------------------------------------------------- */

static int feed(struct vu_reader *reader, const uint8_t *raw, size_t *at, size_t most,
                const int *fds, int fd_count, struct err **reterr)
{
    size_t wanted;
    void *to;

    vu_reader_place(reader, &to, &wanted);
    wanted = min_of(wanted, most);
    memcpy(to, raw + *at, wanted);
    *at += wanted;
    return vu_reader_received(reader, wanted, fds, fd_count, reterr);
}

/* Three messages in one stream, one of them unknown, cut into pieces of every size. */
static void a_stream_may_be_cut_anywhere(void **state)
{
    struct vu_msg first = {.request = VU_SET_VRING_ADDR,
                           .addr = {7, 1, 0x100, 0x200, 0x300, 0x400}};
    struct vu_msg last = {.request = VU_SET_OWNER};
    uint8_t raw[3 * VU_MSG_BYTES_MAX];
    const uint32_t unknown[3] = {99, 9, 5};
    size_t total = vu_msg_encode(&first, VU_TO_BACKEND, raw);

    memcpy(raw + total, unknown, sizeof(unknown));
    memset(raw + total + 12, 0xff, 5);
    total += 12 + 5;
    total += vu_msg_encode(&last, VU_TO_BACKEND, raw + total);

    for (size_t most = 1; most <= 60; most++) {
        struct vu_reader reader;
        unsigned messages = 0;
        size_t at = 0;

        vu_reader_init(&reader, VU_TO_BACKEND);
        assert_false(vu_reader_is_midway(&reader));
        while (at < total) {
            struct vu_msg msg;
            int rc = feed(&reader, raw, &at, most, NULL, 0, NULL);

            if (rc == 0) {
                assert_true(vu_reader_is_midway(&reader));
                continue;
            }
            assert_int_equal(rc, 1);
            messages++;
            rc = vu_reader_take(&reader, &msg, NULL);
            assert_int_equal(rc, messages == 2 ? -EOPNOTSUPP : 0);
            assert_false(vu_reader_is_midway(&reader));
            if (messages == 1) {
                assert_int_equal(msg.addr.log_guest, 0x400);
            } else if (messages == 3) {
                assert_int_equal(msg.request, VU_SET_OWNER);
            }
        }
        assert_int_equal(messages, 3);
        vu_reader_fini(&reader);
    }
}

static void oversized_messages_end_the_stream(void **state)
{
    const uint32_t words[3] = {VU_SET_MEM_TABLE, 1, VU_PAYLOAD_BYTES_MAX + 1};
    AUTO(err) struct err *error = NULL;
    struct vu_reader reader;
    uint8_t raw[VU_HEADER_BYTES];
    size_t at = 0;

    memcpy(raw, words, sizeof(raw));
    vu_reader_init(&reader, VU_TO_BACKEND);
    assert_int_equal(feed(&reader, raw, &at, 12, NULL, 0, &error), -EPROTO);
    assert_non_null(strstr(error->text, "(SET_MEM_TABLE): payload of 1033 bytes, at most 1032"));
    vu_reader_fini(&reader);
}

static void descriptors_are_kept_or_closed(void **state)
{
    struct vu_msg kick = {.request = VU_SET_VRING_KICK, .ring_fd = {1, true}};
    unsigned before = os_fd_count();
    uint8_t raw[VU_MSG_BYTES_MAX];
    struct vu_reader reader;
    int fds[VU_FDS_MAX];
    struct vu_msg msg;
    size_t at = 0;

    (void)vu_msg_encode(&kick, VU_TO_BACKEND, raw);
    vu_reader_init(&reader, VU_TO_BACKEND);
    fds[0] = os_eventfd(); /* with the first byte */
    assert_int_equal(feed(&reader, raw, &at, 1, fds, 1, NULL), 0);
    assert_int_equal(feed(&reader, raw, &at, 99, NULL, 0, NULL), 0);
    assert_int_equal(feed(&reader, raw, &at, 99, NULL, 0, NULL), 1);
    assert_int_equal(vu_reader_take(&reader, &msg, NULL), 0);
    assert_int_equal(msg.fds[0], fds[0]);
    assert_int_equal(os_fd_count(), before + 1);
    vu_msg_fini(&msg);
    assert_int_equal(os_fd_count(), before);

    fds[0] = os_eventfd(), fds[1] = os_eventfd(); /* one too many: refused and closed */
    at = 0;
    assert_int_equal(feed(&reader, raw, &at, 12, fds, 2, NULL), 0);
    assert_int_equal(feed(&reader, raw, &at, 8, NULL, 0, NULL), 1);
    assert_int_equal(vu_reader_take(&reader, &msg, NULL), -EPROTO);
    assert_int_equal(os_fd_count(), before);

    fds[0] = os_eventfd(); /* the front end dies in the middle */
    at = 0;
    assert_int_equal(feed(&reader, raw, &at, 13, fds, 1, NULL), 0);
    assert_true(vu_reader_is_midway(&reader));
    vu_reader_fini(&reader);
    assert_int_equal(os_fd_count(), before);

    msg = (struct vu_msg){.request = VU_SET_LOG_FD, .fd_count = 1, .fds = {os_eventfd()}};
    fds[0] = msg.fds[0];
    assert_int_equal(vu_msg_take_fd(&msg, 0), fds[0]);
    vu_msg_fini(&msg); /* not ours any more */
    assert_int_equal(os_fd_count(), before + 1);
    assert_int_equal(os_close_now(fds[0]), 0);
}

static void too_many_descriptors(void **state)
{
    unsigned before = os_fd_count();
    AUTO(err) struct err *error = NULL;
    struct vu_reader reader;
    uint8_t raw[VU_HEADER_BYTES] = {0};
    int fds[VU_FDS_MAX];
    size_t at = 0;

    vu_reader_init(&reader, VU_TO_BACKEND);
    for (int i = 0; i < VU_FDS_MAX; i++) {
        fds[i] = os_eventfd();
    }
    /* 40 came; those that did not fit were closed below us. */
    assert_int_equal(feed(&reader, raw, &at, 1, fds, 40, &error), -EPROTO);
    assert_non_null(strstr(error->text, "40 file descriptors in one message, at most 32"));
    vu_reader_fini(&reader);
    assert_int_equal(os_fd_count(), before);

    for (int i = 0; i < 20; i++) {
        fds[i] = os_eventfd();
    }
    at = 0;
    assert_int_equal(feed(&reader, raw, &at, 1, fds, 20, NULL), 0);
    for (int i = 0; i < 20; i++) {
        fds[i] = os_eventfd();
    }
    assert_int_equal(feed(&reader, raw, &at, 1, fds, 20, NULL), -EPROTO); /* 40 in two parts */
    vu_reader_fini(&reader);
    assert_int_equal(os_fd_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_descriptors_are_exact),
        cmocka_unit_test(replies_have_their_size_or_are_acknowledgements),
        cmocka_unit_test(unknown_requests_are_told_apart),
        cmocka_unit_test(headers),
        cmocka_unit_test(values_survive),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(a_stream_may_be_cut_anywhere),
        cmocka_unit_test(oversized_messages_end_the_stream),
        cmocka_unit_test(descriptors_are_kept_or_closed),
        cmocka_unit_test(too_many_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
