#include "executor/shares.h"

#include <algorithm>

#include "executor/thread_pool.h"

namespace activsparse {

double longest_share(const Operator& op, int threads) {
  double longest = 0, sum = 0;
  for (int phase = 0; phase < op.phases(); ++phase) {
    const int tasks = op.tasks(phase);
    if (tasks == 0) continue;
    double most = 0;
    for (int t = 0; t < threads; ++t) {
      const double cost = op.cost(phase, TaskQueue::first(t, tasks, threads),
                                  TaskQueue::first(t + 1, tasks, threads));
      sum += cost;
      most = std::max(most, cost);
    }
    longest += most;
  }
  return sum > 0 ? longest * threads / sum : 1;
}

}  // namespace activsparse
