/*
 * test_request.c -- what the core does with a request before a driver sees it: ranges, limits,
 * alignment, read-modify-write, flushes, zeroes, discards. The "mem" driver asserts what it is
 * promised; a flat byte array says what must come out.
 */
#include "rig.h"

enum { DISK_BYTES = 60000, OPS = 1500, IOV_MAX_TEST = 5 };

/* xorshift: the same seed gives the same operations. */
static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

static uint8_t model[DISK_BYTES + 4096], buffer[2 * DISK_BYTES];

/* @bytes cut into a few elements at odd places of the buffer. */
static size_t random_iov(struct iovec *iov, size_t bytes)
{
    size_t count = 0;
    uint8_t *at = buffer + random_below(64) * (random_below(2) ? 1 : 512);

    while (bytes > 0) {
        size_t part = count == IOV_MAX_TEST - 1 ? bytes : 1 + random_below(bytes);

        iov[count++] = (struct iovec){at, part};
        at += part + random_below(3) * 7;
        bytes -= part;
    }
    return count;
}

CO_FN GRAPH_RD
static void random_write(struct blk_root *root, uint64_t offset, size_t bytes)
{
    struct iovec iov[IOV_MAX_TEST];
    size_t count = random_iov(iov, bytes);
    size_t done = 0;

    for (size_t i = 0; i < count; i++) {
        memset(iov[i].iov_base, random_below(3) == 0 ? 0 : (int)random_below(256), iov[i].iov_len);
        memcpy(model + offset + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    expect(blk_root_co_pwritev(root, offset, bytes, iov, count,
                               random_below(4) == 0 ? BLK_REQ_FUA : 0) == 0);
}

CO_FN GRAPH_RD
static void random_read(struct blk_root *root, uint64_t offset, size_t bytes)
{
    struct iovec iov[IOV_MAX_TEST];
    size_t count = random_iov(iov, bytes);
    size_t done = 0;

    memset(buffer, 0xee, sizeof(buffer));
    expect(blk_root_co_preadv(root, offset, bytes, iov, count, 0) == 0);
    for (size_t i = 0; i < count; i++) {
        expect(memcmp(model + offset + done, iov[i].iov_base, iov[i].iov_len) == 0);
        done += iov[i].iov_len;
    }
}

CO_FN GRAPH_RD
static void random_op(struct blk_root *root)
{
    uint64_t offset = random_below(DISK_BYTES);
    size_t bytes = 1 + random_below(random_below(3) == 0 ? DISK_BYTES - offset
                                                         : min_of(DISK_BYTES - offset, 5000UL));

    if (random_below(3) == 0) { /* as guests do it */
        offset &= ~(uint64_t)511;
        bytes = min_of((bytes + 511) & ~(size_t)511, DISK_BYTES - offset);
    }
    switch (random_below(4)) {
    case 0:
        memset(model + offset, 0, bytes);
        expect(blk_root_co_write_zeroes(root, offset, bytes, random_below(2) ? BLK_REQ_MAY_UNMAP
                                                                             : 0) == 0);
        break;
    case 1:
        random_read(root, offset, bytes);
        break;
    default:
        random_write(root, offset, bytes);
        break;
    }
}

static const char *const variants[] = {
    "",
    ",\"max\":4096",
    ",\"align\":512,\"memory-align\":512",
    ",\"align\":512,\"memory-align\":4096,\"max\":8192",
    ",\"align\":4096,\"memory-align\":4096",
    ",\"align\":4096,\"memory-align\":4,\"max\":4096,\"has-zeroes\":false",
    ",\"align\":512,\"has-zeroes\":false,\"detect-zeroes\":\"on\"",
    ",\"align\":4096,\"yields\":true,\"discard\":\"unmap\",\"detect-zeroes\":\"unmap\"",
};

MAIN_LOOP CO_FN
static void against_model(void *opaque)
{
    const char *variant = opaque;
    struct test_user user;

    memset(model, 0, sizeof(model));
    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"size\":%d%s}", DISK_BYTES, variant);
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"m\"}");
    user_open(&user, "test", "r", PERM_RW, BLK_PERM_ALL);
    expect(blk_root_raise(user.root));
    for (unsigned i = 0; i < OPS; i++) {
        random_op(user.root);
    }
    random_read(user.root, 0, DISK_BYTES);
    blk_root_drop(user.root);
    user_close(&user);
    del("r");
    del("m");
}

static void test_against_model(void **state)
{
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 0) : 20240229;
    for (size_t i = 0; i < countof(variants); i++) {
        run_co(against_model, (void *)(uintptr_t)variants[i]);
    }
}

/* ---- writers side by side -------------------------------------------------------------------- */

enum { WRITERS = 12, ROUNDS = 60, STRIPE = 100, STRIPES = 30 };

struct writer {
    struct test_user *user;
    unsigned index;
    uint8_t last[STRIPES];
};

/* Each writer owns its stripes; the stripes of all lie in the same blocks. */
CO_FN
static void write_stripes(void *opaque)
{
    struct writer *writer = opaque;
    uint8_t stripe[STRIPE];

    for (unsigned round = 1; round <= ROUNDS; round++) {
        for (unsigned i = 0; i < STRIPES; i += 1 + (round + writer->index) % 5) {
            uint64_t offset = ((uint64_t)i * WRITERS + writer->index) * STRIPE;

            memset(stripe, (int)(round + writer->index), sizeof(stripe));
            expect(user_write(writer->user, offset, stripe, sizeof(stripe), 0) == 0);
            writer->last[i] = stripe[0];
        }
    }
}

/* Whole blocks behind the stripes, so that ordinary writes are counted, listed, and counted
 * again. */
CO_FN
static void write_blocks(void *opaque)
{
    static _Alignas(512) const uint8_t block[512] = {1};
    struct writer *writer = opaque;

    for (unsigned round = 0; round < 20 * ROUNDS; round++) {
        uint64_t last = 127 - (round * 2 + writer->index) % 50;

        expect(user_write(writer->user, last * 512, block, sizeof(block), 0) == 0);
    }
}

MAIN_LOOP CO_FN
static void side_by_side_on(unsigned thread_count)
{
    struct writer writers[WRITERS];
    struct test_user user;
    struct writer block_writers[2] = {{.user = &user, .index = 0}, {.user = &user, .index = 1}};

    static_assert(STRIPE * STRIPES * WRITERS <= (128 - 50) * 512, "stripes and blocks apart");
    threads_start(thread_count);
    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"align\":512,\"yields\":true}");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.user = &user, .index = i};
        begin(thread_loop(i), write_stripes, &writers[i]);
    }
    begin(thread_loop(0), write_blocks, &block_writers[0]);
    begin(thread_loop(1), write_blocks, &block_writers[1]);
    join();
    for (unsigned i = 0; i < STRIPES * WRITERS; i++) {
        for (unsigned j = 0; j < STRIPE; j++) {
            expect(mem_disk("m")->bytes[i * STRIPE + j] == writers[i % WRITERS].last[i / WRITERS]);
        }
    }
    user_close(&user);
    del("m");
    threads_stop();
}

MAIN_LOOP CO_FN
static void side_by_side(void *opaque)
{
    loop_assert_main();
    side_by_side_on((unsigned)(uintptr_t)opaque);
}

static void test_side_by_side(void **state)
{
    run_co(side_by_side, (void *)0);
}

static void test_side_by_side_two_threads(void **state)
{
    run_co(side_by_side, (void *)2);
}

/* ---- one write in flight, another comes ------------------------------------------------------ */

static struct test_user pair_user;

CO_FN
static void write_block_0(void *opaque)
{
    static _Alignas(512) uint8_t block[512];

    memset(block, 0x11, sizeof(block));
    expect(user_write(&pair_user, 0, block, sizeof(block), 0) == 0);
}

CO_FN
static void write_10_bytes(void *opaque)
{
    expect(user_write(&pair_user, 100, "\"\"\"\"\"\"\"\"\"\"", 10, 0) == 0);
}

struct pair {
    void (*first)(void *opaque);
    void (*second)(void *opaque);
};

/* Whichever comes second sees what the first one wrote, although that one is slow (R3, R4). */
MAIN_LOOP CO_FN
static void write_pair(void *opaque)
{
    const struct pair *pair = opaque;
    const uint8_t *bytes;
    struct mem_disk *disk;

    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"align\":512}");
    user_open(&pair_user, "test", "m", PERM_RW, BLK_PERM_ALL);
    disk = mem_disk("m");
    at_store(&disk->is_stuck, true);
    begin(loop_main(), pair->first, NULL);
    loop_co_sleep(1000000);
    begin(loop_main(), pair->second, NULL);
    loop_co_sleep(3000000);
    at_store(&disk->is_stuck, false);
    join();
    bytes = disk->bytes;
    if (pair->second == write_10_bytes) {
        expect(bytes[0] == 0x11 && bytes[99] == 0x11 && bytes[100] == '"' && bytes[110] == 0x11);
    } else {
        expect(bytes[0] == 0x11 && bytes[100] == 0x11 && bytes[511] == 0x11);
    }
    user_close(&pair_user);
    del("m");
}

static void test_block_then_bytes(void **state)
{
    static const struct pair pair = {write_block_0, write_10_bytes};

    run_co(write_pair, (void *)(uintptr_t)&pair);
}

static void test_bytes_then_block(void **state)
{
    static const struct pair pair = {write_10_bytes, write_block_0};

    run_co(write_pair, (void *)(uintptr_t)&pair);
}

/* ---- single rules ---------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void ranges(void *opaque)
{
    struct test_user user;
    uint8_t byte = 0;

    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"size\":1000,\"align\":512}");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    expect(user_read(&user, 999, &byte, 1) == 0);
    expect(user_read(&user, 1000, &byte, 1) == -EIO);
    expect(user_write(&user, 999, buffer, 2, 0) == -EIO);
    expect(user_write(&user, UINT64_MAX, &byte, 1, 0) == -EIO);
    expect(user_zero(&user, 1, UINT64_MAX, 0) == -EIO);
    expect(user_read(&user, 1000, &byte, 0) == 0);
    expect(mem_disk("m")->writes == 0);
    user_close(&user);
    del("m");
}

MAIN_LOOP CO_FN
static void flushes(void *opaque)
{
    struct test_user user;
    struct mem_disk *disk;
    uint8_t byte = 1;

    add("{\"driver\":\"mem\",\"node-name\":\"m\"}");
    disk = mem_disk("m");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    expect(user_write(&user, 0, &byte, 1, BLK_REQ_FUA) == 0);
    expect(disk->flushes == 1 && disk->fua_writes == 0); /* the driver does not know FUA */
    expect(user_zero(&user, 0, 10, BLK_REQ_FUA) == 0);
    expect(disk->flushes == 2);
    disk->fails_writes = true;
    expect(user_write(&user, 0, &byte, 1, BLK_REQ_FUA) == -ENOSPC);
    expect(disk->flushes == 2);
    user_close(&user);
    del("m");
    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"cache\":{\"no-flush\":true}}");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    expect(user_write(&user, 0, &byte, 1, BLK_REQ_FUA) == 0);
    expect(mem_disk("m")->flushes == 0 && mem_disk("m")->fua_writes == 0);
    user_close(&user);
    del("m");
}

MAIN_LOOP CO_FN
static void zeroes(void *opaque)
{
    struct test_user user;
    struct mem_disk *disk;

    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"detect-zeroes\":\"on\"}");
    disk = mem_disk("m");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    memset(buffer, 0, 4096);
    expect(user_write(&user, 0, buffer, 4096, 0) == 0);
    expect(disk->zeroes == 1 && disk->writes == 0);
    disk->has_zeroes = false;
    expect(user_zero(&user, 0, 4096, BLK_REQ_NO_FALLBACK) == -ENOTSUP);
    expect(disk->writes == 0);
    expect(user_zero(&user, 0, 4096, 0) == 0);
    expect(disk->writes == 1);
    user_close(&user);
    del("m");
}

CO_FN
static int user_discard(struct test_user *user, uint64_t offset, uint64_t bytes)
{
    int rc;

    if (!blk_root_raise(user->root)) {
        return -EAGAIN;
    }
    rc = blk_root_co_discard(user->root, offset, bytes);
    blk_root_drop(user->root);
    return rc;
}

MAIN_LOOP CO_FN
static void discards(void *opaque)
{
    struct test_user user;
    struct mem_disk *disk;

    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"align\":512}");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    expect(user_discard(&user, 0, 4096) == 0);
    expect(mem_disk("m")->discards == 0); /* discard=ignore */
    user_close(&user);
    del("m");
    add("{\"driver\":\"mem\",\"node-name\":\"m\",\"align\":512,"
        "\"discard\":\"unmap\",\"size\":10000}");
    disk = mem_disk("m");
    user_open(&user, "test", "m", PERM_RW, BLK_PERM_ALL);
    expect(user_discard(&user, 100, 1500) == 0);
    expect(disk->discarded_offset == 512 && disk->discarded_bytes == 1024);
    expect(user_discard(&user, 100, 500) == 0);
    expect(disk->discards == 1); /* no whole block */
    expect(user_discard(&user, 9000, 1000) == 0);
    expect(disk->discarded_offset == 9216 && disk->discarded_bytes == 784); /* the node's last */
    expect(user_discard(&user, 9000, 1001) == -EIO);
    user_close(&user);
    del("m");
}

MAIN_LOOP CO_FN
static void status(void *opaque)
{
    struct test_user user;
    unsigned what;
    uint64_t run;

    add("{\"driver\":\"null-co\",\"node-name\":\"n\",\"size\":4096,\"read-zeroes\":true}");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"n\",\"offset\":1024}");
    user_open(&user, "test", "r", PERM_RW, BLK_PERM_ALL);
    expect(blk_root_bytes(user.root) == 3072);
    expect(blk_root_raise(user.root));
    expect(blk_root_co_status(user.root, 1000, 72, &what, &run) == 0);
    expect((what & BLK_STATUS_ZERO) && run == 72);
    expect(blk_root_co_status(user.root, 3000, 73, &what, &run) == -EIO);
    blk_root_drop(user.root);
    user_close(&user);
    del("r");
    del("n");
}

static void test_ranges(void **state)
{
    run_co(ranges, NULL);
}

static void test_flushes(void **state)
{
    run_co(flushes, NULL);
}

static void test_zeroes(void **state)
{
    run_co(zeroes, NULL);
}

static void test_discards(void **state)
{
    run_co(discards, NULL);
}

static void test_status(void **state)
{
    run_co(status, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        block_test(test_against_model), block_test(test_side_by_side),
        block_test(test_side_by_side_two_threads),
        block_test(test_block_then_bytes), block_test(test_bytes_then_block),
        block_test(test_ranges),
        block_test(test_flushes), block_test(test_zeroes), block_test(test_discards),
        block_test(test_status),
    };

    return block_test_main(argc, argv, "request", tests, countof(tests));
}
