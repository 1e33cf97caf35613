/*
 * memory.h -- a guest's memory as a front end shares it: one immutable table of mapped regions.
 *
 * A new table replaces the old one whole; queues hold one reference per table they still have
 * requests in, so an old table lives until its last request ends and is then unmapped in the worker
 * pool. Everything in it is foreign: addresses are checked against the regions, overflow included.
 */
#pragma once
#include "base/err.h"
#include "base/ctx.h"
#include <sys/uio.h>

enum { GUEST_REGIONS_MAX = 509 }; /* VHOST_USER_MAX_RAM_SLOTS of today's front ends: 8 or 509 */

struct guest_region_def { /* as the front end said it */
    uint64_t guest_address, bytes, user_address, mmap_offset;
    int fd;
};

struct guest_memory;

/* Map @count regions. -EINVAL names the region and what is wrong with it (empty, overflowing,
 * overlapping, longer than its file, too many). The first reference is the caller's. Descriptors
 * are taken over, also on failure. */
BLOCKING
int guest_memory_new(const struct guest_region_def *defs, size_t count,
                     struct guest_memory **ret_memory, struct err **reterr);
ANY_THREAD
struct guest_memory *guest_memory_ref(struct guest_memory *memory);
ANY_THREAD
void guest_memory_unref(struct guest_memory *memory); /* the last one unmaps, in the worker pool */
/* A copy with one region more or less (ADD_MEM_REG, REM_MEM_REG): mappings are shared. */
BLOCKING
int guest_memory_with(struct guest_memory *memory, const struct guest_region_def *def,
                      struct guest_memory **ret_memory, struct err **reterr);
/* The region is named by its addresses and size; @def->fd is not looked at. -ENOENT: no such
 * region. */
BLOCKING
int guest_memory_without(struct guest_memory *memory, const struct guest_region_def *def,
                         struct guest_memory **ret_memory, struct err **reterr);
ANY_THREAD
size_t guest_memory_region_count(const struct guest_memory *memory);

/* The host address of [@guest_address, + @bytes) if it lies inside one region; else NULL. */
ANY_THREAD
void *guest_memory_at(const struct guest_memory *memory, uint64_t guest_address, uint64_t bytes);
/* The same for somebody who asks often: *@hint is a region to try first and is brought up to date.
 * It belongs to the asker (a queue), so no line of the table is ever written; any number is a good
 * one. */
ANY_THREAD
void *guest_memory_at_hint(const struct guest_memory *memory, uint64_t guest_address,
                           uint64_t bytes, unsigned *hint);
/* The same for an address of the front end's own process (ring addresses come so). */
ANY_THREAD
void *guest_memory_at_user(const struct guest_memory *memory, uint64_t user_address,
                           uint64_t bytes);
/* The range as up to @max pieces (regions may abut); their number, or -EFAULT / -E2BIG. */
ANY_THREAD
int guest_memory_pieces(const struct guest_memory *memory, uint64_t guest_address, uint64_t bytes,
                        struct iovec *to, int max);
ANY_THREAD
int guest_memory_pieces_hint(const struct guest_memory *memory, uint64_t guest_address,
                             uint64_t bytes, struct iovec *to, int max, unsigned *hint);
/* Has the front end taken memory away under us (SIGBUS)? */
ANY_THREAD
bool guest_memory_is_broken(const struct guest_memory *memory);
