/* marks.c -- another unit: labels and calls are followed over the border. */
#include "base/marks.h"

void any_fn(void)
{
}
void home_fn(void)
{
}
void main_fn(void)
{
}
void co_fn(void)
{
}
void blocking_fn(void)
{
}
void co_none_fn(void)
{
}
void assert_main(void)
{
}
void call_now(callback *fn, void *opaque)
{
    fn(opaque);
}
TSA_TRUST
void register_home(struct registry *registry, callback *fn, void *opaque)
{
    registry->fn = fn;
    registry->opaque = opaque;
}
TSA_TRUST
void helper_of_others(void)
{
    blocking_fn();
}
