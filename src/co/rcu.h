/* rcu.h -- waiting for RCU in a coroutine. */
#pragma once
#include "base/ctx.h"

/* Until every rcu_call() that came before this one, from any thread, has been made, callback
 * included. Home: any loop. */
CO_FN
void co_rcu_barrier(void);
