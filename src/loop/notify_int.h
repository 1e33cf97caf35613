/*
 * notify_int.h -- when a scheduler writes a loop's eventfd.
 *
 * (N1) A thread that prepares to wait or waits has counted itself in `notify`. A scheduler that
 *      finds it 0 need not write: whoever prepares next looks at every list after raising it.
 * (N2) Scheduler: publish, fence, load notify. Sleeper: raise notify, fence, load lists. One of the
 *      two sees the other (store buffering): no sleep with work published, no publication unseen.
 * (N3) `notified` says that an event is written or about to be, and not yet consumed: at most one
 *      write a batch. It is cleared after the event is consumed and before the lists are taken: who
 *      found it set had published before the clearing, so the taking sees that.
 * (N4) A scheduler that found `notified` clear writes, however late: a stray write is one idle
 *      turn.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

struct notifier {
    int fd;            /* eventfd; stays with the struct for ever */
    uint32_t notify;   /* atomic; written by the home only: levels that prepare or wait */
    uint32_t notified; /* atomic */
};

/* After publishing. True: a system call was made. */
ANY_THREAD
bool notifier_kick(struct notifier *notifier);

/* About to prepare for waiting; look at every list after this. Levels nest. */
HOME_LOOP
void notifier_prepare(struct notifier *notifier);
HOME_LOOP
void notifier_leave(struct notifier *notifier);

/* The eventfd has been read; take the lists after this. */
HOME_LOOP
void notifier_consumed(struct notifier *notifier);
