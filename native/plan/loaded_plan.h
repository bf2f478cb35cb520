// A plan whose operators have been created: what any number of executors share.
#pragma once
#include "plan/plan_file.h"

namespace activsparse {

class LoadedPlan {
 public:
  // Throws Error unless everything fits together.
  explicit LoadedPlan(std::shared_ptr<const PlanFile> file);

  const PlanContent& content() const { return file_->content(); }
  // Must not outlive this object.
  std::unique_ptr<Executor> executor(std::shared_ptr<ThreadPool> pool) const;

 private:
  std::shared_ptr<const PlanFile> file_;
  std::vector<std::unique_ptr<Operator>> operators_;
};

}  // namespace activsparse
