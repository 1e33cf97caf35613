#include "base/ctx.h"

struct ctx_role ctx_main;
struct ctx_role ctx_home;
struct ctx_role ctx_co;
struct graph_cap graph;
