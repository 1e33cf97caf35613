/* sigbus.h -- cmocka takes SIGBUS for itself in each test; these give it back to the guards. */
#pragma once
#include <assert.h>
#include <signal.h>
#include "base/ctx.h"
#include "os/memory.h"

CTX_ANY_BEGIN

static struct sigaction sigbus_of_guards;

/* In main(), before cmocka runs. */
static inline void sigbus_remember(void)
{
    uint32_t broken;
    struct os_guard guard = {&broken, sizeof(broken), &broken};

    os_guard_remove(os_guard_add(&guard)); /* installs the handler */
    sigaction(SIGBUS, NULL, &sigbus_of_guards);
}

/* In a test. */
static inline void sigbus_to_guards(void)
{
    sigaction(SIGBUS, &sigbus_of_guards, NULL);
}

CTX_ANY_END
