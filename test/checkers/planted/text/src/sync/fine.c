/* fine.c -- sync/ may spell atomics. */
#include "sync/fine.h"

static int fine(int *place)
{
    return __atomic_load_n(place, 5);
}
