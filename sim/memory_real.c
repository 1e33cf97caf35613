/* memory_real.c -- the real os/memory.c, but for one function: see memory.c. */
#define os_map_shared os_map_shared_real
#include "../src/os/memory.c"
