#include "sync/asym.h"
#include "os/thread.h"

bool asym_is_cheap;
#ifdef CAISSON_TSAN
char at_fence_place;
#endif

void asym_init(void)
{
    asym_is_cheap = os_membarrier_register() == 0;
}

void asym_heavy(void)
{
#if defined(EXPLORE)
    explore_heavy_fence();
#else
    /* ours; and all there is where membarrier is refused (the light side has one then) */
    at_fence();
    if (likely(asym_is_cheap)) {
        os_membarrier();
    }
#endif
}
