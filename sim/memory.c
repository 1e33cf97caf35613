/*
 * memory.c -- mappings of simulated files. Everything else of os/memory.h is the real source,
 * compiled with its os_map_shared() renamed.
 */
#include "os/memory.h"
#include "sim/sim_int.h"
#include <errno.h>

ANY_THREAD
int os_map_shared_real(int fd, uint64_t offset, size_t bytes, void **ret_address);

int os_map_shared(int fd, uint64_t offset, size_t bytes, void **ret_address)
{
    int real_fd = sim_file_real(fd), fault;

    sim_sleep(sim_latency());
    fault = sim_fault("mmap", ENOMEM);
    if (fault < 0) {
        return fault;
    }
    return real_fd < 0 ? real_fd : os_map_shared_real(real_fd, offset, bytes, ret_address);
}
