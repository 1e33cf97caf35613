/* fine.c -- os/ may make system calls; LAYERS forbids it sync/. */
#include <unistd.h>
#include "sync/fine.h" // expect: layer: os/ may not include sync/fine.h

static int fine(int fd)
{
    return close(fd);
}
