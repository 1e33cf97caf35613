/*
 * bench_verify.c -- what a block written by us holds, so that a wrong one can be told and
 * explained.
 *
 * Each 512 bytes begin with a head in the clear (whose they are, which place, which generation);
 * the rest is a function of the head, word by word, so a torn or mixed sector shows too.
 */
#include "base/bytes.h"
#include "cli/bench_int.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { SECTOR = 512 };

struct head {
    uint64_t magic, seed, offset, generation;
};
static const uint64_t head_magic = UINT64_C(0x6e6f737369616321); /* "!caisson" */

static uint64_t word_at(const struct head *head, size_t i)
{
    uint64_t x = head->seed ^ (head->offset << 20) ^ (head->generation << 7) ^ i;

    x *= UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

static void stamp_sector(uint8_t *sector, const struct head *head)
{
    memcpy(sector, head, sizeof(*head));
    for (size_t i = sizeof(*head) / 8; i < SECTOR / 8; i++) {
        uint64_t word = word_at(head, i);

        memcpy(sector + 8 * i, &word, sizeof(word));
    }
}

void bench_stamp(uint8_t *data, uint64_t bytes, uint64_t offset, uint64_t seed,
                 uint32_t generation)
{
    for (uint64_t at = 0; at < bytes; at += SECTOR) {
        struct head head = {head_magic, seed, offset + at, generation};

        stamp_sector(data + at, &head);
    }
}

void bench_unstamp(uint8_t *data, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += SECTOR) {
        memset(data + at, 0, sizeof(struct head));
    }
}

static int explain(const uint8_t *sector, const struct head *expected, struct err **reterr)
{
    struct head found;

    memcpy(&found, sector, sizeof(found));
    if (found.magic != head_magic) {
        return err_set(reterr, EIO, "offset %" PRIu64 ": expected generation %" PRIu64
                       ", found nothing of ours (it begins %016" PRIx64 ")", expected->offset,
                       expected->generation, be64_load(sector));
    }
    if (found.seed != expected->seed) {
        return err_set(reterr, EIO, "offset %" PRIu64 ": expected generation %" PRIu64
                       ", found what another run wrote (seed %" PRIu64 ", ours is %" PRIu64 ")",
                       expected->offset, expected->generation, found.seed, expected->seed);
    }
    if (found.offset != expected->offset) {
        return err_set(reterr, EIO, "offset %" PRIu64 ": found what belongs to offset %" PRIu64
                       " (generation %" PRIu64 ")", expected->offset, found.offset,
                       found.generation);
    }
    if (found.generation != expected->generation) {
        return err_set(reterr, EIO, "offset %" PRIu64 ": expected generation %" PRIu64
                       ", found %s one, %" PRIu64, expected->offset, expected->generation,
                       found.generation < expected->generation ? "an older" : "a newer",
                       found.generation);
    }
    return err_set(reterr, EIO, "offset %" PRIu64 ": generation %" PRIu64
                   " with wrong bytes behind its head (torn)", expected->offset,
                   expected->generation);
}

int bench_check(const uint8_t *data, uint64_t bytes, uint64_t offset, uint64_t seed,
                uint32_t generation, struct err **reterr)
{
    uint8_t right[SECTOR];

    for (uint64_t at = 0; at < bytes; at += SECTOR) {
        struct head head = {head_magic, seed, offset + at, generation};

        stamp_sector(right, &head);
        if (memcmp(right, data + at, SECTOR) != 0) {
            return explain(data + at, &head, reterr);
        }
    }
    return 0;
}
