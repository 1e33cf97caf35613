/* notify.c -- waking a loop that sleeps; the invariants (N1) to (N4) are in notify_int.h. */
#include "loop/notify_int.h"
#include "os/file.h"
#include "sync/atomic.h"

bool notifier_kick(struct notifier *notifier)
{
    at_fence(); /* (N2) */
    if (at_load(&notifier->notify) == 0) {
        return false;
    }
    if (at_xchg(&notifier->notified, 1) != 0) { /* (N3) */
        return false;
    }
    if (!os_eventfd_signal(notifier->fd)) { /* (N4) */
        panic("a loop's eventfd %d is not to be written", notifier->fd);
    }
    return true;
}

void notifier_prepare(struct notifier *notifier)
{
    at_store(&notifier->notify, at_load_relaxed(&notifier->notify) + 1);
    at_fence(); /* (N2) */
}

void notifier_leave(struct notifier *notifier)
{
    /* Late is harmless: a scheduler that still sees it writes in vain. Pairs with
     * notifier_kick(). */
    at_store_release(&notifier->notify, at_load_relaxed(&notifier->notify) - 1);
}

void notifier_consumed(struct notifier *notifier)
{
    at_xchg(&notifier->notified, 0); /* (N3): a full fence before the lists are taken */
}
