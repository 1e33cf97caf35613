/* co.h -- the bounds that the planted stack breaks. */
#pragma once
enum { CO_STACK_BYTES = 64 << 10, GRAPH_DEPTH_MAX = 10 };
