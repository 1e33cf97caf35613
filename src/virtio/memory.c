/*
 * memory.c -- the tables of a guest's memory.
 *
 * A mapping is one mmap of one region; a table is a sorted array of regions, each with a reference
 * to its mapping. Tables that came from one another by adding or taking away a region share
 * mappings.
 *
 * (G1) A table never changes after it was made. Whoever translates addresses holds a reference.
 * (G2) Regions of a table do not overlap in guest addresses, are not empty, and end at most at
 *      2^64 - 1.
 * (G3) Every mapping is guarded for as long as it is mapped: memory that its owner truncates reads
 *      as zeroes and sets the `broken` flag of the family of tables, which is the front end's.
 * (G4) Unmapping blocks, so the last reference leaves it to the worker pool.
 */
#include "virtio/memory.h"
#include "base/checked.h"
#include "base/mem.h"
#include "loop/io.h"
#include "os/file.h"
#include "os/memory.h"
#include "sync/atomic.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* One per front end: outlives the tables and mappings that point to it. */
struct family {
    uint32_t refs;
    uint32_t broken; /* set by the SIGBUS handler, never cleared */
};

struct mapping {
    uint32_t refs;
    struct family *family;
    void *address;
    size_t bytes;
    int guard;
};

struct region {
    uint64_t guest_address, bytes, user_address;
    uint8_t *host;
    struct mapping *mapping;
};

struct guest_memory {
    uint32_t refs;
    struct family *family;
    size_t count;
    struct region regions[]; /* by guest address */
};

static struct family *family_ref(struct family *family)
{
    (void)at_add(&family->refs, 1);
    return family;
}

static void family_unref(struct family *family)
{
    if (at_sub(&family->refs, 1) == 1) {
        mem_free(family);
    }
}

/* ---- mappings ------------------------------------------------------------------------------ */

static struct mapping *mapping_ref(struct mapping *mapping)
{
    (void)at_add(&mapping->refs, 1);
    return mapping;
}

BLOCKING
static void mapping_unref(struct mapping *mapping)
{
    if (at_sub(&mapping->refs, 1) != 1) {
        return;
    }
    os_guard_remove(mapping->guard);
    os_unmap(mapping->address, mapping->bytes);
    family_unref(mapping->family);
    mem_free(mapping);
}

/* What mmap offsets and lengths of @file must be multiples of: more than a page on hugetlbfs. */
static uint64_t map_alignment(const struct stat *file)
{
    uint64_t page = os_page_bytes();
    uint64_t block = file->st_blksize > 0 ? (uint64_t)file->st_blksize : 0;

    return is_power_of_two(block) ? max_of(page, block) : page;
}

BLOCKING
static int check_region(const struct guest_region_def *def, struct stat *ret_file,
                        struct err **reterr)
{
    uint64_t end;
    int rc;

    if (def->bytes == 0) {
        return err_set(reterr, EINVAL, "it is empty");
    }
    if (add_overflows(def->guest_address, def->bytes, &end) ||
        add_overflows(def->user_address, def->bytes, &end) ||
        add_overflows(def->mmap_offset, def->bytes, &end)) {
        return err_set(reterr, EINVAL, "its end is beyond 2^64");
    }
    if (def->fd < 0) {
        return err_set(reterr, EINVAL, "it has no file descriptor");
    }
    rc = os_fstat(def->fd, ret_file);
    if (rc < 0) {
        return err_set_errno(reterr, -rc, "its file");
    }
    if (!S_ISREG(ret_file->st_mode)) {
        return err_set(reterr, EINVAL, "its file descriptor is not memory (a file or memfd)");
    }
    if (end > (uint64_t)ret_file->st_size) {
        return err_set(reterr, EINVAL, "mmap offset 0x%" PRIx64 " and size end at 0x%" PRIx64
                       ", but its file has only 0x%" PRIx64 " bytes", def->mmap_offset, end,
                       (uint64_t)ret_file->st_size);
    }
    return 0;
}

BLOCKING
static int map_region(const struct guest_region_def *def, struct family *family,
                      struct region *ret_region, struct err **reterr)
{
    struct mapping *mapping;
    uint64_t alignment, start;
    struct os_guard guard;
    struct stat file;
    int rc = check_region(def, &file, reterr);

    if (rc < 0) {
        return rc;
    }
    alignment = map_alignment(&file);
    start = align_down(def->mmap_offset, alignment);
    mapping = mem_new(struct mapping);
    mapping->refs = 1;
    mapping->bytes = align_up(def->mmap_offset + def->bytes - start, alignment);
    rc = os_map_shared(def->fd, start, mapping->bytes, &mapping->address);
    if (rc < 0) {
        mem_free(mapping);
        return err_set_errno(reterr, -rc, "cannot map it");
    }
    guard = (struct os_guard){mapping->address, mapping->bytes, &family->broken};
    mapping->guard = os_guard_add(&guard);
    if (mapping->guard < 0) {
        rc = mapping->guard;
        os_unmap(mapping->address, mapping->bytes);
        mem_free(mapping);
        return err_set_errno(reterr, -rc, "cannot guard it");
    }
    mapping->family = family_ref(family);
    *ret_region = (struct region){
        .guest_address = def->guest_address,
        .bytes = def->bytes,
        .user_address = def->user_address,
        .host = (uint8_t *)mapping->address + (def->mmap_offset - start),
        .mapping = mapping,
    };
    return 0;
}

/* ---- tables -------------------------------------------------------------------------------- */

BLOCKING
static int64_t free_table(void *opaque)
{
    struct guest_memory *memory = opaque;

    for (size_t i = 0; i < memory->count; i++) {
        mapping_unref(memory->regions[i].mapping);
    }
    family_unref(memory->family);
    mem_free(memory);
    return 0;
}

static struct guest_memory *table_new(struct family *family, size_t capacity)
{
    struct guest_memory *memory =
        mem_alloc(sizeof(*memory) + capacity * sizeof(memory->regions[0]));

    memory->refs = 1;
    memory->family = family_ref(family);
    return memory;
}

/* Place of the first region that begins at or above @guest_address. */
static size_t find_place(const struct guest_memory *memory, uint64_t guest_address)
{
    size_t low = 0, high = memory->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memory->regions[middle].guest_address < guest_address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct region *find_overlap(const struct guest_memory *memory,
                                         const struct guest_region_def *def)
{
    size_t place = find_place(memory, def->guest_address);

    if (place < memory->count &&
        memory->regions[place].guest_address - def->guest_address < def->bytes) {
        return &memory->regions[place];
    }
    if (place > 0 && def->guest_address - memory->regions[place - 1].guest_address <
                         memory->regions[place - 1].bytes) {
        return &memory->regions[place - 1];
    }
    return NULL;
}

/* The table has room for it. */
BLOCKING
static int insert_region(struct guest_memory *memory, const struct guest_region_def *def,
                         struct err **reterr)
{
    struct region region;
    size_t place;
    int rc = map_region(def, memory->family, &region, reterr);

    if (rc == 0) {
        const struct region *other = find_overlap(memory, def);

        if (other != NULL) {
            mapping_unref(region.mapping);
            rc = err_set(reterr, EINVAL, "it overlaps the region at 0x%" PRIx64 " of 0x%" PRIx64
                         " bytes", other->guest_address, other->bytes);
        }
    }
    if (rc < 0) {
        err_prepend(reterr, "memory region at guest address 0x%" PRIx64 " of 0x%" PRIx64
                    " bytes: ", def->guest_address, def->bytes);
        return rc;
    }
    place = find_place(memory, def->guest_address);
    memmove(&memory->regions[place + 1], &memory->regions[place],
            (memory->count - place) * sizeof(memory->regions[0]));
    memory->regions[place] = region;
    memory->count++;
    return 0;
}

static int too_many(size_t count, struct err **reterr)
{
    return err_set(reterr, EINVAL, "%zu memory regions, at most %d are allowed", count,
                   GUEST_REGIONS_MAX);
}

BLOCKING
static void close_fds(const struct guest_region_def *defs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (defs[i].fd >= 0) {
            (void)os_close(defs[i].fd);
        }
    }
}

int guest_memory_new(const struct guest_region_def *defs, size_t count,
                     struct guest_memory **ret_memory, struct err **reterr)
{
    struct guest_memory *memory;
    struct family *family;
    int rc = 0;

    if (count > GUEST_REGIONS_MAX) {
        close_fds(defs, count);
        return too_many(count, reterr);
    }
    family = mem_new(struct family);
    family->refs = 1;
    memory = table_new(family, count);
    family_unref(family);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = insert_region(memory, &defs[i], reterr);
    }
    close_fds(defs, count);
    if (rc < 0) {
        (void)free_table(memory);
        return rc;
    }
    *ret_memory = memory;
    return 0;
}

struct guest_memory *guest_memory_ref(struct guest_memory *memory)
{
    (void)at_add(&memory->refs, 1);
    return memory;
}

void guest_memory_unref(struct guest_memory *memory)
{
    if (memory != NULL && at_sub(&memory->refs, 1) == 1) {
        pool_run(free_table, memory); /* (G4) */
    }
}

/* A copy of @memory without region @left_out (count: none), with room for one more. */
static struct guest_memory *copy_table(const struct guest_memory *memory, size_t left_out)
{
    struct guest_memory *copy = table_new(memory->family, memory->count + 1);

    for (size_t i = 0; i < memory->count; i++) {
        if (i != left_out) {
            copy->regions[copy->count] = memory->regions[i];
            (void)mapping_ref(memory->regions[i].mapping);
            copy->count++;
        }
    }
    return copy;
}

int guest_memory_with(struct guest_memory *memory, const struct guest_region_def *def,
                      struct guest_memory **ret_memory, struct err **reterr)
{
    struct guest_memory *copy;
    int rc;

    if (memory->count == GUEST_REGIONS_MAX) {
        close_fds(def, 1);
        return too_many(memory->count + 1, reterr);
    }
    copy = copy_table(memory, memory->count);
    rc = insert_region(copy, def, reterr);
    close_fds(def, 1);
    if (rc < 0) {
        (void)free_table(copy);
        return rc;
    }
    *ret_memory = copy;
    return 0;
}

int guest_memory_without(struct guest_memory *memory, const struct guest_region_def *def,
                         struct guest_memory **ret_memory, struct err **reterr)
{
    size_t place = find_place(memory, def->guest_address);
    const struct region *region = &memory->regions[place];

    if (place == memory->count || region->guest_address != def->guest_address ||
        region->bytes != def->bytes || region->user_address != def->user_address) {
        return err_set(reterr, ENOENT, "memory region at guest address 0x%" PRIx64 " of 0x%" PRIx64
                       " bytes (user address 0x%" PRIx64 "): there is none like it",
                       def->guest_address, def->bytes, def->user_address);
    }
    *ret_memory = copy_table(memory, place);
    return 0;
}

size_t guest_memory_region_count(const struct guest_memory *memory)
{
    return memory->count;
}

/* ---- lookup -------------------------------------------------------------------------------- */

static bool region_has(const struct region *region, uint64_t guest_address)
{
    return guest_address - region->guest_address < region->bytes; /* below it: wraps to huge */
}

static const struct region *find_region(const struct guest_memory *memory, uint64_t guest_address,
                                        unsigned *hint)
{
    size_t place;

    if (likely(*hint < memory->count) && likely(region_has(&memory->regions[*hint],
                                                           guest_address))) {
        return &memory->regions[*hint];
    }
    place = find_place(memory, guest_address);
    if (place == memory->count || memory->regions[place].guest_address != guest_address) {
        if (place == 0) {
            return NULL;
        }
        place--; /* the region that begins below */
    }
    if (!region_has(&memory->regions[place], guest_address)) {
        return NULL;
    }
    *hint = (unsigned)place;
    return &memory->regions[place];
}

void *guest_memory_at_hint(const struct guest_memory *memory, uint64_t guest_address,
                           uint64_t bytes, unsigned *hint)
{
    const struct region *region = find_region(memory, guest_address, hint);
    uint64_t offset;

    if (unlikely(region == NULL)) {
        return NULL;
    }
    offset = guest_address - region->guest_address;
    return range_is_inside(offset, bytes, region->bytes) ? region->host + offset : NULL;
}

void *guest_memory_at(const struct guest_memory *memory, uint64_t guest_address, uint64_t bytes)
{
    unsigned hint = 0;

    return guest_memory_at_hint(memory, guest_address, bytes, &hint);
}

/* Control path, and regions may overlap here: the first that holds it whole. */
void *guest_memory_at_user(const struct guest_memory *memory, uint64_t user_address, uint64_t bytes)
{
    for (size_t i = 0; i < memory->count; i++) {
        const struct region *region = &memory->regions[i];
        uint64_t offset = user_address - region->user_address;

        if (user_address >= region->user_address &&
            range_is_inside(offset, bytes, region->bytes)) {
            return region->host + offset;
        }
    }
    return NULL;
}

int guest_memory_pieces_hint(const struct guest_memory *memory, uint64_t guest_address,
                             uint64_t bytes, struct iovec *to, int max, unsigned *hint)
{
    int count = 0;

    while (bytes > 0) {
        const struct region *region = find_region(memory, guest_address, hint);
        uint64_t offset, here;

        if (unlikely(region == NULL)) {
            return -EFAULT;
        }
        if (unlikely(count == max)) {
            return -E2BIG;
        }
        offset = guest_address - region->guest_address;
        here = min_of(bytes, region->bytes - offset);
        to[count++] = (struct iovec){region->host + offset, here};
        bytes -= here;
        guest_address += here; /* never wraps: (G2) no region reaches 2^64 */
    }
    return count;
}

int guest_memory_pieces(const struct guest_memory *memory, uint64_t guest_address, uint64_t bytes,
                        struct iovec *to, int max)
{
    unsigned hint = 0;

    return guest_memory_pieces_hint(memory, guest_address, bytes, to, max, &hint);
}

bool guest_memory_is_broken(const struct guest_memory *memory)
{
    return at_load_relaxed(&memory->family->broken) != 0; /* a flag; pairs with the handler */
}
