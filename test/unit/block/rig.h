/*
 * rig.h -- what the tests of block/ share: a main loop with the drivers and one of the tests' own,
 * "mem", which keeps its bytes in memory, checks each request against its limits, and can hold
 * requests back, fail them or yield in the middle.
 */
#pragma once
#include "../loop/harness.h"
#include "base/mem.h"
#include "base/str.h"
#include "block/drain.h"
#include "block/drivers.h"
#include "block/node.h"
#include "block/root.h"
#include "loop/iothread.h"
#include "sync/asym.h"
#include "sync/atomic.h"

struct mem_disk {
    uint8_t *bytes;
    uint32_t request_alignment, memory_alignment, transfer_max;
    bool yields;       /* between the check and the copy */
    bool has_zeroes;   /* else write_zeroes says -ENOTSUP */
    bool fails_writes; /* -ENOSPC */
    bool is_stuck;     /* atomic: requests wait (polling) until it is false */
    unsigned reads, writes, zeroes, discards, flushes, fua_writes; /* atomic */
    unsigned perm, unshared; /* as co_set_perms was told */
    int perms_answer;        /* of co_set_perms when it grows */
    uint64_t discarded_offset, discarded_bytes;
};
extern const struct blk_driver mem_driver; /* options: size, align, memory-align, max, … */
MAIN_LOOP
struct mem_disk *mem_disk(const char *node_name);

int block_setup(void **state);
int block_teardown(void **state);
#define block_test(fn) cmocka_unit_test_setup_teardown(fn, block_setup, block_teardown)
int block_test_main(int argc, char **argv, const char *group, const struct CMUnitTest *tests,
                    size_t count);

/* All in a coroutine on the main loop. */
MAIN_LOOP CO_FN
void add(const char *format, ...);
MAIN_LOOP CO_FN
void add_text(const char *options); /* dotted keys */
MAIN_LOOP CO_FN
void add_fails(const char *json, const char *text); /* the error contains @text */
MAIN_LOOP CO_FN
void del(const char *name);
MAIN_LOOP CO_FN
void del_fails(const char *name, const char *text);

/* A root whose user is called @name; counts its restarts. */
struct test_user {
    const char *name;
    struct blk_root *root;
    unsigned restarts;
    void (*on_restart)(struct test_user *user);
};
enum { PERM_READ = BLK_PERM_CONSISTENT_READ, PERM_RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };
MAIN_LOOP CO_FN
void user_open(struct test_user *user, const char *name, const char *node, unsigned perm,
               unsigned shared);
MAIN_LOOP CO_FN
void user_open_fails(const char *node, unsigned perm, unsigned shared, const char *text);
MAIN_LOOP CO_FN
void user_close(struct test_user *user);

/* One request each, with its own token. */
CO_FN
int user_read(struct test_user *user, uint64_t offset, void *to, size_t bytes);
CO_FN
int user_write(struct test_user *user, uint64_t offset, const void *from, size_t bytes,
               unsigned flags);
CO_FN
int user_zero(struct test_user *user, uint64_t offset, uint64_t bytes, unsigned flags);

/* A path of a scratch file of @bytes zeroes, removed at the end of the test. */
const char *scratch_file(uint64_t bytes);

/* I/O threads "io0", "io1", …; the loop of number @i modulo their count, the main loop if there are
 * none. */
MAIN_LOOP CO_FN
void threads_start(unsigned count);
MAIN_LOOP CO_FN
void threads_stop(void);
MAIN_LOOP
struct loop *thread_loop(unsigned i);

/* A coroutine on @loop; join() waits for all that were begun. */
void begin(struct loop *loop, void (*fn)(void *opaque), void *opaque);
CO_FN
void join(void);
