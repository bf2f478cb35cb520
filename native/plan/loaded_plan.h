// A plan whose operators have been created: what any number of executors share.
#pragma once
#include "plan/plan_file.h"

namespace activsparse {

class LoadedPlan {
 public:
  // Throws Error unless everything fits together.
  explicit LoadedPlan(std::shared_ptr<const PlanFile> file);

  const PlanContent& content() const { return file_->content(); }
  // Must not outlive this object. `force.parts` is the plan's.
  std::unique_ptr<Executor> executor(Workforce force) const;

 private:
  std::shared_ptr<const PlanFile> file_;
  std::vector<std::unique_ptr<Operator>> operators_;
};

}  // namespace activsparse
