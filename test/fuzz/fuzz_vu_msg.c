/*
 * fuzz_vu_msg.c -- any bytes as a stream of vhost-user messages, cut anywhere, with any
 * descriptors.
 *
 * An input is the direction and then pieces of the stream: how many bytes come at once, how many
 * descriptors come with them, the bytes. Asserted: the reader never asks for more than a message,
 * an error has a text, what was parsed and encoded again parses to the same, tables and regions are
 * made or refused whole, and no descriptor is left open.
 */
#include "fuzz.h"
#include "base/mem.h"
#include "loop/io.h"
#include "os/file.h"
#include "virtio/vu_msg.h"
#include <errno.h>

enum { RAM_BYTES = 64 << 10, PIECES_MAX = 64 };

static int ram_fd = -1;
static struct guest_memory *memory;

/* Stands in for the loop's: unmapping happens at once. */
void pool_run(pool_fn *fn, void *opaque)
{
    int64_t (*run)(void *) = fn;

    run(opaque);
}

/* ---- what a back end does with tables ---- */

static void replace_memory(struct guest_memory *next)
{
    guest_memory_unref(take(&memory));
    memory = next;
}

/* Whatever addresses a table has: lookups stay inside it. */
static void look_up(const struct guest_region_def *def)
{
    struct iovec pieces[4];
    uint64_t addresses[] = {def->guest_address, def->guest_address + def->bytes - 1,
                            def->guest_address + def->bytes, def->user_address, 0, UINT64_MAX};

    for (size_t i = 0; i < countof(addresses); i++) {
        uint8_t *at = guest_memory_at(memory, addresses[i], 1);
        int count = guest_memory_pieces(memory, addresses[i], def->bytes, pieces, 4);

        if (at != NULL) {
            *at = (uint8_t)i;
        }
        for (int piece = 0; piece < count; piece++) {
            memset(pieces[piece].iov_base, 1, min_of(pieces[piece].iov_len, (size_t)8));
        }
        (void)guest_memory_at_user(memory, addresses[i], def->bytes);
    }
}

BLOCKING
static void use_table(struct vu_msg *msg)
{
    struct guest_memory *next = NULL;
    struct err *err = NULL;
    int rc = guest_memory_new(msg->memory.regions, msg->memory.count, &next, &err);

    vu_msg_forget_fds(msg);
    assert((rc < 0) == (err != NULL));
    err_free(err);
    if (rc == 0) {
        replace_memory(next);
        for (uint32_t i = 0; i < msg->memory.count; i++) {
            look_up(&msg->memory.regions[i]);
        }
    }
}

BLOCKING
static void use_region(struct vu_msg *msg)
{
    struct guest_memory *next = NULL;
    struct err *err = NULL;
    int rc;

    if (memory == NULL) {
        return;
    }
    if (msg->request == VU_ADD_MEM_REG) {
        rc = guest_memory_with(memory, &msg->region, &next, &err);
        vu_msg_forget_fds(msg);
    } else {
        rc = guest_memory_without(memory, &msg->region, &next, &err);
    }
    assert((rc < 0) == (err != NULL));
    err_free(err);
    if (rc == 0) {
        replace_memory(next);
        look_up(&msg->region);
    }
}

/* ---- messages ---- */

/* To bytes and back: the same message. The descriptors travel beside. */
static void check_round_trip(const struct vu_msg *msg, enum vu_direction direction)
{
    uint8_t first[VU_MSG_BYTES_MAX] = {0}, second[VU_MSG_BYTES_MAX] = {0};
    size_t bytes = vu_msg_encode(msg, direction, first);
    struct vu_header header;
    struct vu_msg again;

    assert(bytes >= VU_HEADER_BYTES && bytes <= VU_MSG_BYTES_MAX);
    if (vu_header_parse(first, direction, &header, NULL) < 0 ||
        vu_msg_parse(&header, direction, first + VU_HEADER_BYTES, msg->fds, msg->fd_count, &again,
                     NULL) < 0) {
        panic("%s does not parse again", vu_request_name(msg->request));
    }
    assert(header.payload_bytes == bytes - VU_HEADER_BYTES);
    assert(again.request == msg->request);
    assert(vu_msg_encode(&again, direction, second) == bytes);
    assert(memcmp(first, second, bytes) == 0);
    vu_msg_forget_fds(&again); /* they are the first one's */
}

BLOCKING
static void take_message(struct vu_reader *reader)
{
    struct err *err = NULL;
    struct vu_msg msg;

    if (vu_reader_take(reader, &msg, &err) < 0) {
        assert(err != NULL && err->text[0] != '\0');
        err_free(err);
        return;
    }
    assert(err == NULL);
    assert(msg.fd_count <= VU_FDS_MAX);
    check_round_trip(&msg, reader->direction);
    if (reader->direction == VU_TO_BACKEND && msg.request == VU_SET_MEM_TABLE) {
        use_table(&msg);
    } else if (reader->direction == VU_TO_BACKEND &&
               (msg.request == VU_ADD_MEM_REG || msg.request == VU_REM_MEM_REG)) {
        use_region(&msg);
    }
    vu_msg_fini(&msg);
}

/* A piece of the stream. False: it is beyond repair. */
BLOCKING
static bool receive(struct vu_reader *reader, struct fuzz_input *input)
{
    uint8_t at_once = fuzz_u8(input), descriptors = fuzz_u8(input);
    int fds[VU_FDS_MAX], fd_count = descriptors % 8 != 0 ? 0 : descriptors / 4 % 40;
    struct err *err = NULL;
    size_t wanted;
    void *to;
    int rc;

    vu_reader_place(reader, &to, &wanted);
    assert(wanted > 0 && wanted <= VU_MSG_BYTES_MAX);
    wanted = min_of(wanted, (size_t)at_once + 1);
    fuzz_take(input, to, wanted);
    for (int i = 0; i < fd_count && i < VU_FDS_MAX; i++) {
        fds[i] = os_dup(ram_fd);
    }
    rc = vu_reader_received(reader, wanted, fds, fd_count, &err);
    if (rc < 0) {
        assert(err != NULL && err->text[0] != '\0');
        err_free(err);
        return false;
    }
    assert(err == NULL);
    if (rc == 1) {
        take_message(reader);
    }
    return true;
}

BLOCKING
static void run_all(struct fuzz_input *input)
{
    int lowest = os_dup(ram_fd);
    struct vu_reader reader;

    vu_reader_init(&reader, (fuzz_u8(input) & 1) != 0 ? VU_TO_FRONTEND : VU_TO_BACKEND);
    os_close(lowest);
    for (int i = 0; i < PIECES_MAX && input->left > 0; i++) {
        if (!receive(&reader, input)) {
            break;
        }
    }
    vu_reader_fini(&reader);
    replace_memory(NULL);
    assert(os_dup(ram_fd) == lowest); /* none of ours is still open */
    os_close(lowest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    void (*run)(struct fuzz_input *) = run_all; /* this thread may block */
    struct fuzz_input input = {data, bytes};

    if (ram_fd < 0) {
        ram_fd = os_memfd("fuzz", RAM_BYTES);
    }
    run(&input);
    return 0;
}
