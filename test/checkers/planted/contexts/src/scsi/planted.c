/* planted.c -- paths and stores that clang's own analysis does not see: TSA_TRUST silences it here. */
#include "base/marks.h"

struct inner {
    CO_SLOT void (*co_go)(void);
    ANY_SLOT void (*any_go)(void);
    void (*bare)(void);
};
struct outer {
    int number;
    struct inner in[2];
};

TSA_TRUST
static void helper(void)
{
    main_fn();
}

TSA_TRUST
static void helper_asserts(void)
{
    assert_main();
    main_fn();
}

CO_FN
void co_through_helper(void)
{
    helper(); // expect: path: co: co_through_helper -> helper -> main_fn [main]
}

CO_FN
void co_through_other_unit(void)
{
    helper_of_others(); // expect: path: co_through_other_unit -> helper_of_others -> blocking_fn
}

CO_FN
void co_through_assert(void)
{
    helper_asserts();
}

MAIN_LOOP
void main_may_call_home(void)
{
    home_fn();
    any_fn();
    helper();
}

TSA_TRUST
ANY_THREAD
void any_calls_home(void)
{
    home_fn(); // expect: path: any: any_calls_home -> home_fn [home]
}

HOME_LOOP
static void home_callback(void *opaque)
{
}

CO_FN
static void co_callback(void *opaque)
{
}

static void bare_callback(void *opaque)
{
}

ANY_THREAD
void registers(struct registry *registry)
{
    register_home(registry, home_callback, registry);
    register_home(registry, co_callback, registry); // expect: slot: co_callback() is co; it sits in registry.fn
    register_home(registry, bare_callback, registry); // expect: slot: bare_callback() has no label
}

TSA_TRUST
ANY_THREAD
void any_calls_back(void)
{
    call_now(bare_callback, (void *)0);
    call_now(home_callback, (void *)0); // expect: path: any: any_calls_back -> home_callback [home]
}

CO_FN
static void co_one(void)
{
}

ANY_THREAD
static void any_one(void)
{
}

MAIN_LOOP CO_FN
static void co_main_one(void)
{
}

BLOCKING
static void blocking_one(void) // expect: slot: blocking_one() is blocking; it sits in inner.co_go (bad_table)
{
}

static const struct outer table = {
    .number = 1,
    .in = {{.co_go = co_one, .any_go = any_one}, {.co_go = co_main_one, .any_go = any_one}},
};
static const struct outer bad_table = {
    .in = {{.co_go = blocking_one}, {.any_go = any_one, .bare = any_one}},
};

TSA_TRUST
ANY_THREAD
void through_table(const struct outer *outer)
{
    outer->in[1].any_go();
    outer->in[0].co_go(); // expect: path: any: through_table -> inner.co_go [co]
    outer->in[0].bare();  // expect: pointer: through_table() calls an unknown pointer
}

TSA_TRUST
HOME_LOOP
void through_variable(int number)
{
    void (*go)(void) = number ? table.in[number].co_go : any_one;
    go(); // expect: path: home: through_variable -> inner.co_go [co]
}

static void *foreign;

ANY_THREAD
void through_cast(void)
{
    void (*go)(void) = (void (*)(void))(__UINTPTR_TYPE__)foreign + 8;
    go(); // expect: pointer: through_cast()
}

TSA_TRUST
CO_FN
static void helper_in_co(void)
{
    co_none_fn();
}

CO_FN GRAPH_RD
void with_token(void)
{
    helper_in_co(); // expect: graph: rd: with_token -> helper_in_co -> co_none_fn [none]
}

const void *const keep[] = {&table, &bad_table};
