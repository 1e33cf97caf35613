/*
 * memory.c -- mappings, coroutine stacks, and guards around memory that its owner may take away.
 *
 * The SIGBUS handler finds the guard of the faulting address without a lock, while other threads
 * add and remove guards. (This layer lies below sync/, hence plain _Atomic members.)
 * (G1) A slot's version is even while its fields are valid and odd while they change; a reader that
 *      sees the same even version before and after has read one guard.
 * (G2) A guard is removed before its memory is unmapped and no thread touches the memory after
 *      that, so the guard of a faulting access is never the one that changes: a reader may skip a
 *      slot that is.
 */
#include "os/memory.h"
#include "base/mem.h"
#include "os/thread.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int os_map_shared(int fd, uint64_t offset, size_t bytes, void **ret_address)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                         (off_t)offset);

    if (address == MAP_FAILED) {
        return -errno;
    }
    *ret_address = address;
    return 0;
}

void os_unmap(void *address, size_t bytes)
{
    if (munmap(address, bytes) < 0) {
        panic("munmap: %s", strerror(errno));
    }
}

size_t os_page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void *os_map_stack(size_t bytes)
{
    size_t guard_bytes = os_page_bytes();
    char *address = mmap(NULL, bytes + guard_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

    if (address == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(address, guard_bytes, PROT_NONE) < 0) {
        munmap(address, bytes + guard_bytes);
        return NULL;
    }
    return address + guard_bytes;
}

void os_unmap_stack(void *lowest_usable, size_t bytes)
{
    size_t guard_bytes = os_page_bytes();

    os_unmap((char *)lowest_usable - guard_bytes, bytes + guard_bytes);
}

/* ---- guards ---- */

struct slot {
    _Atomic uint32_t version;
    _Atomic uintptr_t address; /* 0: free */
    _Atomic size_t bytes;
    _Atomic(uint32_t *) broken;
};
static struct slot slots[OS_GUARDS_MAX];
static _Atomic int slots_used_max; /* slots from here on were never used */
static struct os_mutex slots_lock = OS_MUTEX_INIT; /* adding and removing */
static bool handler_is_installed;
static struct sigaction action_before;

/* The slot's guard, unless it is free or changes right now. Async-signal-safe. */
static bool read_slot(struct slot *slot, struct os_guard *ret_guard)
{
    uint32_t version = slot->version;
    uintptr_t address = slot->address;

    ret_guard->address = (void *)address;
    ret_guard->bytes = slot->bytes;
    ret_guard->broken = slot->broken;
    return address != 0 && version % 2 == 0 && slot->version == version;
}

static bool find_guard(uintptr_t at, struct os_guard *ret_guard)
{
    int count = slots_used_max;

    for (int i = 0; i < count; i++) {
        if (read_slot(&slots[i], ret_guard) &&
            at - (uintptr_t)ret_guard->address < ret_guard->bytes) {
            return true;
        }
    }
    return false;
}

static bool map_zeroes(void *address, size_t bytes)
{
    return mmap(address, bytes, PROT_READ | PROT_WRITE,
                MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

static bool repair(uintptr_t at)
{
    size_t page_bytes = os_page_bytes();
    struct os_guard guard;

    if (!find_guard(at, &guard)) {
        return false;
    }
    /* The page alone, or everything: huge pages cannot be split, and mappings may run out. */
    if (!map_zeroes((void *)(at & ~(page_bytes - 1)), page_bytes) &&
        !map_zeroes(guard.address, guard.bytes)) {
        return false;
    }
    *(volatile _Atomic uint32_t *)guard.broken = 1;
    return true;
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    int errno_before = errno;

    if (info->si_code <= 0 || !repair((uintptr_t)info->si_addr)) {
        sigaction(SIGBUS, &action_before, NULL); /* not ours: let it happen again as usual */
        if (info->si_code <= 0) {
            raise(SIGBUS); /* somebody sent it, the access will not repeat it */
        }
    }
    errno = errno_before;
}

static void install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &action_before) < 0) {
        panic("sigaction(SIGBUS): %s", strerror(errno));
    }
    handler_is_installed = true;
}

static void write_slot(struct slot *slot, const struct os_guard *guard)
{
    slot->version++;
    slot->bytes = guard->bytes;
    slot->broken = guard->broken;
    slot->address = (uintptr_t)guard->address;
    slot->version++;
}

static int find_free_slot(void)
{
    for (int i = 0; i < OS_GUARDS_MAX; i++) {
        if (slots[i].address == 0) {
            return i;
        }
    }
    return -ENOSPC;
}

int os_guard_add(const struct os_guard *guard)
{
    int i;

    os_mutex_lock(&slots_lock);
    if (!handler_is_installed) {
        install_handler();
    }
    i = find_free_slot();
    if (i >= 0) {
        write_slot(&slots[i], guard);
        slots_used_max = max_of(slots_used_max, i + 1);
    }
    os_mutex_unlock(&slots_lock);
    return i;
}

void os_guard_remove(int slot)
{
    os_mutex_lock(&slots_lock);
    write_slot(&slots[slot], &(struct os_guard){0});
    os_mutex_unlock(&slots_lock);
}
