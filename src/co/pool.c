/*
 * pool.c -- stacks, kept per thread and bounded.
 *
 * (P1) A pool belongs to one thread and is touched by it alone. A stack that ends on another thread
 *      than the one it was taken on goes to that thread's pool.
 * (P2) At most CO_POOL_STACKS_MAX stay; each is two mappings (stack and guard), and a process may
 *      have some 65,000, so the thousands of a burst are returned to the kernel (RACES 19).
 */
#include "co/co_int.h"
#include "base/mem.h"
#include "os/memory.h"
#include "os/thread.h"
#include <string.h>

struct co_pool {
    struct co *free;
    unsigned count;
};

enum { MAPPED_BYTES = CO_STACK_BYTES * CO_STACK_FACTOR };

static_assert(sizeof(struct co) <= CO_STACK_BYTES / 16, "the stack is for the coroutine");

static struct co_pool *pool_of_thread(void)
{
    struct co_pool *pool = co_tls_get(OS_TLS_CO_POOL);

    if (unlikely(pool == NULL)) {
        pool = mem_new(struct co_pool);
        os_tls_set(OS_TLS_CO_POOL, pool);
    }
    return pool;
}

static struct co *stack_map(void)
{
    char *stack = os_map_stack(MAPPED_BYTES);
    struct co *co;

    if (stack == NULL) {
        panic("no memory for another coroutine's stack");
    }
    co = (struct co *)(void *)(stack + ((MAPPED_BYTES - sizeof(*co)) & ~(size_t)63));
    memset(co, 0, sizeof(*co));
    co->stack = stack;
    co_note_mapped(&co->note, stack, (size_t)((char *)co - stack));
    return co;
}

static void stack_unmap(struct co *co)
{
    co_note_unmapping(&co->note);
    os_unmap_stack(co->stack, MAPPED_BYTES);
}

struct co *co_stack_take(void)
{
    struct co_pool *pool = pool_of_thread();
    struct co *co = pool->free;

    if (unlikely(co == NULL)) {
        return stack_map();
    }
    pool->free = co->link;
    pool->count--;
    return co;
}

void co_stack_give_back(struct co *co)
{
    struct co_pool *pool = pool_of_thread();

    if (unlikely(pool->count == CO_POOL_STACKS_MAX)) {
        struct co *other = pool->free; /* @co's is still in use */

        pool->free = other->link;
        pool->count--;
        stack_unmap(other);
    }
    co->link = pool->free;
    pool->free = co;
    pool->count++;
}

void co_pool_release(void)
{
    struct co_pool *pool = os_tls_get(OS_TLS_CO_POOL);

    if (pool == NULL) {
        return;
    }
    while (pool->free != NULL) {
        struct co *co = pool->free;

        pool->free = co->link;
        stack_unmap(co);
    }
    os_tls_set(OS_TLS_CO_POOL, NULL);
    mem_free(pool);
}
