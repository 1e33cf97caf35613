/* planted.c -- each line that says so must be reported, and no other. */
#include "scsi/planted.h"
#include "scsi/private_int.h"
#include "scsi/naked.h"
#include <liburing.h>   // expect: library: liburing
#include <urcu.h>       // expect: library: liburcu
#include <sys/socket.h> // expect: os: <sys/socket.h>

/* open(), malloc() and strcpy() in a comment are nobody's business; nor is close(3) in a string. */
static const char *const text = "close(3) and __atomic_load_n";

static int calls(int fd, struct thing_ops *ops)
{
    ops->read(fd);
    ops->nested.open();
    re_open(fd);
    return close(fd); // expect: os: close
}

static void memory(char *to, const char *from)
{
    strcpy(to, from);                       // expect: banned: strcpy
    char *again = strdup(from);             // expect: memory: strdup
    free(again);                            // expect: memory: free
    __atomic_store_n(to, 0, 5);             // expect: atomic: __atomic_store_n
    for (int i = 0; i < sizeof(text); i++)  // expect: count
    {
    }
}

static void believe(void) ASSERTS(ctx_main); // expect: asserts: ASSERTS

TSA_TRUST // expect: tsa-trust
static void trusted(void)
{
    /* TO-DO is fine, TODO is not. */ // expect: unfinished
}

static void a_line_that_goes_on_and_on(int with_arguments, int and_more_arguments, int beyond_the_end); // expect: line
static int tabbed;	// expect: line: tab
static int blanks; // expect: line: blanks 
static struct event_base *base; // expect: glossary: event_base
