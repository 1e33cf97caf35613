/*
 * memory.h -- mappings, and memory that belongs to somebody who may take it away.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

BLOCKING
int os_map_shared(int fd, uint64_t offset, size_t bytes, void **ret_address); /* read and write */
BLOCKING
void os_unmap(void *address, size_t bytes);
ANY_THREAD
void *os_map_stack(size_t bytes); /* with a guard page below; NULL: not to be had */
ANY_THREAD
void os_unmap_stack(void *lowest_usable, size_t bytes);
ANY_THREAD
size_t os_page_bytes(void);

/*
 * Mappings of foreign memory (a guest's): when its owner truncates it, an access raises SIGBUS. The
 * handler maps a zero page in its place, sets @broken of the guard and returns; the daemon goes on.
 * A SIGBUS elsewhere kills as usual. The table is fixed and read without locks by the handler.
 */
struct os_guard {
    void *address;
    size_t bytes;
    uint32_t *broken; /* set to 1, atomically, by the handler */
};
enum { OS_GUARDS_MAX = 4096 };
ANY_THREAD
int os_guard_add(const struct os_guard *guard); /* slot number, or -ENOSPC; installs the handler */
ANY_THREAD
void os_guard_remove(int slot); /* before the unmap */
