/*
 * mutex.c -- mutexes with a class.
 *
 * Which classes a thread holds is a bit set in its OS_TLS_MUTEXES slot: taking one while holding an
 * equal or larger one aborts, whether or not another thread happens to make it a deadlock today.
 */
#include "sync/mutex.h"
#include "base/macros.h"

static_assert(MUTEX_CLASS_MAX_ <= 32, "a bit each");

static uintptr_t held_classes(void)
{
    return (uintptr_t)os_tls_get(OS_TLS_MUTEXES);
}

TSA_TRUST
void mutex_lock(struct mutex *mutex)
{
    uintptr_t bit = (uintptr_t)1 << mutex->class, held = held_classes();

    if (unlikely(held >= bit)) {
        panic("mutex order: class %d taken while holding set %#lx", (int)mutex->class,
              (unsigned long)held);
    }
    os_mutex_lock(&mutex->os);
    os_tls_set(OS_TLS_MUTEXES, (void *)(held | bit));
}

TSA_TRUST
void mutex_unlock(struct mutex *mutex)
{
    uintptr_t bit = (uintptr_t)1 << mutex->class, held = held_classes();

    if (unlikely((held & bit) == 0)) {
        panic("mutex of class %d unlocked by a thread that does not hold it", (int)mutex->class);
    }
    os_tls_set(OS_TLS_MUTEXES, (void *)(held & ~bit));
    os_mutex_unlock(&mutex->os);
}
